"""Which document a row is of: what intervals over documents resample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imagegram.intervals import mean_over_images
from imagegram.metrics.verbatim import VerbatimMetric
from imagegram.stages.generate import Decode, select_documents
from imagegram.stages.measure import Untraced, _content
from imagegram.stages.surface import EncodeSurface
from tests.pictures import context
from tests.rendered_codes import toy_bpe
from tests.text_sets import TextReference, text_set
from tests.token_shards import FakeTokens, FakeTokenShard


def test_windows_of_a_text_are_rows_of_one_document(tmp_path: Path) -> None:
    rows = tuple(tuple(range(65, 65 + size)) for size in (7, 1, 12, 0, 5))
    parts = (FakeTokenShard(rows=rows, length=None),)
    tokens: Any = context(tmp_path).make(FakeTokens(parts=parts))
    windows = replace(tokens, window=3).windows()
    bpe = replace(toy_bpe(tmp_path), window=3)
    how = {"tokenizer": bpe, "num_skipped": 0, "num_images": 100, "seed": 5}
    made: Any = context(tmp_path).make(Decode(documents=windows, **how))
    order = select_documents(windows.num_documents, 5)
    expected = np.repeat([0, 1, 2, 4], [3, 1, 4, 2])[order]
    np.testing.assert_array_equal(made.row_documents, expected)
    np.testing.assert_array_equal(Untraced(inner=made).row_documents, expected)
    written = context(tmp_path).make(EncodeSurface(images=made, tokenizer=bpe))
    np.testing.assert_array_equal(written.row_documents, expected)
    samples = replace(made, documents=None)  # the same tokens, each row of its own
    assert samples.row_documents is None
    assert _content(samples) != _content(made)


def test_a_score_of_windows_has_an_interval_over_their_documents() -> None:
    texts = [f"{'the wolf ' * (1 + n // 5)}{chr(97 + n % 26)}" for n in range(60)]
    reference: Any = TextReference.of(["the wolf the wolf the wolf the wolf"])
    documents = np.arange(60) // 5
    apart = text_set(texts)
    together = replace(apart, row_documents=documents)
    scores = [
        VerbatimMetric().measure(generated=images, reference=reference).scalars
        for images in (apart, together)
    ]
    lengths = VerbatimMetric().measure(generated=apart, reference=reference).curves
    for (name, one), other in zip(scores[0].items(), scores[1].values(), strict=True):
        assert one.value == other.value
        if name.startswith("longest_run"):
            assert other == mean_over_images(lengths[name], seed=0, documents=documents)
            assert other.high - other.low > 1.5 * (one.high - one.low)
