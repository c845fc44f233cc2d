from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.report.pairs import FindPairs
from imagegram.report.provenance import (
    NAMED_SOURCES,
    TracedSample,
    TraceProvenance,
    read_provenance,
    trace_samples,
    write_provenance,
)
from imagegram.stages.evaluate import Evaluation
from imagegram.store.artifacts import ArtifactStore
from tests.image_sets import (
    LAYOUT,
    TOKENIZER,
    MemoryImages,
    MemoryReference,
    MemoryTokens,
    random_tokens,
)

# Few ids, so that phrases of several tokens are shared; documents 5 and 20 are one picture.
CORPUS = MemoryTokens(
    shards=[random_tokens(20, seed=0, vocabulary=6), random_tokens(10, seed=1, vocabulary=6)]
)
CORPUS.shards[1][0] = CORPUS.shards[0][5]
NEW = random_tokens(6, seed=2, vocabulary=7)  # id 6 is in no training image
SAMPLES = MemoryImages.of(
    np.concatenate([NEW, CORPUS.all[[20, 3]]]),
    source_document=np.tile(np.int32([3]), (8, LAYOUT.num_tokens)),
)


def traced(rows: list[int]) -> tuple[TracedSample, ...]:
    return trace_samples(
        rows,
        generated=SAMPLES,
        index=CORPUS.index(),
        clusters=MemoryReference(CORPUS).clusters(),
        tokens=CORPUS,
        tokenizer=TOKENIZER,
    )


def longest_phrase(row: np.ndarray, start: int) -> int:
    """By looking at every place of every document."""
    best = 0
    for document in CORPUS.all:
        for place in range(len(document)):
            length = 0
            while (
                start + length < len(row)
                and place + length < len(document)
                and document[place + length] == row[start + length]
            ):
                length += 1
            best = max(best, length)
    return best


def test_phrases_are_the_longest_and_lie_where_they_are_said_to_lie() -> None:
    for one in traced(list(range(8))):
        row = SAMPLES.tokens[one.sample]
        start = 0
        while start < len(row):
            length = longest_phrase(row, start)
            assert one.spans[start] == length
            if not length:
                assert one.documents[start] == one.clusters[start] == one.positions[start] == -1
                start += 1
                continue
            phrase = slice(start, start + length)
            assert len(set(one.documents[phrase].tolist())) == 1
            document = CORPUS.all[one.documents[start]]
            np.testing.assert_array_equal(document[one.positions[phrase]], row[phrase])
            np.testing.assert_array_equal(np.diff(one.positions[phrase]), 1)
            start += length
    assert any((one.spans == 0).any() for one in traced(list(range(6))))


def test_sources_are_clusters_with_their_tokens_and_pictures() -> None:
    clusters = MemoryReference(CORPUS).clusters()
    for one in traced([0, 1, 2, 3]):
        seen = one.documents >= 0
        np.testing.assert_array_equal(one.clusters[seen], clusters[one.documents[seen]])
        counts = {int(c): int((one.clusters == c).sum()) for c in set(one.clusters[seen].tolist())}
        expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NAMED_SOURCES]
        assert [(source.cluster, source.num_tokens) for source in one.sources] == expected
        assert one.num_sources == len(counts)
        for rank, source in enumerate(one.sources):
            assert source.share == source.num_tokens / LAYOUT.num_tokens
            assert source.metadata["key"] == f"k{source.document}"
            assert clusters[source.document] == source.cluster
            assert (source.image is not None) == (rank < 3)
            if source.image is not None:
                picture = TOKENIZER.decode(CORPUS.all[[source.document]])[0]
                np.testing.assert_array_equal(source.image, picture)


def test_a_copy_is_one_phrase_of_one_source_and_a_near_duplicate_is_no_other_source() -> None:
    duplicate, copy = traced([6, 7])
    for one, cluster in ((duplicate, 5), (copy, 3)):
        assert set(one.spans.tolist()) == {LAYOUT.num_tokens}
        assert set(one.clusters.tolist()) == {cluster}
        np.testing.assert_array_equal(one.positions, np.arange(LAYOUT.num_tokens))
        assert one.num_sources == 1
    # The sampler took all tokens from document 3, says the trace.
    assert (duplicate.drawn_share, copy.drawn_share) == (0.0, 1.0)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    first = traced([7, 0, 4])
    facts = write_provenance(tmp_path, first)
    again = read_provenance(tmp_path)
    assert facts["num_samples"] == 3
    assert [one.sample for one in again] == [7, 0, 4]
    for one, other in zip(first, again, strict=True):
        for name in ("documents", "clusters", "positions", "spans"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert one.drawn_share == other.drawn_share
        for source, same in zip(one.sources, other.sources, strict=True):
            values, others = (dataclasses.asdict(part) for part in (source, same))
            images = [part.pop("image") for part in (values, others)]
            assert values == others
            np.testing.assert_array_equal(*images)


def test_the_stage_traces_the_worst_pairs_in_their_order(tmp_path: Path) -> None:
    store = ArtifactStore(root=tmp_path)
    context = RunContext(store=store, executor=SerialExecutor(), progress=SilentProgress())
    artifact_of_nothing = context.store.make(_Shares(), context)[0]
    shared = {"generated": SAMPLES, "tokens": CORPUS, "tokenizer": TOKENIZER}
    pairs = context.make(FindPairs(evaluation=Evaluation(artifact=artifact_of_nothing), **shared))
    stage = TraceProvenance(
        pairs=pairs, index=CORPUS.index(), near_duplicate_rms=6.0, max_samples=3, **shared
    )
    samples = context.make(stage).samples
    assert [one.sample for one in samples] == [pair.sample for pair in pairs.pairs[:3]]
    assert [one.sample for one in samples] == [7, 6, 5]
    assert store.make(stage, context)[1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shares:
    """An evaluation by which the last sample copies most."""

    kind = "evaluation"
    VERSION = 1

    def run(self, out: Path, context: object) -> dict[str, int]:
        np.savez(out / "curves.npz", **{"generated/source_share": np.arange(8.0)})
        return {}

    def load(self, artifact: object) -> object:
        return artifact


@pytest.mark.parametrize("token", [0, LAYOUT.num_tokens - 1])
def test_a_sample_that_no_training_image_shares_a_token_with_has_no_source(
    token: int, tmp_path: Path
) -> None:
    strange = MemoryImages.of(np.full((1, LAYOUT.num_tokens), 200, np.uint16))
    (one,) = trace_samples(
        [0],
        generated=strange,
        index=CORPUS.index(),
        clusters=MemoryReference(CORPUS).clusters(),
        tokens=CORPUS,
        tokenizer=TOKENIZER,
    )
    assert one.sources == ()
    assert one.drawn_share is None
    assert one.clusters[token] == -1
    write_provenance(tmp_path, [one])
    assert read_provenance(tmp_path)[0].sources == ()
