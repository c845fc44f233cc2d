"""Tokenizers with a network are fed by the batch; shorter token sets are cut from longer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import TokenError
from imagegram.images.decode import decode_image
from imagegram.images.modality import IMAGES
from imagegram.images.resampling import resize
from imagegram.indexes.build.stage import BuildIndex
from imagegram.layout import TokenLayout, TokenSpec
from imagegram.protocols import Modality
from imagegram.records import Encoded, Images, Tokens
from imagegram.stages.prefix import Prefix, PrefixShard
from imagegram.stages.select import tokenize_shards
from imagegram.stages.tokenize import Tokenize
from imagegram.stages.tokens import TokenSet
from imagegram.store.fingerprint import NOT_IDENTITY
from tests.pictures import context, ids_of, write_samples

SEEN: list[int] = []  # sizes of the batches that the network saw


@dataclass(frozen=True, kw_only=True)
class Network:
    """Sixteen grey values, as if a network had made them."""

    VERSION: ClassVar[int] = 1
    name: str = field(default="network", metadata=NOT_IDENTITY)
    num_tokens: int = 16
    vocab_size: int = 256
    batch_size: int = field(default=4, metadata=NOT_IDENTITY)
    modality: ClassVar[Modality] = IMAGES
    image_size: int = 4

    @property
    def spec(self) -> TokenSpec:
        layout = TokenLayout.sequence(self.num_tokens)
        return TokenSpec(vocab_size=self.vocab_size, layout=layout)

    @property
    def encoder(self) -> Network:
        return replace(self, num_tokens=16)

    def fit(self, corpus: Any) -> None:
        """Nothing."""

    def prepare(self, image: Images) -> NDArray[Any]:
        return resize(image, 4)

    def encode(self, prepared: Sequence[Images]) -> Encoded:
        SEEN.append(len(prepared))
        grey = np.stack(prepared)[..., 0]
        return Encoded(documents=grey.reshape(len(grey), 16).astype(np.uint16), counts={"seen": 1})

    def decode(self, tokens_BT: Tokens, *, output_size: int | None = None) -> Images:
        raise NotImplementedError


@pytest.fixture
def corpus(tmp_path: Path) -> WebDatasetCorpus:
    write_samples(tmp_path / "tars" / "0.tar", range(7))
    write_samples(tmp_path / "tars" / "1.tar", [7, 8])
    return WebDatasetCorpus(tars=str(tmp_path / "tars"))


def made(root: Path, corpus: WebDatasetCorpus, tokenizer: Any) -> TokenSet:
    at = context(root)
    return tokenize_shards(
        lambda _, stage: at.make(stage),
        "t",
        shards=corpus.shards,
        tokenizer=tokenizer,
        max_failed_fraction=0,
    )


def test_a_network_gets_full_batches_and_documents_keep_their_order(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    SEEN.clear()
    tokens = made(tmp_path, corpus, Network())
    assert SEEN == [4, 3, 2]
    assert [shard.artifact.facts["counts"]["seen"] for shard in tokens.shards] == [2, 1]
    assert tokens.artifact.facts["counts"] == {"seen": 3}
    for document in range(tokens.num_documents):
        picture = decode_image(tokens.original(document))
        np.testing.assert_array_equal(tokens.gather([document])[0], ids_of(Network(), picture))


def test_the_batch_size_changes_no_file(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    whole = made(tmp_path / "a", corpus, Network())
    other = made(tmp_path / "b", corpus, Network(batch_size=1))
    assert whole.identity() == other.identity()
    for one, two in zip(whole.shards, other.shards, strict=True):
        for name in ("tokenized.0", "offset.0", "metadata.0", "skipped.jsonl"):
            assert (one.artifact.path / name).read_bytes() == (
                two.artifact.path / name
            ).read_bytes()


def test_ids_beyond_the_vocabulary_are_refused(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    with pytest.raises(TokenError, match="it declares 16 ids below 9"):
        made(tmp_path, corpus, Network(vocab_size=9))


@pytest.mark.parametrize("num_tokens", [1, 5, 15])
def test_a_prefix_is_cut_without_the_network(
    tmp_path: Path, corpus: WebDatasetCorpus, num_tokens: int
) -> None:
    whole = made(tmp_path, corpus, Network())
    SEEN.clear()
    cut = made(tmp_path, corpus, Network(num_tokens=num_tokens))
    assert SEEN == []
    documents = range(whole.num_documents)
    np.testing.assert_array_equal(cut.gather(documents), whole.gather(documents)[:, :num_tokens])
    assert cut.metadata(8) == whole.metadata(8)
    assert cut.original(3) == whole.original(3)
    for shard in cut.shards:  # the same file as a tokenization of that length would have made
        expected = np.full((shard.num_documents, num_tokens + 1), 65535, dtype="<u2")
        expected[:, 1:] = [shard.document(i) for i in range(shard.num_documents)]
        assert (shard.artifact.path / "tokenized.0").read_bytes() == (
            expected.tobytes() + b"\xff\xff"
        )
        offsets = np.fromfile(shard.artifact.path / "offset.0", "<u8")
        assert offsets.tolist() == [2 * (num_tokens + 1) * i for i in range(shard.num_documents)]


def test_a_prefix_can_be_indexed(tmp_path: Path, corpus: WebDatasetCorpus) -> None:
    tokens = made(tmp_path, corpus, Network(num_tokens=3))
    index = context(tmp_path).make(BuildIndex(tokens=tokens))
    for document, row in enumerate(tokens.gather(range(tokens.num_documents))):
        assert index.document(document).tolist() == row.tolist()
        assert index.documents_equal(row[None]).tolist() == [1]


def test_prefixes_share_shards_with_larger_corpora(
    tmp_path: Path, corpus: WebDatasetCorpus
) -> None:
    at = context(tmp_path)
    small = replace(corpus, num_shards=1)
    for which in (small, corpus):
        tokens = at.make(Tokenize(shards=which.shards, tokenizer=Network()))
        at.make(Prefix(tokens=tokens, length=2))
    kinds = [artifact.kind for artifact in at.store]
    assert kinds.count(PrefixShard.kind) == 4  # two whole ones, two cut ones
