"""The corpus of the benchmarks: seeded, nested, resumed, and read as CC12M is."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import many_images
from benchmarks.many_images import main
from imagegram.corpora.tar import TarShard
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.images.decode import read_picture
from tests.pictures import write_samples


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The words of the command that follow number and folder."""
    write_samples(tmp_path / "source.tar", range(5))
    return [str(tmp_path / "*.tar"), "--side", "24", "--per-tar", "4"]


def tars(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "cc12m").iterdir())}


def test_a_corpus_is_read_as_cc12m_is(tmp_path: Path, words: list[str]) -> None:
    assert main(["10", str(tmp_path / "out"), *words]) == 0
    assert list(tars(tmp_path / "out")) == ["00000.tar", "00001.tar", "00002.tar"]
    corpus = WebDatasetCorpus(tars=f"{tmp_path}/out/cc12m/{{00000..01099}}.tar", num_shards=3)
    records = [record for shard in corpus.shards for record in shard]
    places = [divmod(number, 4) for number in range(10)]
    assert [record.key for record in records] == [f"{tar:05d}{n:04d}" for tar, n in places]
    assert all(record.failure is None for record in records)
    assert all(record.info and record.info["key"] == record.key for record in records)
    assert {read_picture(record.data).shape for record in records} == {(24, 24, 3)}
    assert len({record.data for record in records}) == 10  # two sources an image, no crop twice


def test_a_larger_corpus_begins_with_the_smaller(tmp_path: Path, words: list[str]) -> None:
    main(["6", str(tmp_path / "small"), *words])
    main(["11", str(tmp_path / "large"), *words])
    small, large = tars(tmp_path / "small"), tars(tmp_path / "large")
    assert small["00000.tar"] == large["00000.tar"]
    half = TarShard(name="1", path=tmp_path / "small" / "cc12m" / "00001.tar")
    whole = TarShard(name="1", path=tmp_path / "large" / "cc12m" / "00001.tar")
    assert [record.data for record in half] == [record.data for record in whole][:2]
    main(["6", str(tmp_path / "other"), *words, "--seed", "1"])
    assert tars(tmp_path / "other")["00000.tar"] != small["00000.tar"]


def test_a_stopped_command_goes_on_with_what_is_missing(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(["10", str(tmp_path / "once"), *words])
    crop = many_images.Sources.crop

    def stop(sources: many_images.Sources, number: int) -> dict[str, bytes]:
        if number == 6:
            raise KeyboardInterrupt
        return crop(sources, number)

    monkeypatch.setattr(many_images.Sources, "crop", stop)
    with pytest.raises(KeyboardInterrupt):
        main(["10", str(tmp_path / "twice"), *words])
    cut: list[int] = []
    monkeypatch.setattr(
        many_images.Sources, "crop", lambda own, number: cut.append(number) or crop(own, number)
    )
    main(["10", str(tmp_path / "twice"), *words])
    assert cut == list(range(4, 10))
    assert tars(tmp_path / "twice") == tars(tmp_path / "once")
    main(["9", str(tmp_path / "twice"), *words])  # the last tar is another one now
    assert cut[6:] == [8]


@pytest.mark.parametrize("given", [["0"], ["1", "--side", "0"], ["1", "--per-tar", "10001"]])
def test_what_no_corpus_can_be_is_refused(
    tmp_path: Path, words: list[str], given: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main([given[0], str(tmp_path / "out"), *words, *given[1:]])
    assert not (tmp_path / "out").exists()
