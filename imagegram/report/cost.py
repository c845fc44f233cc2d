"""Cost of a report: the run folder, rewritten by every run, and the search for its pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from imagegram.report.pairs import FindPairs
from imagegram.store.cost import PROCESS_BYTES, Cost
from imagegram.store.stage import Surroundings

#: Bytes of a run folder besides pictures (loggers and Hydra write there too), most pictures of
#: report.html, and seconds.
_RUN_FOLDER_BYTES: Final = 1_000_000
_PICTURES: Final = 240
_SECONDS: Final = 0.5


def report_cost(at: Surroundings, **fields: Any) -> Cost:
    """Return the cost of a report; its files are not an artifact.

    Args:
        at: store, workers and memory that costs depend on.
        fields: of :class:`~imagegram.report.pairs.FindPairs`.
    """
    pairs, generated = FindPairs(**fields), fields["generated"]
    folder = run_folder_bytes(int(generated.artifact.facts.get("image_size", 0)))
    search = pairs.forecast(at)
    return replace(
        search,
        artifact=None,
        cached=0,
        images=generated.num_images,
        disk_bytes=folder + search.disk_bytes,
        memory_bytes=PROCESS_BYTES,
        seconds=_SECONDS + search.seconds,
    )


def run_folder_bytes(image_size: int) -> int:
    """Return the bytes of the page with its base64 pictures; the samples are planned apart."""
    side = max(image_size, 64 // max(image_size, 1) * image_size)
    picture = min(3 * image_size**2 + side**2 // 8 + 300, 60_000)
    return _RUN_FOLDER_BYTES + _PICTURES * picture * 4 // 3
