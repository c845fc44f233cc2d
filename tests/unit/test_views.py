"""Views of images are documents of their own, chosen with their image and one source with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from imagegram.corpora.viewed import ViewedShard
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError
from imagegram.images.modality import IMAGES
from imagegram.images.views import VIEWS, view_of
from imagegram.records import Images
from imagegram.stages.cluster import Cluster
from imagegram.stages.generate import Decode
from imagegram.stages.select import tokenize
from imagegram.stages.split import Split
from imagegram.stages.tokens import TokenSet
from imagegram.texts.modality import TEXTS
from imagegram.tokenizers.pyramid import PyramidTokenizer
from tests.pictures import context, encode, noise, sample, write_samples, write_tar

TOY = PyramidTokenizer(name="toy", sizes=(2, 4))


def tokenized(root: Path, corpus: WebDatasetCorpus) -> tuple[TokenSet, TokenSet]:
    def make(_: str, stage: object) -> object:
        return context(root).make(stage)  # type: ignore[arg-type]

    split = context(root).make(Split(corpus=corpus))
    return tokenize(make, split, TOY)  # type: ignore[arg-type]


def keys(tokens: TokenSet) -> list[str]:
    return [tokens.metadata(i)["key"] for i in range(tokens.num_documents)]


def token_shards(root: Path) -> set[str]:
    return {artifact.digest for artifact in context(root).store if artifact.kind == "token_shard"}


@pytest.fixture
def corpus(tmp_path: Path) -> WebDatasetCorpus:
    """120 pictures in two tars, and a file that is none."""
    for tar, numbers in (("0.tar", range(70)), ("1.tar", range(70, 120))):
        members = [m for number in numbers for m in sample(f"{number:04d}", number)]
        broken = [("broken.png", b"no picture")] if tar == "0.tar" else []
        write_tar(tmp_path / "tars" / tar, [*members, *broken])
    return WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=0.3)


def scalar_crop(image: Images, *, bottom: bool, right: bool) -> list[list[list[int]]]:
    """The corner of the middle square, pixel by pixel."""
    height, width = image.shape[:2]
    side = min(height, width)
    size = next(size for size in range(1, side + 1) if size * 1.1 >= side)
    top = (height - side) // 2 + (side - size if bottom else 0)
    left = (width - side) // 2 + (side - size if right else 0)
    return [[image[top + y, left + x].tolist() for x in range(size)] for y in range(size)]


@pytest.mark.parametrize("shape", [(22, 22), (30, 41), (41, 30), (1, 1), (2, 5)])
def test_crops_are_the_corners_of_the_middle_square(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for corner in ("top_left", "top_right", "bottom_left", "bottom_right"):
        wanted = scalar_crop(image, bottom="bottom" in corner, right="right" in corner)
        assert view_of(image, corner).tolist() == wanted
        flipped = view_of(image, f"{corner}_flip")
        assert flipped.tolist() == [row[::-1] for row in wanted]
        assert flipped.flags.c_contiguous
    assert view_of(image, "flip").tolist() == [row[::-1] for row in image.tolist()]
    assert view_of(image, "centre").shape == view_of(image, "top_left").shape


def test_unknown_views_and_views_of_texts_are_refused() -> None:
    with pytest.raises(KeyError):
        view_of(noise(0), "upside_down")
    with pytest.raises(KeyError):
        TEXTS.view("a text", "flip")
    with pytest.raises(ConfigError, match=r"none, flip, ten_crop; type corpus\.views=flip"):
        WebDatasetCorpus(tars="x", views="twelve")


@pytest.mark.parametrize("views", ["flip", "ten_crop"])
def test_all_views_of_training_images_are_documents_and_held_out_images_have_none(
    tmp_path: Path, corpus: WebDatasetCorpus, views: str
) -> None:
    plain, held = tokenized(tmp_path, corpus)
    before = token_shards(tmp_path)
    train, holdout = tokenized(tmp_path, dataclasses.replace(corpus, views=views))
    names = VIEWS[views]
    assert holdout.identity() != ""
    assert keys(holdout) == keys(held)
    assert train.num_views == len(names)
    assert train.num_documents == len(names) * plain.num_documents
    wanted = [
        key if name == "original" else f"{key} ({name})" for name in names for key in keys(plain)
    ]
    assert keys(train) == wanted
    # A record counts once, and the images as they are were not tokenized again.
    for counted in ("num_records", "skipped"):
        assert train.artifact.facts[counted] == plain.artifact.facts[counted]
    assert before < token_shards(tmp_path)


def test_tokens_and_pictures_are_those_of_the_view(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    plain, _ = tokenized(tmp_path, corpus)
    train, _ = tokenized(tmp_path, dataclasses.replace(corpus, views="flip"))
    for image in (0, plain.num_documents - 1):
        picture = plain.picture(image)
        mirrored = train.picture(plain.num_documents + image)
        np.testing.assert_array_equal(mirrored, picture[:, ::-1])
        (tokens,) = TOY.encode([TOY.prepare(mirrored)]).documents
        np.testing.assert_array_equal(train.document(plain.num_documents + image), tokens)
        np.testing.assert_array_equal(train.document(image), plain.document(image))


def test_original_files_of_a_set_are_seen_in_their_view(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    train, _ = tokenized(tmp_path, dataclasses.replace(corpus, views="flip"))
    drawn = context(tmp_path).make(
        Decode(
            documents=train, tokenizer=TOY, num_skipped=0, num_images=train.num_documents, seed=0
        )
    )
    documents = np.load(drawn.artifact.path / "documents.npy").tolist()
    originals = drawn.originals
    assert originals is not None
    num_images = train.num_documents // 2
    place = {document: row for row, document in enumerate(documents)}
    for image in (0, 5):
        flipped = originals[place[image]][:, ::-1]
        difference = flipped.astype(int) - originals[place[num_images + image]]
        assert np.abs(difference).max() <= 1  # of the resize, which rounds from the left


def test_a_view_is_left_out_with_its_image(tmp_path: Path) -> None:
    """Nearly a held-out picture, but its mirror image resembles none: both are left out."""
    write_samples(tmp_path / "held" / "0.tar", range(8))
    near = encode(np.clip(noise(1).astype(int) + 3, 0, 255).astype(np.uint8))
    members = [m for number in range(20, 30) for m in sample(f"{number:04d}", number)]
    write_tar(tmp_path / "train" / "0.tar", [*members, ("near.png", near)])
    corpus = WebDatasetCorpus(
        tars=str(tmp_path / "train"), holdout_tars=str(tmp_path / "held"), views="flip"
    )
    train, holdout = tokenized(tmp_path, corpus)
    assert holdout.num_documents == 8
    assert train.num_documents == 20
    assert not [key for key in keys(train) if "near" in key]
    assert train.artifact.facts["skipped"] == {"near_duplicate_of_holdout": 1}


def test_all_views_of_an_image_are_one_source(tmp_path: Path) -> None:
    members = [m for number in range(6) for m in sample(f"{number:04d}", number)]
    members += [("mirrored.png", encode(noise(2)[:, ::-1])), ("again.png", encode(noise(4)))]
    write_tar(tmp_path / "tars" / "0.tar", members)
    corpus = WebDatasetCorpus(tars=str(tmp_path / "tars"), holdout_fraction=0.0, views="flip")
    train, _ = tokenized(tmp_path, corpus)
    labels = context(tmp_path).make(Cluster(documents=train, near_duplicate_rms=6.0)).labels
    names = keys(train)
    of = {name: int(label) for name, label in zip(names, labels, strict=True)}
    assert len(set(of.values())) == 6
    assert all(of[name] == of[f"{name} (flip)"] for name in names[:8])
    assert of["0002"] == of["mirrored"]
    assert of["0004"] == of["again"]
    assert all(labels[label] == label and label <= i for i, label in enumerate(labels.tolist()))


def test_a_viewed_shard_is_known_by_shard_and_view(corpus: WebDatasetCorpus) -> None:
    shard = corpus.shards[0]
    flipped = ViewedShard(shard=shard, view="flip")
    crop = ViewedShard(shard=shard, view="centre")
    assert len({shard.identity(), flipped.identity(), crop.identity()}) == 3
    assert len(flipped) == len(shard)
    assert flipped.name != shard.name
    assert [record.key for record in flipped] == [record.key for record in shard]
    assert {record.view for record in flipped} == {"flip"}
    locator = next(iter(flipped)).locator
    assert IMAGES.read(flipped.read(locator)).shape == IMAGES.read(shard.read(locator)).shape
