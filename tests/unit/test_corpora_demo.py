"""The demo corpus is deterministic, nested, and keeps held-out pixels away from training."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegram.corpora import demo
from imagegram.corpora.demo import PHOTOS, DemoCorpus
from imagegram.corpora.tar import TarShard
from imagegram.errors import ConfigError, CorpusError, MissingDependencyError
from imagegram.images.decode import decode_image


def tiny(folder: Path, **fields: int) -> DemoCorpus:
    given = {"num_shards": 2, "images_per_shard": 40, "num_holdout": 20, **fields}
    return DemoCorpus(write_to=str(folder), **given)  # type: ignore[arg-type]


def boxes(shard: TarShard) -> list[tuple[str, tuple[int, int, int, int]]]:
    infos = [record.info or {} for record in shard]
    return [(info["photo"], tuple(info["box"])) for info in infos]


def test_crops_are_what_their_metadata_says(tmp_path: Path) -> None:
    corpus = tiny(tmp_path)
    for record in corpus.shards[1]:
        assert record.info is not None
        assert record.caption == record.info["photo"]
        pixels = decode_image(record.data)
        photo = demo._photo(record.info["photo"]).crop(record.info["box"])
        expected = photo.resize((64, 64), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(pixels, np.asarray(expected))
    seen = {photo for shard in corpus.shards for photo, _ in boxes(shard)}
    assert seen == set(PHOTOS)


def test_no_training_crop_touches_a_held_out_one(tmp_path: Path) -> None:
    corpus = tiny(tmp_path, images_per_shard=300, num_holdout=100)
    train = list(itertools.chain(*map(boxes, corpus.shards)))
    for photo, (left, top, right, bottom) in boxes(corpus.holdout_shards[0]):
        width, height = demo._photo(photo).size
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        for other, box in train:
            apart = box[2] <= left or right <= box[0] or box[3] <= top or bottom <= box[1]
            assert other != photo or apart


def test_bytes_are_deterministic_and_sizes_nested(tmp_path: Path) -> None:
    one = tiny(tmp_path / "a")
    two = tiny(tmp_path / "b", num_shards=3)
    first = [shard.path.read_bytes() for shard in (*one.shards, *one.holdout_shards)]
    second = [shard.path.read_bytes() for shard in (*two.shards[:2], *two.holdout_shards)]
    assert first == second
    assert tiny(tmp_path / "a", seed=1).shards[0].path.read_bytes() != first[0]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_written_corpus_is_left_alone(tmp_path: Path) -> None:
    path = tiny(tmp_path).shards[0].path
    before = path.stat().st_mtime_ns
    assert tiny(tmp_path).shards[0].path.stat().st_mtime_ns == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match=r"paths.outputs=FOLDER"):
        _ = tiny(tmp_path / "file").shards


def test_a_missing_photograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo.PHOTOS, "moon", ("skimage", "data/not_there.png"))
    with pytest.raises(MissingDependencyError, match="pip install scikit-image"):
        demo._photo("moon")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        demo._photo.__wrapped__("flower")


@pytest.mark.parametrize(
    "fields", [{"crop_scales": ()}, {"crop_scales": (0.9,)}, {"num_holdout": 0}, {"num_shards": 0}]
)
def test_wrong_numbers_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"corpus.*{next(iter(fields))}"):
        DemoCorpus(**fields)  # type: ignore[arg-type]
