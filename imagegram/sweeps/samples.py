"""Samples of a sweep side by side: equal seeds at equal places, one axis down, one across.

Of texts also the worst copy of a job, its runs coloured by their source, above the passage that the
largest part of it is from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from markupsafe import Markup
from PIL import Image

from imagegram.records import Images
from imagegram.report.passages import marked_passages, marked_text, read_copies
from imagegram.sweeps.aggregate import Configuration, configurations
from imagegram.sweeps.axes import Axis, describe, show
from imagegram.sweeps.jobs import Job, Scalar
from imagegram.texts.highlight import coded, visible
from imagegram.texts.modality import TEXTS_FILE
from imagegram.texts.samples import read_texts

#: Largest number of pictures in a row of the page, and on the whole page.
_ACROSS: Final = 16
_MAX_PICTURES: Final = 1200
#: Side in pixels to which larger pictures are reduced, the size at which the page shows them.
_MAX_SIDE: Final = 96
#: Texts of a cell, and characters of each.
_MAX_TEXTS: Final = 2
_MAX_CHARACTERS: Final = 300


@dataclass(frozen=True, kw_only=True)
class WorstCopy:
    """The sample of a job that copies most.

    Attributes:
        sample: its number.
        text: HTML, runs coloured by their source.
        source: name of the document that most of it is from; empty: of none.
        share: share of its tokens that are from there.
        passage: HTML of what stands there.
    """

    sample: int
    text: Markup
    source: str
    share: float
    passage: Markup


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The first samples of one job.

    Attributes:
        images: (K, S, S, 3) uint8; None when the job has no pictures.
        texts: HTML of the first texts; none when the job has no texts.
        copy: the worst copy among texts; None: there is none on record.
        text: the configuration in words.
        seed: seed of the job.
    """

    images: Images | None
    text: str
    seed: Scalar
    texts: tuple[Markup, ...] = ()
    copy: WorstCopy | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the job has no samples."""
        return self.images is None and not self.texts


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """Cells by two axes, with further axes fixed.

    Attributes:
        title: values of the further axes; empty without such axes.
        corner: names of the axes down and across.
        columns: headings; empty when there is one column.
        rows: heading and cells; None where there is no job.
        num_across: number of samples in a row of a cell.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    num_across: int


def sample_tables(jobs: Sequence[Job], axes: Sequence[Axis]) -> tuple[SampleTable, ...]:
    """Return tables of the first samples of every configuration, of its lowest seed.

    The axis with most values goes down, the next across; every combination of further axes has a
    table of its own.
    """
    found = configurations([job for job in jobs if job.is_completed], axes)
    if not found:
        return ()
    if 2 * len(found) < math.prod(len(axis.values) for axis in axes):
        tables = [_listed(found, axes)]  # axes sampled at random: a table would be nearly empty
    else:
        tables = _crossed(found, axes)
    return tuple(table for table in tables if _has_samples(table))


def _listed(found: Sequence[Configuration], axes: Sequence[Axis]) -> SampleTable:
    """Return a table with one row per configuration."""
    count = max(1, min(_ACROSS, _MAX_PICTURES // len(found)))
    cells = [_cell(configuration, axes, count) for configuration in found]
    rows = tuple((cell.text, (cell,)) for cell in cells)
    return SampleTable(title="", corner="", columns=(), rows=rows, num_across=count)


def _crossed(found: Sequence[Configuration], axes: Sequence[Axis]) -> list[SampleTable]:
    by_size = sorted(axes, key=lambda axis: -len(axis.values))
    down, across, further = by_size[:1], by_size[1:2], by_size[2:]
    num_columns = max([len(axis.values) for axis in across], default=1)
    num_across = min(max(_ACROSS // num_columns, 1), 8 if across else _ACROSS)
    wanted = num_across * (2 if across and num_across > 2 else 1)
    count = max(1, min(wanted, _MAX_PICTURES // len(found)))
    tables: dict[str, dict[tuple[Scalar, ...], Cell]] = {}
    for configuration in found:
        place = tuple(configuration.at[axis.key] for axis in down + across)
        title = describe(configuration.at, further)
        tables.setdefault(title, {})[place] = _cell(configuration, axes, count)
    return [
        SampleTable(
            title=title,
            corner=" / ".join(axis.label for axis in down + across),
            columns=tuple(show(value) for axis in across for value in axis.values),
            rows=_rows(cells, down, across),
            num_across=num_across,
        )
        for title, cells in tables.items()
    ]


def _has_samples(table: SampleTable) -> bool:
    return any(cell and not cell.is_empty for _, cells in table.rows for cell in cells)


def _rows(
    cells: dict[tuple[Scalar, ...], Cell], down: Sequence[Axis], across: Sequence[Axis]
) -> tuple[tuple[str, tuple[Cell | None, ...]], ...]:
    if not down:
        return (("", tuple(cells.values())),)
    columns: list[tuple[Scalar, ...]] = [(value,) for axis in across for value in axis.values]
    return tuple(
        (show(row), tuple(cells.get((row, *column)) for column in columns or [()]))
        for row in down[0].values
    )


def _cell(configuration: Configuration, axes: Sequence[Axis], count: int) -> Cell:
    job = min(configuration.jobs, key=lambda job: int(job.seed or 0))
    return Cell(
        images=first_samples(job, count),
        text=describe(configuration.at, axes),
        seed=job.seed,
        texts=first_texts(job),
        copy=worst_copy(job),
    )


def first_samples(job: Job, count: int) -> Images | None:
    """Read at most ``count`` samples, (K, S, S, 3) uint8; None when there are no samples."""
    try:
        images_BHWC = np.load(job.folder / "samples" / "images.npy", mmap_mode="r")[:count]
    except (OSError, ValueError):
        return None
    factor = -(-images_BHWC.shape[1] // _MAX_SIDE)
    return np.stack([np.asarray(Image.fromarray(image).reduce(factor)) for image in images_BHWC])


def first_texts(job: Job) -> tuple[Markup, ...]:
    """Return the beginnings of the first texts as HTML; none where there are no texts."""
    try:
        texts = read_texts(job.folder / "samples" / TEXTS_FILE)[:_MAX_TEXTS]
    except (OSError, ValueError, KeyError):
        return ()
    return tuple(
        visible(text[:_MAX_CHARACTERS] + (" …" if len(text) > _MAX_CHARACTERS else ""))
        for text in texts
    )


def worst_copy(job: Job) -> WorstCopy | None:
    """Return the text of a job that copies most; None where none is on record."""
    try:
        record = read_copies(job.folder)[0]
        source = record["sources"][0] if record["sources"] else None
        return WorstCopy(
            sample=record["sample"],
            text=marked_text(record),
            source=coded(source["key"]) if source else "",
            share=source["share"] if source else 0.0,
            passage=marked_passages(record)[0] if source else Markup(""),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None
