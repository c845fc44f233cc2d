"""Audited images as documents, the way through pixels, and what is said of the scores."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagegram.audit.findings import Circumstances, doubts, what_it_tells
from imagegram.audit.flow import _write_items
from imagegram.audit.reencoded import (
    PixelCollages,
    Reencoded,
    jpeg_bytes,
    jpeg_quality_of,
    shrink,
    token_agreement,
)
from imagegram.audit.sources import open_images, open_tokens
from imagegram.corpora.folder import FolderCorpus
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.images.decode import decode_image
from imagegram.metrics.shipped import recorded_infos
from imagegram.records import Images, Tokens
from imagegram.stages.generate import select_documents
from imagegram.stages.tokenize import Tokenize
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import digest, identity
from imagegram.tokenizers.pyramid import PyramidTokenizer, encode_reference
from imagegram.tools.audit import take_source
from tests.evaluations import SIZES, read_one
from tests.image_sets import TOKENIZER, MemoryTokens, random_tokens
from tests.pictures import context, encode, ids_of, write_samples, write_tar

PYRAMID = PyramidTokenizer(name="small", sizes=(4, 8))
#: Height and width of the pictures below: squares, tall, wide, smaller than the pyramid.
SHAPES = [(20, 20), (31, 20), (20, 50), (9, 9), (6, 7), (64, 64)]


def pictures() -> list[Images]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> TokenSet:
    """The pictures, one PNG each, tokenized in the order of their numbers."""
    root = tmp_path_factory.mktemp("pictures")
    files = [(f"{number}.png", encode(pixels)) for number, pixels in enumerate(pictures())]
    make = context(tmp_path_factory.mktemp("outputs")).make
    shards = WebDatasetCorpus(tars=str(write_tar(root / "0.tar", files))).shards
    return make(Tokenize(shards=shards, tokenizer=PYRAMID))


def slowly(pixels: Images, *, side: int, quality: int | None) -> Tokens:
    """A picture made smaller, saved and tokenized by Pillow and the readable encoder."""
    picture = Image.fromarray(pixels)
    if (shorter := min(picture.size)) > side:
        width, height = (round(length * side / shorter) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    stream = io.BytesIO()
    options: dict[str, Any] = {} if quality is None else {"quality": quality}
    picture.save(stream, "PNG" if quality is None else "JPEG", **options)
    again = np.asarray(Image.open(stream).convert("RGB"))
    return encode_reference(again, PYRAMID)[0]


# ------------------------------------------------------------------------------ the way in pixels


@given(side=st.integers(1, 70), quality=st.none() | st.integers(1, 100))
def test_files_are_shrunk_saved_read_and_tokenized(
    tokens: TokenSet, side: int, quality: int | None
) -> None:
    source = Reencoded(inner=tokens, tokenizer=PYRAMID, side=side, jpeg_quality=quality)
    expected = [slowly(pixels, side=side, quality=quality) for pixels in pictures()]
    order = [3, 0, 5, 1, 4, 2, 0]
    np.testing.assert_array_equal(source.gather(order), np.stack(expected)[order])


@given(side=st.integers(1, 30), quality=st.none() | st.integers(1, 100))
def test_what_the_tokenizer_gives_back_goes_the_same_way(
    tokens: TokenSet, side: int, quality: int | None
) -> None:
    options: dict[str, Any] = {"tokenizer": PYRAMID, "side": side, "jpeg_quality": quality}
    given_back = PYRAMID.decode(tokens.gather(range(len(SHAPES))), output_size=side)
    expected = np.stack([slowly(pixels, side=side, quality=quality) for pixels in given_back])
    source = Reencoded(inner=tokens, decoded=True, workers=3, **options)
    np.testing.assert_array_equal(source.gather(range(len(SHAPES))), expected)
    # Where there are no files it is the only way.
    documents = MemoryTokens(shards=[tokens.gather(range(len(SHAPES)))])
    plain = Reencoded(inner=documents, **options)
    np.testing.assert_array_equal(plain.gather([2, 4]), expected[[2, 4]])


def test_no_documents_are_no_tokens(tokens: TokenSet) -> None:
    assert Reencoded(inner=tokens, tokenizer=PYRAMID, side=8).gather([]).shape == (0, 240)


def test_what_changes_a_token_is_identity(tokens: TokenSet) -> None:
    def name(**how: Any) -> str:
        fields: dict[str, Any] = {"inner": tokens, "tokenizer": PYRAMID, "side": 8}
        return digest(identity(Reencoded(**fields | how)))

    assert name(workers=7) == name()
    other = PyramidTokenizer(sizes=(2, 8))
    changes: list[dict[str, Any]] = [{"side": 9}, {"jpeg_quality": 75}, {"decoded": True}]
    changes.append({"tokenizer": other})
    assert len({name(), *(name(**change) for change in changes)}) == 1 + len(changes)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pictures" / "0.png"
    file.parent.mkdir()
    file.write_bytes(encode(pictures()[0]))
    make = context(tmp_path).make
    found = make(Tokenize(shards=FolderCorpus(path=str(file.parent)).shards, tokenizer=PYRAMID))
    file.write_bytes(encode(pictures()[1]))
    with pytest.raises(CorpusError, match="no longer the image that was tokenized"):
        Reencoded(inner=found, tokenizer=PYRAMID, side=8).gather([0])


@pytest.mark.parametrize("quality", [0, 101, -1])
def test_only_qualities_are_qualities(tokens: TokenSet, quality: int) -> None:
    with pytest.raises(ConfigError, match=r"jpeg=.*1 \.\.\. 100; type jpeg=75"):
        Reencoded(inner=tokens, tokenizer=PYRAMID, side=8, jpeg_quality=quality)


@pytest.mark.parametrize("side", [1, 7, 8, 13])
def test_collages_are_made_of_quarters_of_pictures(tokens: TokenSet, side: int) -> None:
    count, seed = 4, 5
    source = Reencoded(inner=tokens, tokenizer=PYRAMID, side=side)
    order = select_documents(len(SHAPES), seed)[:count]
    for row in range(count):
        four = [shrink(pictures()[order[(row + quarter) % count]], side) for quarter in range(4)]
        square = min(min(pixels.shape[:2]) for pixels in four)
        assert square == min(side, *(min(SHAPES[i]) for i in order))
        collage = np.zeros((square, square, 3), dtype=np.uint8)
        for y in range(square):
            for x in range(square):
                pixels = Image.fromarray(four[2 * (y >= square / 2) + (x >= square / 2)])
                resized = pixels.resize((square, square), Image.Resampling.BILINEAR)
                collage[y, x] = np.asarray(resized)[y, x]
        expected = encode_reference(collage, PYRAMID)[0]
        collages = PixelCollages(pictures=source, num_documents=count, seed=seed)
        np.testing.assert_array_equal(collages.gather([row])[0], expected)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    side=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_shrink_keeps_the_shape_and_never_enlarges(
    height: int, width: int, side: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = shrink(pixels, side)
    assert min(small.shape[:2]) == min(height, width, side)
    if side >= min(height, width):
        assert small is pixels
    else:
        assert abs(small.shape[0] * width - small.shape[1] * height) <= max(height, width)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 90, 100])
def test_the_quality_of_a_jpeg_file_is_found(quality: int) -> None:
    pixels = pictures()[0]
    assert jpeg_quality_of(jpeg_bytes(pixels, quality)) == quality
    grey = encode(Image.fromarray(pixels).convert("L"), "JPEG", quality=quality)
    assert jpeg_quality_of(grey) == quality


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", encode(pictures()[0]), b"GIF89a"])
def test_what_is_no_jpeg_file_has_no_quality(data: bytes) -> None:
    assert jpeg_quality_of(data) is None


@given(seed=st.integers(0, 99), kept=st.floats(0, 1))
def test_token_agreement_by_level(seed: int, kept: float) -> None:
    rng = np.random.default_rng(seed)
    before = random_tokens(30, seed=seed)
    drawn = rng.integers(30, size=17)
    after = np.where(rng.random((17, 15)) < kept, before[drawn], before[drawn] ^ 1)
    found = token_agreement(MemoryTokens(shards=[before]), after, drawn, TOKENIZER.spec.layout)
    levels = [[], []]  # type: list[list[bool]]
    for row, document in zip(after.tolist(), drawn.tolist(), strict=True):
        for position, token in enumerate(row):
            levels[position >= 3].append(token == before[document, position])
    assert found["levels"] == pytest.approx([np.mean(level) for level in levels])
    assert found["all"] == pytest.approx(np.mean(levels[0] + levels[1]))


# ------------------------------------------------------------------------------- what is audited


def test_folders_and_tars_are_opened(tmp_path: Path) -> None:
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.JPG", "deep/b.txt", "c.gif", "deep/README"):
        (tmp_path / "photos" / name).write_bytes(encode(pictures()[0]))
    folder = open_images(str(tmp_path / "photos"))
    keys = sorted(record.key for shard in folder.shards for record in shard)
    assert keys == ["a.png", "deep/b.JPG"]
    assert folder.num_others == 2
    write_samples(tmp_path / "tars" / "00.tar", [1, 2])
    write_samples(tmp_path / "tars" / "01.tar", [3])
    tars = str(tmp_path / "tars")
    for where in (tars, f"{tars}/*.tar", f"{tars}/{{00..01}}.tar"):
        assert [len(shard) for shard in open_images(where).shards] == [2, 1]
    assert [len(shard) for shard in open_images(f"{tars}/01.tar").shards] == [1]


@pytest.mark.parametrize("where", ["missing", "empty", "empty/*.tar", "note.txt", "gone.tar"])
def test_what_holds_no_images_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("no picture")
    with pytest.raises(CorpusError, match="type images=FOLDER"):
        open_images(str(tmp_path / where))


def test_near_duplicates_and_repeats_are_all_kept(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(130):  # so many that a corpus of its own would hold some out
        name = f"{number:03}.png"
        (tmp_path / "photos" / name).write_bytes(encode(pictures()[number % 2]))
    (tmp_path / "photos" / "bad.png").write_bytes(encode(pictures()[0])[:50])
    make = context(tmp_path).make
    files = open_images(str(tmp_path / "photos"))
    found = make(Tokenize(shards=files.shards, tokenizer=PYRAMID))
    assert found.num_documents == 130
    assert found.artifact.facts["skipped"] == {"truncated": 1}


def test_files_that_are_mostly_unreadable_are_counted_not_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "good.png").write_bytes(encode(pictures()[0]))
    for number in range(9):
        (tmp_path / "photos" / f"bad{number}.png").write_bytes(b"" if number else b"GIF89a")
    make = context(tmp_path).make
    files = open_images(str(tmp_path / "photos"))
    found = make(Tokenize(shards=files.shards, tokenizer=PYRAMID))
    assert found.artifact.facts["skipped"] == {"empty_file": 8, "unsupported_format": 1}
    assert np.array_equal(found.gather([0])[0], ids_of(PYRAMID, pictures()[0]))
    assert decode_image(found.original(0)).shape == (20, 20, 3)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.uint8])
def test_token_files_are_documents(tmp_path: Path, dtype: type) -> None:
    rows = random_tokens(9, seed=0).astype(dtype)
    np.save(tmp_path / "tokens.npy", rows)
    np.save(tmp_path / "again.npy", rows)
    source = open_tokens(str(tmp_path / "tokens.npy"), TOKENIZER)
    assert source.num_documents == 9
    assert source.gather([4, 1]).dtype == np.uint16
    np.testing.assert_array_equal(source.gather(np.array([4, 1])), rows[[4, 1]])
    assert identity(source) == identity(open_tokens(str(tmp_path / "again.npy"), TOKENIZER))
    np.save(tmp_path / "again.npy", rows[::-1])
    assert identity(source) != identity(open_tokens(str(tmp_path / "again.npy"), TOKENIZER))


WRONG: Mapping[str, tuple[Any, str]] = {
    "length": (np.zeros((3, 14), np.uint16), r"shape is \(3, 14\).*\(N, 15\)"),
    "axes": (np.zeros((3, 5, 3), np.uint16), r"shape is \(3, 5, 3\)"),
    "none": (np.zeros((0, 15), np.uint16), "N at least 1"),
    "floats": (np.zeros((3, 15)), "holds float64"),
    "large": (np.full((5000, 15), 256, np.uint16), "id 256 of image 0 at position 0"),
    "negative": (np.full((3, 15), -1), "id -1 of image 0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_tokens_of_something_else_are_refused(tmp_path: Path, what: str) -> None:
    rows, message = WRONG[what]
    np.save(tmp_path / "tokens.npy", rows)
    with pytest.raises(ConfigError, match=message):
        open_tokens(str(tmp_path / "tokens.npy"), TOKENIZER)


def test_an_id_that_does_not_fit_is_found_far_behind(tmp_path: Path) -> None:
    rows = random_tokens(9000, seed=0)
    rows[8123, 7] = 300
    np.save(tmp_path / "tokens.npy", rows)
    with pytest.raises(ConfigError, match="id 300 of image 8123 at position 7"):
        open_tokens(str(tmp_path / "tokens.npy"), TOKENIZER)


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("tokens")
    np.savez(tmp_path / "b.npz", tokens=random_tokens(3, seed=0))
    with pytest.raises(ConfigError, match="no such file"):
        open_tokens(str(tmp_path / "missing.npy"), TOKENIZER)
    with pytest.raises(ConfigError, match=r"not a \.npy file"):
        open_tokens(str(tmp_path / "a.npy"), TOKENIZER)
    with pytest.raises(ConfigError, match="several arrays"):
        open_tokens(str(tmp_path / "b.npz"), TOKENIZER)


# ------------------------------------------------------------------------------- what it can tell


PLACE = Circumstances(
    sizes={**SIZES, "recoded": 50, "recoded_jpeg": 50, "copies_5": 50, "collages": 50},
    skipped={"truncated": 2},
    num_others=3,
    side=64,
    sides=(32, 100),
    jpeg_share=0.25,
    jpeg_quality=60,
    agreement={"recoded": {"all": 0.5, "levels": [0.25, 0.75]}},
    level_names=["4x4", "8x8"],
    num_repeated=4,
    sampler="balanced",
)


def test_the_words_hold_the_numbers() -> None:
    zero, one = (0.0, 0.0, 0.07), (1.0, 0.93, 1.0)
    exact = read_one(
        "exact_copy_rate",
        {
            "generated": zero,
            "floor": zero,
            "ceiling": one,
            "recoded": (0.5, 0.4, 0.6),
            "recoded_jpeg": zero,
            "copies_5": (0.2, 0.1, 0.3),
            "collages": zero,
        },
        PLACE.sizes,
    )
    forced = read_one("forced_copy_rate", dict.fromkeys(PLACE.sizes, (0.1, 0.0, 0.2)), PLACE.sizes)
    said = what_it_tells([exact, forced], PLACE, {"exact_copy_rate": {}, "forced_copy_rate": {}})
    text = dict(said)
    assert "50 images measured; skipped: 2 truncated" in text["images"]
    assert "3 other files" in text["images"]
    assert text["repeats"].startswith("4 of the audited")
    assert "recoded" not in text["reads like"]
    assert "held-out images 2 of 2" in text["reads like"]
    assert "training images 1 of 2" in text["reads like"]
    assert "median 64; 25.0 % are JPEG" in text["pixels"]
    assert "50.0 % as the tokenizer gives them back (4x4 25.0 %, 8x8 75.0 %)" in text["kept tokens"]
    bounds = text["lower bounds of copying"]
    assert "gives them back / as JPEG of quality 60: exact copies 100 % / 50.0 %" in bounds
    assert "forced" not in bounds
    assert text["sees 5 % copies"].endswith("by 1 of 2 scores: exact copies")
    assert text["blind to 5 % copies"].endswith("by 1 of 2 scores: forced steps")
    assert text["blind to collages"].endswith("by 2 of 2 scores: exact copies, forced steps")
    assert text["replay"].startswith("forced steps are those of a replay")
    assert "sizes" not in text
    labels = [label for label, _ in said[:5]]
    assert labels == [
        *("images", "reads like", "kept tokens", "blind to 5 % copies", "blind to collages")
    ]
    (doubt,) = doubts([exact, forced], PLACE)
    assert doubt.endswith(
        "exact copies are found in 50.0 % of training images as the tokenizer gives them back and "
        "0 % of training images as JPEG of quality 60."
    )


def test_a_corpus_without_held_out_images_is_told() -> None:
    sizes = {"generated": 50, "ceiling": 50}
    reading = read_one("x", dict.fromkeys(sizes, (0.5, 0.4, 0.6)), sizes)
    at = Circumstances(**{**vars(PLACE), "sizes": sizes, "side": None, "sides": None})
    text = dict(what_it_tells([reading], at, {"x": {"encoder": "y"}}))
    assert "no floor" in text["images"]
    assert "exact" in text["tokens"]
    assert not {"pictures", "pixels", "kept tokens"} & text.keys()


def test_fewer_held_out_images_are_told() -> None:
    sizes = {"generated": 50, "floor": 12, "ceiling": 50}
    reading = read_one("x", dict.fromkeys(sizes, (0.5, 0.4, 0.6)), sizes)
    at = Circumstances(**{**vars(PLACE), "sizes": sizes})
    assert dict(what_it_tells([reading], at, {"x": {}}))["sizes"].endswith("num_samples=12")


# ------------------------------------------------------------------------------- the command line


def test_words_are_taken() -> None:
    source, rest = take_source(["images='A B'", "corpus=demo", "num_samples=7", "jpeg=null"])
    assert (source.images, source.tokens) == ("A B", None)
    assert (source.num_images, source.jpeg_quality) == (7, None)
    assert rest == ["corpus=demo", "num_samples=7"]
    assert take_source(["tokens=a.npy", "jpeg=50"])[0].jpeg_quality == 50
    assert take_source(["tokens=a.npy", "jpeg=auto"])[0] == take_source(["tokens=a.npy"])[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to audit; type one of images=FOLDER"),
        (["images="], "nothing to audit"),
        (["images=A", "tokens=B"], "both"),
        (["images=A", "stages=[index]"], "leave out stages="),
        (["images=A", "num_samples=many"], "num_samples=many is no whole number"),
        (["images=A", "jpeg=good"], "jpeg=good"),
        (["images=A", "jpeg=0"], r"1 \.\.\. 100"),
    ],
)
def test_words_that_make_no_audit_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        take_source(words)


def test_one_level_is_all_tokens_and_not_told_again() -> None:
    changed = {
        "level_names": ["16 tokens"],
        "agreement": {"recoded": {"all": 0.5, "levels": [0.5]}},
    }
    text = dict(what_it_tells([], Circumstances(**{**vars(PLACE), **changed}), {}))
    assert text["kept tokens"].endswith("50.0 % as the tokenizer gives them back")


def test_curves_over_positions_are_no_numbers_of_images(tmp_path: Path) -> None:
    of = {"exact_copy": np.array([1.0, 0.0]), "forced_by_position": np.array([0.5, 0.25])}
    of |= {
        "novelty": np.zeros(2),
        "order_edges": np.zeros(2),
        "source_share": np.array([1, np.nan]),
    }
    infos = recorded_infos({}, ["exact_copy_rate", "largest_source_share", "novelty_auc"])
    evaluation: Any = SimpleNamespace(curves={"generated": of, "floor": of}, infos=infos)
    _write_items(tmp_path / "lines", evaluation, [{"key": "a"}, {"key": "b"}], noun="image")
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert lines == [
        {"sample": 0, "image": "a", "exact_copy": 1.0, "source_share": 1.0},
        {"sample": 1, "image": "b", "exact_copy": 0.0, "source_share": None},
    ]
