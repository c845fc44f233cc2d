"""A duplicated corpus holds the images of another one, each as often as its content says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from imagegram.corpora.demo import DemoCorpus
from imagegram.corpora.duplicated import DuplicatedCorpus, DuplicatedDemoCorpus, Repetition
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import ConfigError, CorpusError
from imagegram.images.decode import decode_image, thumbnail
from imagegram.images.near_duplicates import cluster_labels
from tests.pictures import encode, noise, sample, write_samples, write_tar

HALF = {"multiplicities": (1, 4), "shares": (0.5, 0.5)}


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Two training tars of 12 images and a held-out one of 3."""
    write_samples(tmp_path / "train" / "00000.tar", range(12))
    write_samples(tmp_path / "train" / "00001.tar", range(12, 24))
    write_samples(tmp_path / "holdout" / "00000.tar", range(100, 103))
    return tmp_path


def repeated(root: Path, **fields: object) -> DuplicatedCorpus:
    places = {"tars": f"{root}/train", "holdout_tars": f"{root}/holdout", "write_to": f"{root}/out"}
    return DuplicatedCorpus(**{**places, **HALF, **fields})  # type: ignore[arg-type]


def test_every_image_is_there_as_often_as_its_content_says(tars: Path) -> None:
    corpus = repeated(tars)
    plain = WebDatasetCorpus(tars=f"{tars}/train")
    assert [shard.name for shard in corpus.shards] == ["00000", "00001"]
    seen = set()
    for shard, source in zip(corpus.shards, plain.shards, strict=True):
        records = list(shard)
        originals = {record.key: record for record in source}
        times = {key: corpus.repetition.times(record.data) for key, record in originals.items()}
        assert Counter((record.info or {})["source_key"] for record in records) == times
        assert len({record.key for record in records}) == len(records)
        for record in records:
            info = record.info or {}
            original = originals[info.pop("source_key")]
            assert record.data == original.data
            assert record.caption == original.caption == "a caption"
            assert 0 <= info.pop("copy") < info["multiplicity"] == times[original.key]
            assert info == {**(original.info or {}), "multiplicity": info["multiplicity"]}
        seen |= set(times.values())
    assert seen == {1, 4}


def test_copies_are_clusters_of_near_duplicates(tars: Path) -> None:
    (first, _) = repeated(tars).shards
    records = list(first)
    labels = cluster_labels(
        np.stack([thumbnail(decode_image(record.data)) for record in records]), rms=6.0
    )
    sizes = np.bincount(labels)[labels]
    assert sizes.tolist() == [(record.info or {})["multiplicity"] for record in records]


def test_held_out_images_and_policy_are_those_of_the_other_corpus(tars: Path) -> None:
    corpus = repeated(tars, near_duplicate_rms=3.0)
    plain = WebDatasetCorpus(tars=f"{tars}/train", holdout_tars=f"{tars}/holdout")
    assert corpus.holdout_shards == plain.holdout_shards
    assert corpus.near_duplicate_rms == 3.0


def test_shares_are_kept_and_the_seed_chooses() -> None:
    images = [number.to_bytes(4, "big") for number in range(4000)]
    shares = (0.675, 0.225, 0.075, 0.025)
    first, other = (
        Repetition(multiplicities=(1, 3, 9, 27), shares=shares, seed=seed) for seed in (0, 1)
    )
    times = [first.times(image) for image in images]
    for multiplicity, share in zip((1, 3, 9, 27), shares, strict=True):
        error = np.sqrt(4000 * share * (1 - share))
        assert abs(times.count(multiplicity) - 4000 * share) < 4 * error
    assert [other.times(image) for image in images] != times


def test_a_share_of_nothing_or_of_all() -> None:
    images = [number.to_bytes(4, "big") for number in range(200)]
    nothing = Repetition(multiplicities=(2, 5, 7), shares=(0.0, 1.0, 0.0), seed=0)
    assert {nothing.times(image) for image in images} == {5}


def test_bytes_are_deterministic_and_sizes_nested(tars: Path) -> None:
    both = repeated(tars)
    written = [shard.path.read_bytes() for shard in both.shards]
    one = repeated(tars, num_shards=1, write_to=f"{tars}/elsewhere")
    assert [shard.path.read_bytes() for shard in one.shards] == written[:1]
    assert repeated(tars, seed=1).shards[0].path != both.shards[0].path
    assert not list(tars.rglob("*.partial"))


def test_a_written_corpus_is_left_alone_until_its_images_change(tars: Path) -> None:
    (first, second) = repeated(tars).shards
    before = first.path.stat().st_mtime_ns
    write_samples(tars / "train" / "00001.tar", range(50, 60))
    (again, changed) = repeated(tars).shards
    assert again.path.stat().st_mtime_ns == before
    assert changed.path != second.path
    keys = {(record.info or {})["seed"] for record in changed}
    assert keys == set(range(50, 60))


def test_a_run_that_was_killed_leaves_no_tar(tars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Repetition, data: bytes) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Repetition, "times", die)
        with pytest.raises(KeyboardInterrupt):
            _ = repeated(tars).shards
    assert not list((tars / "out").glob("[!.]*.tar"))
    assert len(repeated(tars).shards) == 2


def test_unreadable_images_are_left_out(tmp_path: Path) -> None:
    members = [*sample("0", 0), ("1.txt", b"no image"), ("2.JPG", encode(noise(2), "JPEG"))]
    write_tar(tmp_path / "train" / "00000.tar", members)
    corpus = DuplicatedCorpus(
        tars=f"{tmp_path}/train", write_to=f"{tmp_path}/out", multiplicities=(2,), shares=(1.0,)
    )
    records = list(corpus.shards[0])
    keys = ["000000_000", "000000_001", "000002_000", "000002_001"]
    assert [record.key for record in records] == keys
    assert [record.locator.member[-4:] for record in records] == [".png"] * 2 + [".jpg"] * 2
    assert {record.failure for record in records} == {None}
    assert records[2].caption is None


def test_the_demo_repeats_its_crops(tmp_path: Path) -> None:
    sizes = {"num_shards": 2, "images_per_shard": 20, "num_holdout": 5}
    plain = DemoCorpus(write_to=str(tmp_path), **sizes)  # type: ignore[arg-type]
    corpus = DuplicatedDemoCorpus(write_to=str(tmp_path), **sizes, **HALF)  # type: ignore[arg-type]
    assert corpus.holdout_shards == plain.holdout_shards
    assert [shard.name for shard in corpus.shards] == [shard.name for shard in plain.shards]
    images = [record.data for shard in corpus.shards for record in shard]
    expected = {record.data for shard in plain.shards for record in shard}
    assert Counter(images) == {data: corpus.repetition.times(data) for data in expected}


def test_lists_of_the_configuration_become_tuples(tars: Path) -> None:
    corpus = repeated(tars, multiplicities=[1, 2], shares=[0.5, 0.5])
    assert (corpus.multiplicities, corpus.shares) == ((1, 2), (0.5, 0.5))


def test_a_folder_that_cannot_be_written(tars: Path) -> None:
    (tars / "file").write_text("in the way")
    with pytest.raises(CorpusError, match=r"corpus duplicated .* paths.outputs=FOLDER"):
        _ = repeated(tars, write_to=f"{tars}/file").shards


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"multiplicities": ()}, "multiplicities"),
        ({"multiplicities": (0, 3)}, "multiplicities"),
        ({"shares": (1.0,)}, "shares"),
        ({"shares": ()}, "shares"),
        ({"shares": (0.5, 0.6)}, "shares"),
        ({"shares": (-0.5, 1.5)}, "shares"),
        ({"num_shards": 0}, "num_shards"),
    ],
)
def test_wrong_numbers_are_refused(fields: dict[str, object], named: str) -> None:
    for corpus in (DuplicatedCorpus, DuplicatedDemoCorpus):
        with pytest.raises(ConfigError, match=f"corpus.{named} must"):
            corpus(**{**HALF, **fields})  # type: ignore[arg-type]
