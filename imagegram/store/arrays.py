"""Array files that are written row by row, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class ArrayFiles:
    """``.npy`` files with one number of rows, appended by batches; use as a context manager.

    Attributes:
        folder: where the files are written.
        count: number of rows of every file, known in advance.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> ArrayFiles:
        """Return the writer; files are opened by the first ``append``."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Append rows to ``<name>.npy``, whose header holds the final shape from the start."""
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.npy").open("wb")
            header = {
                "descr": np.lib.format.dtype_to_descr(rows.dtype),
                "fortran_order": False,
                "shape": (self.count, *rows.shape[1:]),
            }
            np.lib.format.write_array_header_1_0(self._files[name], header)
        np.ascontiguousarray(rows).tofile(self._files[name])
