"""The Modality contract: images and texts answer the same questions of the stages."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.errors import Unreadable
from imagegram.images.modality import IMAGES, IMAGES_FILE
from imagegram.protocols import Modality
from imagegram.texts.modality import TEXTS, TEXTS_FILE
from imagegram.texts.samples import read_texts
from tests.documents import STORIES
from tests.pictures import encode, noise


@dataclass(frozen=True)
class Case:
    """A modality with files of four items, the last one nearly the first, and a limit."""

    modality: Modality
    files: Sequence[bytes]
    limit: float
    facts: dict[str, Any]


PHOTOS = [encode(noise(seed)) for seed in range(3)]
NEARLY = encode(np.clip(noise(0).astype(int) + 1, 0, 255).astype(np.uint8))
CASES = {
    "images": Case(IMAGES, [*PHOTOS, NEARLY], 6.0, {"width": 48, "height": 48}),
    "texts": Case(
        TEXTS,
        [*(story.encode() for story in STORIES[:3]), STORIES[0].upper().encode()],
        0.8,
        {"characters": len(STORIES[0]), "bytes": len(STORIES[0])},
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_items_are_read_or_refused_with_a_reason(case: Case) -> None:
    with case.modality.reading():
        item = case.modality.read(case.files[0])
        facts = case.modality.facts(item)
        assert facts.keys() == case.facts.keys()
        for damaged in (b"", b"\0\xff\xfe"):
            with pytest.raises(Unreadable) as refused:
                case.modality.read(damaged)
            assert refused.value.reason.isidentifier()


def test_sketches_find_near_duplicates(case: Case) -> None:
    modality = case.modality
    with modality.reading():
        each = [modality.sketch(modality.read(data)) for data in case.files]
    sketches = modality.stack(each)
    assert len(sketches) == 4
    empty = modality.stack([])
    assert empty.shape == (0, *sketches.shape[1:])
    assert empty.dtype == sketches.dtype
    find = modality.search(sketches[:3], limit=case.limit)
    assert [find(sketch).tolist() for sketch in each] == [[0], [1], [2], [0]]
    assert modality.search(empty, limit=case.limit)(each[0]).tolist() == []
    assert modality.cluster(sketches, limit=case.limit).tolist() == [0, 1, 2, 0]
    assert len(modality.cluster(empty, limit=case.limit)) == 0


def test_items_are_written_batch_by_batch(case: Case, tmp_path: Path) -> None:
    modality = case.modality
    items = [modality.read(data) for data in case.files]
    for name, sizes in (("together", [4]), ("apart", [1, 3])):
        (tmp_path / name).mkdir()
        with modality.writer(tmp_path / name, 4) as writer:
            start = 0
            for size in sizes:
                writer.add(items[start : start + size])
                start += size
            assert writer.facts()
    files = sorted(path.name for path in (tmp_path / "together").iterdir())
    for file in files:
        together, apart = ((tmp_path / name / file).read_bytes() for name in ("together", "apart"))
        assert together == apart
    assert len({IMAGES_FILE, TEXTS_FILE} & set(files)) == 1


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    with IMAGES.writer(tmp_path, 2) as writer:
        writer.add([noise(0), noise(1)])
    np.testing.assert_array_equal(np.load(tmp_path / IMAGES_FILE), np.stack([noise(0), noise(1)]))
    with TEXTS.writer(tmp_path, 2) as texts:
        texts.add(STORIES[:2])
    assert read_texts(tmp_path / TEXTS_FILE) == STORIES[:2]


def test_it_travels(case: Case) -> None:
    assert pickle.loads(pickle.dumps(case.modality)) == case.modality
