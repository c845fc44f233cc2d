"""Token shards: the stream byte by byte, all records accounted for, originals in O(1)."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imagegram.corpora.folder import FolderCorpus
from imagegram.corpora.tar import TarShard
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ArtifactError, CorpusError, StageError, TokenError
from imagegram.executors.process import ProcessExecutor
from imagegram.executors.serial import SerialExecutor
from imagegram.images.decode import thumbnail
from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Corpus, Modality, Tokenizer
from imagegram.records import Encoded, Images, Tokens
from imagegram.stages.token_files import TokenWriter
from imagegram.stages.tokenize import Tokenize, TokenizeShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.artifacts import fingerprint
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.pictures import (
    Member,
    context,
    encode,
    ids_of,
    noise,
    png_header,
    sample,
    write_samples,
    write_tar,
)

TOY = PyramidTokenizer(name="toy", sizes=(1, 2))


def stage_of(corpus: Corpus, tokenizer: Tokenizer = TOY) -> Tokenize:
    return Tokenize(
        shards=corpus.shards, tokenizer=tokenizer, max_failed_fraction=corpus.max_failed_fraction
    )


def tokenize(root: Path, corpus: Corpus, tokenizer: Tokenizer = TOY) -> TokenSet:
    return context(root).make(stage_of(corpus, tokenizer))


@pytest.fixture
def corpus(tmp_path: Path) -> WebDatasetCorpus:
    write_samples(tmp_path / "tars" / "0.tar", [1, 2, 3])
    write_samples(tmp_path / "tars" / "1.tar", [4, 5])
    return WebDatasetCorpus(tars=str(tmp_path / "tars"))


def test_the_four_files_byte_by_byte(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    tokens = tokenize(tmp_path, corpus)
    folder = tokens.shards[0].artifact.path
    stream, offsets, lines, starts = b"", b"", b"", b""
    for number, seed in enumerate([1, 2, 3]):
        offsets += len(stream).to_bytes(8, "little")
        document = ids_of(TOY, noise(seed))
        stream += b"\xff\xff" + b"".join(int(t).to_bytes(2, "little") for t in document)
        starts += len(lines).to_bytes(8, "little")
        metadata = tokens.metadata(number)
        lines += json.dumps(metadata).encode() + b"\n"
        assert metadata == {
            "key": f"{number:04d}",
            "shard": "0",
            "sha256": hashlib.sha256(encode(noise(seed))).hexdigest(),
            "width": 20,
            "height": 20,
            "caption": "a caption",
            "info": {"seed": seed},
            "locator": metadata["locator"],
        }
    assert (folder / "tokenized.0").read_bytes() == stream + b"\xff\xff"
    assert (folder / "offset.0").read_bytes() == offsets
    assert (folder / "metadata.0").read_bytes() == lines
    assert (folder / "metaoff.0").read_bytes() == starts
    assert (folder / "skipped.jsonl").read_bytes() == b""
    expected = np.stack([thumbnail(noise(seed)) for seed in (1, 2, 3)])
    np.testing.assert_array_equal(np.load(folder / "thumbnails.npy"), expected)


def test_a_token_set_joins_its_shards(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    tokens = tokenize(tmp_path, corpus)
    assert (tokens.num_documents, tokens.num_tokens, tokens.length) == (5, 75, 15)
    assert tokens.first_documents.tolist() == [0, 3, 5]
    expected = np.stack([ids_of(TOY, noise(seed)) for seed in (5, 1, 3, 5)])
    gathered = tokens.gather([4, 0, 2, 4])
    np.testing.assert_array_equal(gathered, expected)
    assert gathered.dtype == np.uint16
    first, second = tokens.shards
    assert (first.num_documents, first.num_tokens, first.document_length) == (3, 45, 15)
    assert first.separators.tolist() == [0, 16, 32, 48]
    assert first.stream[[0, 16, 32, 48]].tolist() == [65535] * 4
    assert (tokens.locate(2), tokens.locate(3)) == ((0, 2), (1, 0))
    blocks = [(start, block.shape) for start, block in tokens.sketch_blocks()]
    assert blocks == [(0, (3, 16, 16, 3)), (3, (2, 16, 16, 3))]
    assert tokens.original(4) == encode(noise(5))
    for document in (-1, 5):
        with pytest.raises(IndexError, match="there are 5"):
            tokens.metadata(document)
    assert second.artifact.facts["shard"] == "1"
    again: TokenSet = pickle.loads(pickle.dumps(tokens))
    np.testing.assert_array_equal(again.gather([3]), tokens.gather([3]))
    assert len(pickle.dumps(tokens)) < 20_000


def test_sizes_share_their_shards_and_order_is_kept(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    small = tokenize(tmp_path, replace(corpus, num_shards=1))
    large = tokenize(tmp_path, corpus)
    assert small.shards[0].artifact.path == large.shards[0].artifact.path
    assert small.identity() != large.identity()


def test_worker_processes_make_the_same(
    tmp_path: Path, corpus: WebDatasetCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagegram.stages.scan._FEW_IMAGES", 1)
    serial = tokenize(tmp_path / "serial", corpus)
    spread = replace(context(tmp_path / "many"), executor=ProcessExecutor(workers=2))
    many = spread.make(stage_of(corpus))
    assert many.identity() == serial.identity()
    for one, other in zip(serial.shards, many.shards, strict=True):
        assert one.artifact.manifest.files == other.artifact.manifest.files


def test_threads_within_a_shard_make_the_same(tmp_path: Path) -> None:
    members = [m for number in range(70) for m in sample(f"{number:04d}", number)]
    members[30:36] = [("bad.png", b"no picture"), ("words.txt", b"words")]
    write_tar(tmp_path / "tars" / "0.tar", members)
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), near_duplicate_rms=0)
    serial = tokenize(tmp_path / "serial", corpus)
    for name, executor in (
        ("threads", SerialExecutor(workers=3)),
        ("one_shard", ProcessExecutor(workers=4)),
    ):
        root = tmp_path / name
        spread = replace(context(root), executor=executor)
        threaded = spread.make(stage_of(corpus))
        (one,), (other,) = serial.shards, threaded.shards
        assert one.artifact.manifest.files == other.artifact.manifest.files
        assert one.artifact.facts == other.artifact.facts
        assert one.artifact.facts["num_documents"] == 68


def test_parts_share_the_workers(tmp_path: Path) -> None:
    from imagegram.executors.context import PartJob, run_part

    seen: list[int] = []

    @dataclass(frozen=True, kw_only=True)
    class Part:
        number: int
        kind: ClassVar[str] = "part"
        group: ClassVar[str] = "tokenize"
        VERSION: ClassVar[int] = 1

        def run(self, out: Path, context: Any) -> dict[str, Any]:
            seen.append(context.workers)
            return {}

        def load(self, artifact: Any) -> int:
            return self.number

    spread = replace(context(tmp_path), executor=SerialExecutor(workers=7))
    assert spread.make_all([Part(number=n) for n in range(3)], description="x") == [0, 1, 2]
    assert spread.make_all([Part(number=n) for n in range(4)], description="x") == [0, 1, 2, 3]
    assert spread.make_all([Part(number=n) for n in range(4, 40)], description="x")[0] == 4
    assert seen == [7] * 40  # one after the other
    processes = ProcessExecutor(workers=7)
    assert [processes.threads(many, None) for many in (1, 3, 36)] == [7, 2, 1]
    assert processes.threads(36, at_once=2) == 3
    run_part(PartJob(store=spread.store, stage=Part(number=99), workers=5), spread.progress)
    assert seen[-1] == 5


def damaged_members() -> list[Member]:
    good = [member for number in range(10) for member in sample(f"good{number}", number)]
    jpeg = encode(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8), "JPEG")
    flip = bytearray(encode(noise(50)))
    flip[60] ^= 0xFF
    torn_a, torn_b = sample("torn_a", 60), sample("torn_b", 61)
    return [
        *good,
        ("zero.jpg", b""),
        ("cut.jpg", jpeg[: len(jpeg) // 2]),
        ("flip.png", bytes(flip)),
        ("huge.png", png_header(50_000, 50_000)),
        ("gif.png", encode(noise(51), "GIF")),
        ("words.txt", b"no picture"),
        torn_a[0],
        torn_b[0],
        torn_a[1],
        torn_b[1],
        *sample("good0", 70),
    ]


def test_every_damage_is_skipped_counted_and_listed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "tars" / "0.tar", damaged_members())
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-10])  # cuts the last sample
    corpus = WebDatasetCorpus(tars=str(path.parent), max_failed_fraction=1.0)
    tokens = tokenize(tmp_path, corpus)
    facts = tokens.artifact.facts
    assert facts["skipped"] == {
        "corrupt": 1,
        "duplicate_key": 1,
        "empty_file": 1,
        "interleaved_keys": 2,
        "no_image": 1,
        "too_large": 1,
        "truncated": 1,
        "truncated_tar": 1,
        "unsupported_format": 1,
    }
    assert facts["num_documents"] == 10
    assert facts["num_records"] == 20
    lines = (tokens.shards[0].artifact.path / "skipped.jsonl").read_text().splitlines()
    listed = [json.loads(line) for line in lines]
    assert {"key": "zero", "reason": "empty_file", "member": "zero.jpg"} in listed
    assert len(listed) == 10


def test_too_many_failures_fail_the_stage(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "tars" / "0.tar", damaged_members())
    with pytest.raises(CorpusError) as error:
        tokenize(tmp_path, WebDatasetCorpus(tars=str(path.parent)))
    message = str(error.value)
    assert "9 of 19 records cannot be read" in message
    assert "interleaved_keys: 2" in message
    assert "first zero, cut, flip, huge, gif" in message
    assert "at most 5.0% may fail" in message
    allowed = float(message.rpartition("corpus.max_failed_fraction=")[2])
    corpus = WebDatasetCorpus(tars=str(path.parent), max_failed_fraction=allowed)
    assert tokenize(tmp_path, corpus).num_documents == 10


def refusal(root: Path, corpus: WebDatasetCorpus | FolderCorpus) -> str:
    with pytest.raises(CorpusError) as error:
        tokenize(root, corpus)
    return str(error.value)


def test_a_cut_tar_stops_the_run_however_little_is_missing(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "tars" / "0.tar", range(100))
    path.write_bytes(path.read_bytes().rstrip(b"\0")[:-10])
    message = refusal(tmp_path, WebDatasetCorpus(tars=str(path), max_failed_fraction=0.5))
    assert "100 are whole, how many are lost behind byte" in message
    assert message.endswith("or go on with what is whole: corpus.max_failed_fraction=1")
    lax = WebDatasetCorpus(tars=str(path), max_failed_fraction=1.0)
    tokens = tokenize(tmp_path, lax)
    assert tokens.artifact.facts["skipped"] == {"truncated_tar": 1}


def test_a_tar_in_columns_is_refused_with_the_command_that_sorts_it(tmp_path: Path) -> None:
    members = sorted(
        (member for key in range(20) for member in sample(f"{key:06d}", key)),
        key=lambda member: member[0][6:],
    )
    path = write_tar(tmp_path / "some tars" / "0.tar", members)
    message = refusal(tmp_path, WebDatasetCorpus(tars=str(path)))
    assert "20 of 20 records cannot be read (interleaved_keys: 20)" in message
    assert "max_failed_fraction" not in message
    command = message.partition("follow each other: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    tokens = tokenize(tmp_path, WebDatasetCorpus(tars=str(tmp_path / "0-sorted.tar")))
    assert (tokens.num_documents, tokens.artifact.facts["skipped"]) == (20, {})


def test_one_bad_photo_of_a_dozen_is_skipped_and_pointers_are_named(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(12):
        (photos / f"{seed}.jpg").write_bytes(encode(noise(seed), "JPEG"))
    half = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    (photos / "half.jpg").write_bytes(half[: len(half) // 2] + b"\xff\xd9")
    facts = tokenize(tmp_path, FolderCorpus(path=str(photos))).artifact.facts
    assert (facts["num_documents"], facts["skipped"]) == (12, {"corrupt": 1})
    for seed in range(12):
        (photos / f"{seed}.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    message = refusal(tmp_path, FolderCorpus(path=str(photos)))
    assert "git_lfs_pointer: 12" in message
    assert "type git lfs pull" in message


def test_hidden_members_are_counted_and_no_failures(tmp_path: Path) -> None:
    members = [*sample("a", 0), *[(f"._{n}.png", b"a resource fork") for n in range(9)]]
    path = write_tar(tmp_path / "tars" / "0.tar", members)
    facts = tokenize(tmp_path, WebDatasetCorpus(tars=str(path))).artifact.facts
    assert (facts["num_documents"], facts["skipped"]) == (1, {"hidden": 9})


def test_a_laxer_run_before_does_not_lift_the_limit(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "tars" / "0.tar", damaged_members())
    lax = WebDatasetCorpus(tars=str(path.parent), max_failed_fraction=1.0)
    strict = replace(lax, max_failed_fraction=0.05)
    with pytest.raises(CorpusError) as fresh:
        tokenize(tmp_path / "elsewhere", strict)
    assert tokenize(tmp_path, lax).num_documents == 10
    with pytest.raises(CorpusError) as cached:
        tokenize(tmp_path, strict)
    assert str(cached.value) == str(fresh.value)


def test_a_shard_of_no_documents(tmp_path: Path) -> None:
    write_tar(tmp_path / "tars" / "0.tar", [("a.png", b"")])
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), max_failed_fraction=1.0)
    tokens = tokenize(tmp_path, corpus)
    (shard,) = tokens.shards
    assert tokens.num_documents == 0
    assert tokens.artifact.facts["skipped"] == {"empty_file": 1}
    assert shard.stream.tolist() == [65535]
    assert shard.separators.tolist() == [0]
    assert shard.sketches.shape == (0, 16, 16, 3)
    assert tokens.gather([]).shape == (0, 15)


def test_a_shard_changed_behind_a_finished_artifact(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    tokens = tokenize(tmp_path, corpus)
    write_samples(tmp_path / "tars" / "1.tar", [4, 6])
    assert tokens.original(3) == encode(noise(4))
    with pytest.raises(CorpusError, match=r"1\.tar: 0001\.png is no longer the image"):
        tokens.original(4)
    again = tokenize(tmp_path, corpus)  # the new content is another artifact
    assert again.identity() != tokens.identity()
    assert again.original(4) == encode(noise(6))


def test_originals_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for seed in range(3):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(encode(noise(seed)))
    tokens = tokenize(tmp_path, FolderCorpus(path=str(tmp_path / "photos"), images_per_shard=2))
    originals = {tokens.metadata(d)["key"]: tokens.original(d) for d in range(3)}
    assert originals == {f"{seed}.png": encode(noise(seed)) for seed in range(3)}
    (tmp_path / "photos" / "1.png").write_bytes(encode(noise(9)))
    (changed,) = (d for d in range(3) if tokens.metadata(d)["key"] == "1.png")
    with pytest.raises(CorpusError, match="no longer the image"):
        tokens.original(changed)


@dataclass(frozen=True, kw_only=True)
class MeddlingTokenizer:
    """Rewrites the tar that it is fed from, in the middle."""

    modality: ClassVar[Modality] = IMAGES
    name: str = "meddling"
    path: str = ""
    spec: ClassVar[TokenSpec] = TokenSpec(vocab_size=256, layout=TokenLayout.pyramid((1,)))
    batch_size: ClassVar[int | None] = None

    def prepare(self, image: Images) -> Images:
        return image

    def encode(self, prepared: Sequence[Images]) -> Encoded:
        write_samples(Path(self.path), [7, 8, 9])
        return Encoded(documents=[np.zeros(3, np.uint16) for _ in prepared])

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        raise NotImplementedError


def test_a_shard_that_changes_while_it_is_tokenized(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    meddler = MeddlingTokenizer(path=str(tmp_path / "tars" / "0.tar"))
    with pytest.raises(CorpusError, match="changed while it was read"):
        tokenize(tmp_path, corpus, meddler)
    assert not list((tmp_path / "artifacts" / "token_shard").glob("[!.]*"))


@dataclass(frozen=True, kw_only=True)
class LyingTokenizer:
    """Emits what it does not declare."""

    modality: ClassVar[Modality] = IMAGES
    name: str = "lying"
    ids: tuple[int, ...] = ()
    spec: ClassVar[TokenSpec] = TokenSpec(vocab_size=256, layout=TokenLayout.pyramid((1,)))
    batch_size: ClassVar[int | None] = None

    def prepare(self, image: Images) -> Images:
        return image

    def encode(self, prepared: Sequence[Images]) -> Encoded:
        return Encoded(documents=[np.array(self.ids, np.uint16) for _ in prepared])

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        raise NotImplementedError


@pytest.mark.parametrize("ids", [(1, 2), (1, 2, 256), (1, 2, 65535), ()])
def test_a_tokenizer_that_breaks_its_contract(
    tmp_path: Path, corpus: WebDatasetCorpus, ids: tuple[int, ...]
) -> None:
    with pytest.raises(TokenError, match="it declares 3 ids below 256"):
        tokenize(tmp_path, corpus, LyingTokenizer(ids=ids))


def test_counts_that_do_not_add_up_are_loud(
    tmp_path: Path, corpus: WebDatasetCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenWriter, "add", lambda *_: None)
    (first, _) = corpus.shards
    with pytest.raises(StageError, match="3 records, but 0 documents and 0 skipped"):
        context(tmp_path).make(TokenizeShard(shard=first, tokenizer=TOY))


def test_a_removed_part_is_said_with_its_remedy(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    import shutil

    tokens = tokenize(tmp_path, corpus)
    shutil.rmtree(tokens.shards[1].artifact.path)
    reopened = TokenSet(artifact=tokens.artifact, images=tokens.images)
    with pytest.raises(ArtifactError, match=f"gc digest={tokens.artifact.digest}"):
        _ = reopened.shards


def test_identity_is_content_and_tokenizer(corpus: WebDatasetCorpus) -> None:
    (first, second) = corpus.shards
    renamed = TarShard(name="other", path=first.path)
    same = TokenizeShard(
        shard=renamed, tokenizer=replace(TOY, name="same"), max_failed_fraction=0.5
    )
    base: tuple[str, dict[str, Any]] = fingerprint(TokenizeShard(shard=first, tokenizer=TOY))
    assert fingerprint(same) == base
    for other in (
        TokenizeShard(shard=second, tokenizer=TOY),
        TokenizeShard(shard=first, tokenizer=PyramidTokenizer(sizes=(2,))),
    ):
        assert fingerprint(other)[0] != base[0]
