"""tools.export: the file is what numpy reads, and samples of another number or size are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imagegram.errors import ConfigError, StageError
from imagegram.store.run_files import SUMMARY
from imagegram.tools import export


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3)).astype(np.uint8)


@pytest.fixture
def run(tmp_path: Path, images: NDArray[np.uint8]) -> Path:
    folder = tmp_path / "run"
    (folder / "samples").mkdir(parents=True)
    (folder / SUMMARY).write_text("{}")
    np.save(folder / "samples" / "images.npy", images)
    return folder


def words(run: Path, **keys: object) -> list[str]:
    return [f"run={run}", *(f"{key}={value}" for key, value in keys.items())]


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_the_first_samples_are_read_back(
    run: Path, images: NDArray[np.uint8], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_BLOCK", block)
    out = run / "samples.npz"
    assert export.main(words(run, out=out, num=6, size=5)) == 0
    with np.load(out) as stored:
        assert list(stored) == ["arr_0"]
        np.testing.assert_array_equal(stored["arr_0"], images[:6])
        assert stored["arr_0"].dtype == np.uint8
    np.savez(run / "numpy.npz", images[:6])  # which the evaluator's authors wrote
    ours, theirs = ((run / name).stat().st_size for name in ("samples.npz", "numpy.npz"))
    assert abs(ours - theirs) < 64


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"num": 8, "size": 5},
            "has 7 samples, but num=8 are asked for; run it with num_sam",
        ),
        ({"num": 7}, "are 5 x 5 pixels, but size=256 is asked for; run it with output_size=256"),
        ({"size": 5}, "num=50000 are asked for"),
        ({"num": 0, "size": 5}, "num=0 must be a whole number"),
        ({"num": "many"}, "num=many must be a whole number"),
    ],
)
def test_another_number_or_size_is_refused(
    run: Path, keys: dict[str, object], message: str
) -> None:
    out = run / "samples.npz"
    with pytest.raises(ConfigError, match=message):
        export.main(words(run, out=out, **keys))
    assert not out.exists()


def test_nothing_is_written_over_and_nothing_half_written_is_left(run: Path) -> None:
    out = run / "samples.npz"
    out.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="exists already"):
        export.main(words(run, out=out, num=7, size=5))
    assert out.read_bytes() == b"mine"
    with pytest.raises(StageError, match="cannot write"):
        export.main(words(run, out=run / "nowhere" / "samples.npz", num=7, size=5))
    with pytest.raises(ConfigError, match="out= is missing"):
        export.main(words(run))
    assert sorted(path.name for path in run.iterdir()) == ["samples", "samples.npz", SUMMARY]


def test_a_run_of_texts_is_refused(run: Path) -> None:
    (run / "samples" / "images.npy").unlink()
    with pytest.raises(ConfigError, match=r"images.npy is not there"):
        export.main(words(run, out=run / "samples.npz"))
