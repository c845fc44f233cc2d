"""What follows one context in a corpus: the counts of ``indexes/grams.py`` for all next tokens.

Reads every place of the context, where ``Index.gram_counts`` reads the whole corpus for any number
of questions.

>>> from imagegram.indexes.naive import NaiveIndex
>>> index = NaiveIndex.of_streams([[65535, 1, 2, 65535, 3, 1, 2, 1, 65535]])
>>> plain = Counting(class_of=np.zeros(1, np.int32), continuations=False, ends=True)
>>> [array.tolist() for array in following(index, [1], plain, longest=True)]
[[2, 65535], [2, 1]]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imagegram.protocols import Index
from imagegram.records import EOS_TOKEN_ID, Counting, Tokens

#: Different next tokens, ascending, and their counts.
Following: TypeAlias = tuple[Tokens, NDArray[np.int64]]


def following(
    index: Index, context: Sequence[int], counting: Counting, *, cls: int = 0, longest: bool
) -> Following:
    """Return the next tokens after a context, and their counts.

    Args:
        index: index of the corpus.
        context: at least one token; the separator may be the first.
        counting: what is counted.
        cls: class of the next token.
        longest: whether no longer context is counted, so that places count and not different
            tokens before.
    """
    ids = np.asarray(context, dtype=np.uint16)
    by_before = counting.continuations and not longest and int(ids[0]) != EOS_TOKEN_ID
    found = [np.empty(0, dtype=np.uint32)]
    for shard, starts in zip(index.shards, index.positions(ids), strict=True):
        after = starts + len(ids)
        there = after < shard.num_tokens
        starts, after = starts[there], after[there]
        tokens = shard.tokens[after]
        wanted = np.ones(len(tokens), dtype=np.bool_)
        if not counting.ends:
            wanted &= tokens != EOS_TOKEN_ID
        if counting.num_classes > 1:
            assert shard.document_length is not None, "places of documents of one length"
            places = after % (shard.document_length + 1) - 1
            wanted &= counting.class_of[places] == cls
        pairs = tokens[wanted].astype(np.uint32)
        if by_before:
            pairs |= shard.tokens[starts[wanted] - 1].astype(np.uint32) << 16
        found.append(pairs)
    pairs = np.concatenate(found)
    if by_before:
        pairs = np.unique(pairs) & 0xFFFF
    tokens, counts = np.unique(pairs, return_counts=True)
    return tokens.astype(np.uint16), counts.astype(np.int64)
