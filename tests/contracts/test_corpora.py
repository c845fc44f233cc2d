"""The Corpus contract: over every YAML of conf/corpus, on small data written where it points."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from hydra.utils import instantiate

from imagegram import schema
from imagegram.corpora.folder import FolderCorpus
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.corpora.wikipedia import EXPORTED, WikipediaCorpus
from imagegram.errors import CorpusError
from imagegram.protocols import Corpus
from imagegram.store.snapshot import difference
from tests.conftest import compose
from tests.parquets import write, write_images
from tests.pictures import encode, noise, write_samples

#: Corpora that write their own files.
MADE = ("demo", "grammar")
NAMES = sorted(path.stem for path in schema.CONF.glob("corpus/*.yaml"))


def build(name: str, root: Path, *overrides: str) -> Corpus:
    words = [f"corpus={name}", f"paths.data={root}/data", f"paths.outputs={root}/outputs"]
    built: Corpus = instantiate(compose(*words, *overrides).corpus, _convert_="all")
    return built


def small_demo_text(name: str, root: Path) -> Corpus:
    return build(name, root, "corpus.packages=[skimage]", "corpus.documents_per_shard=40")


def small_text_folder(name: str, root: Path) -> Corpus:
    (root / "notes").mkdir()
    for n in range(3):
        (root / "notes" / f"{n}.md").write_text(f"note {n}")
    return build(name, root, f"corpus.path={root}/notes", "corpus.documents_per_shard=2")


def small_huggingface_text(name: str, root: Path) -> Corpus:
    for n in range(2):
        texts = {"text": [f"text {n} of file {m}" for m in range(3)]}
        write(root / "texts" / f"train-{n}-of-2.parquet", texts)
    return build(name, root, f"corpus.dataset={root}/texts")


def small_jsonl(name: str, root: Path) -> Corpus:
    for n in range(2):
        write_lines(root / "lines" / f"{n}.jsonl", [f"text {n} of file {m}" for m in range(3)])
    return build(name, root, f"corpus.files={root}/lines")


def small_books(name: str, root: Path) -> Corpus:
    """One of two presets over files that their users bring."""
    train = "children/train.jsonl" if name == "books_children" else "library/train/00000.jsonl"
    held = f"{train.partition('/')[0]}/holdout.jsonl"
    for number, file in enumerate((train, held)):
        write_lines(root / "data" / "books" / file, [f"chapter {number}", f"another {number}"])
    return build(name, root)


def write_lines(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def small_grammar(name: str, root: Path) -> Corpus:
    return build(name, root, "corpus.num_documents=7", "corpus.documents_per_shard=4")


def small_wikipedia(name: str, root: Path) -> Corpus:
    """An export as ``tools.download`` leaves it."""
    built = build(name, root)
    assert isinstance(built, WikipediaCorpus)
    write_lines(built.folder / "00000.jsonl", ["article 0", "article 1"])
    (built.folder / EXPORTED).write_text("{}")
    return build(name, root)


TEXTS = {
    "books_children": small_books,
    "books_library": small_books,
    "jsonl": small_jsonl,
    "demo_text": small_demo_text,
    "demo_text_tiny": small_demo_text,
    "grammar": small_grammar,
    "huggingface_text": small_huggingface_text,
    "text_folder": small_text_folder,
    "wikipedia": small_wikipedia,
}


def small(name: str, root: Path) -> Corpus:
    """The corpus over a few images or texts, written where its YAML looks for them."""
    if name in TEXTS:
        return TEXTS[name](name, root)
    if name.startswith("demo"):
        sizes = ("corpus.num_shards=2", "corpus.images_per_shard=5", "corpus.num_holdout=3")
        return build(name, root, *sizes)
    if name == "folder":
        (root / "photos").mkdir()
        for seed in range(3):
            (root / "photos" / f"{seed}.png").write_bytes(encode(noise(seed)))
        return build(name, root, f"corpus.path={root}/photos", "corpus.images_per_shard=2")
    if name == "huggingface":
        for n in range(2):
            write_images(root / "photos" / f"train-{n}-of-2.parquet", [3 * n, 3 * n + 1])
        return build(name, root, f"corpus.dataset={root}/photos")
    if name == "webdataset":
        write_samples(root / "data" / "a.tar", range(3))
        return build(name, root, f"corpus.tars={root}/data")
    corpus = build(name, root)
    assert isinstance(corpus, WebDatasetCorpus)
    for path in corpus.wanted():
        write_samples(path, [int(path.stem)])
    if corpus.holdout_tars is not None:
        write_samples(Path(str(corpus.holdout_tars)) / "00000.tar", [10_000])
    return corpus


@pytest.fixture(params=NAMES)
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    return small(request.param, tmp_path)


def test_shards_have_names_content_and_records(corpus: Corpus) -> None:
    shards = (*corpus.shards, *corpus.holdout_shards)
    assert len({shard.name for shard in corpus.shards}) == len(corpus.shards) > 0
    for shard in shards[:3]:
        records = list(shard)
        assert len(records) == len(shard) > 0
        assert len({record.key for record in records}) == len(records)
        for record in records:
            assert record.failure is None
            with corpus.modality.reading():
                assert corpus.modality.facts(corpus.modality.read(record.data))
            assert shard.read(record.locator) == record.data
        assert len(shard.identity()) == 64
        assert pickle.loads(pickle.dumps(shard)).identity() == shard.identity()
    assert len({shard.identity() for shard in shards}) == len(shards)


def test_what_was_found_is_said_and_compared(corpus: Corpus) -> None:
    snapshot = corpus.snapshot
    assert snapshot.line.startswith(f"{snapshot.where}: ")
    assert snapshot.files
    assert json.dumps(snapshot.counts)
    assert difference(corpus) is None
    assert corpus.snapshot == snapshot


def test_the_policy_is_in_range(corpus: Corpus) -> None:
    assert 0 <= corpus.holdout_fraction <= 1
    assert corpus.max_holdout >= 0
    assert 0 <= corpus.max_failed_fraction <= 1
    assert 0 < corpus.near_duplicate_limit < 255


@pytest.mark.parametrize(
    "name", [name for name in NAMES if not name.startswith(("demo", "grammar"))]
)
def test_a_missing_corpus_says_what_to_type(name: str, tmp_path: Path) -> None:
    remedy = {
        "folder": "corpus.path=FOLDER",
        "text": "corpus.path=FOLDER",
        "webdataset": "corpus.tars=FOLDER",
        "jsonl": "corpus.files=FOLDER",
        "books": "paths.data=FOLDER holding books/",
        "huggingface": "corpus.dataset=NAME",
        "cc12m": f"python -m imagegram.tools.download corpus={name}",
        "tiny": "paths.data=FOLDER",
        "wikipedia": "python -m imagegram.tools.download corpus=wikipedia",
    }
    with pytest.raises(CorpusError) as error:
        _ = build(name, tmp_path).shards
    assert remedy[name.split("_")[0]] in str(error.value)


def test_sizes_of_one_corpus_are_nested(tmp_path: Path) -> None:
    families = [("cc12m", (1, 10, 100)), ("tiny_imagenet", (1, 5, 20))]
    for family, sizes in families:
        wanted = []
        for size in sizes:
            corpus = build(f"{family}_{size}", tmp_path)
            assert isinstance(corpus, WebDatasetCorpus)
            wanted.append(corpus.wanted())
        assert [len(paths) for paths in wanted] == list(sizes)
        assert wanted[0] == wanted[2][: sizes[0]]
        assert wanted[1] == wanted[2][: sizes[1]]


def test_an_empty_list_on_the_command_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="0 tars found"):
        _ = build("webdataset", tmp_path, "corpus.tars=[]").shards


def test_a_pattern_and_a_list_on_the_command_line(tmp_path: Path) -> None:
    pattern = build("webdataset", tmp_path, 'corpus.tars="x/{00..02}.tar"')
    listed = build("webdataset", tmp_path, "corpus.tars=[x/00.tar,x/01.tar,x/02.tar]")
    assert isinstance(pattern, WebDatasetCorpus)
    assert isinstance(listed, WebDatasetCorpus)
    assert pattern.wanted() == listed.wanted() == tuple(Path(f"x/0{n}.tar") for n in range(3))


def test_a_folder_of_tars_is_pointed_to_the_right_corpus(tmp_path: Path) -> None:
    write_samples(tmp_path / "tars" / "0.tar", [0])
    with pytest.raises(CorpusError, match="corpus=webdataset"):
        _ = FolderCorpus(path=str(tmp_path / "tars")).shards
