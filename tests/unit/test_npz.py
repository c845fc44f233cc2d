from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagegram.errors import ArtifactError
from imagegram.npz import map_arrays


def test_arrays_are_mapped_as_they_were_saved(tmp_path: Path) -> None:
    arrays = {
        "counts": np.arange(35, dtype=np.uint16).reshape(5, 7),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(3.5),
    }
    np.savez(tmp_path / "all.npz", **arrays)
    found = map_arrays(tmp_path / "all.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert isinstance(found[name], np.memmap)
        np.testing.assert_array_equal(found[name], array)


def test_a_compressed_file_cannot_be_mapped(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "small.npz", counts=np.zeros(9))
    with pytest.raises(ArtifactError, match=r"counts\.npy is compressed"):
        map_arrays(tmp_path / "small.npz")
