"""The remedy that a message gives is the one for its cause."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imagegram.errors import OF_THE_SYSTEM, explain_os_error

OUTPUTS = Path("/somewhere/outputs")
PHOTO = "/photos/my cat.jpg"


def explained(number: int, name: str | None) -> str:
    return explain_os_error(OSError(number, os.strerror(number), name), outputs=OUTPUTS)


@pytest.mark.parametrize(
    ("number", "name", "remedy", "never"),
    [
        (errno.EACCES, PHOTO, "chmod -R u+rX '/photos/my cat.jpg'", "paths.outputs"),
        (errno.EACCES, f"{OUTPUTS}/runs/1", "paths.outputs=FOLDER", "chmod"),
        (errno.EROFS, None, "paths.outputs=FOLDER", "chmod"),
        (errno.EMFILE, PHOTO, "ulimit -n", "space"),
        (errno.EMFILE, f"{OUTPUTS}/x", "ulimit -n", "space"),
        (errno.ENOSPC, f"{OUTPUTS}/x", "free space, or give another folder", "ulimit"),
        (errno.ENOSPC, "/media/x", "free space on that disk", "paths.outputs"),
        (errno.EIO, PHOTO, "disk", "paths.outputs"),
        (errno.ENOENT, PHOTO, "put it back", "paths.outputs"),
        (errno.ENOMEM, None, "runtime.workers=1", "space"),
        (errno.ENAMETOOLONG, f"{OUTPUTS}/x", "another folder", "chmod"),
    ],
)
def test_a_remedy_fits_its_cause(number: int, name: str | None, remedy: str, never: str) -> None:
    told = explained(number, name)
    assert remedy in told
    assert never not in told
    assert os.strerror(number) in told
    assert (name or str(OUTPUTS)) in told


def test_every_error_of_the_system_has_a_remedy() -> None:
    for number in OF_THE_SYSTEM:
        for name in (PHOTO, None):
            assert explained(number, name).partition("; ")[2]
