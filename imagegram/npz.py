"""Arrays of an uncompressed ``.npz`` file as memory maps.

``np.load`` reads a member of an archive as a whole, whatever ``mmap_mode`` says. ``np.savez``
stores members as they are, so each one is a piece of the file that can be mapped.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ArtifactError

#: Bytes of a local file header before the name, and where its two lengths lie.
_HEADER_BYTES: Final = 30
_LENGTHS_AT: Final = 26


def map_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a file that ``np.savez`` wrote, read-only and memory-mapped.

    Raises:
        ArtifactError: when a member is compressed, so that it lies nowhere as it is.
    """
    arrays: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ArtifactError(
                    f"{path}: {member.filename} is compressed, so no part of the file holds it as "
                    "it is; write the file with np.savez"
                )
            stream.seek(member.header_offset + _LENGTHS_AT)
            lengths = np.frombuffer(stream.read(4), dtype="<u2")  # of the name, of the extra field
            stream.seek(member.header_offset + _HEADER_BYTES + int(lengths.sum()))
            np.lib.format.read_magic(stream)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            arrays[member.filename.removesuffix(".npy")] = np.memmap(
                path,
                dtype=dtype,
                mode="r",
                offset=stream.tell(),
                shape=shape,
                order="F" if fortran else "C",
            )
    return arrays
