"""How well a renderer writes: bits of real sentences, and what its own sentences say.

Bits are measured three times: with the codes of the sentence, with those of another one, and
without codes. If all three are alike, codes are not heard, whatever the samples look like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from imagegram.tokenizers.renderer.items import Ids, Segment
from imagegram.tokenizers.renderer.network import seen_mask
from imagegram.tokenizers.renderer.rendering import (
    Writer,
    chosen_of,
    judged,
    row_key,
    sentence_ids,
)
from imagegram.tokenizers.renderer.rerank import cosines

#: Sentences that are scored at a time.
_ROWS: Final = 32
Arrays = dict[str, NDArray[np.float64]]


def sentence_bits(
    writer: Writer,
    codes_NK: NDArray[np.int64],
    texts: Sequence[str],
    contexts: Sequence[Sequence[str]],
) -> Arrays:
    """Return the bits of N real sentences, end included.

    Args:
        writer: the renderer.
        codes_NK: (N, K) codes of the sentences.
        texts: the sentences.
        contexts: sentences before each in its document.

    Returns:
        By name, (N,): ``tokens``; ``bits`` with the own codes, ``shuffled_bits`` with those of the
        sentence half of them later, ``no_codes_bits`` without any.
    """
    ids, read_before = _ids(writer, texts), _contexts(writer, contexts)
    shuffled = np.roll(codes_NK, len(codes_NK) // 2, axis=0)
    found: Arrays = {}
    for name, codes in (
        ("bits", codes_NK),
        ("shuffled_bits", shuffled),
        ("no_codes_bits", np.full_like(codes_NK, -1)),
    ):
        segments = [
            writer.reader.segment(codes_K.tolist(), context, own)
            for codes_K, context, own in zip(codes, read_before, ids, strict=True)
        ]
        found[name], found["tokens"] = _score(writer, segments)
    return found


def what_is_said(
    writer: Writer, codes_NK: NDArray[np.int64], contexts: Sequence[Sequence[str]], *, seed: int
) -> Arrays:
    """Return what sentences say that are written for codes, each behind a real text.

    Args:
        writer: the renderer; of its candidates the first is the one without reranking.
        codes_NK: (N, K) codes that are asked for.
        contexts: sentences before each.
        seed: of the random numbers.

    Returns:
        By name, (N,): ``cosine`` to the vector of the codes, ``agreement`` of the first code (0 or
        1), both of the first candidate; ``cosine_best`` and ``agreement_best`` of the candidate
        that is best by cosine, and by codes; ``chance``: the share of the other sentences that
        have its first code.
    """
    keys = [row_key(np.append(codes_K, [seed, row])) for row, codes_K in enumerate(codes_NK)]
    read_before = _contexts(writer, contexts)
    candidates = writer.candidates(codes_NK, read_before, np.array(keys, dtype=np.uint64))
    texts = [writer.text(drawn) for some in candidates for drawn in some]
    vectors = writer.codes.embed(texts)
    wanted = np.repeat(codes_NK, writer.num_candidates, axis=0)
    shape = (len(codes_NK), writer.num_candidates)
    cosine_RN = cosines(vectors, writer.codes.vectors(wanted)).reshape(shape)
    same_RN = (writer.codes.quantize(vectors)[:, 0] == wanted[:, 0]).reshape(shape)
    scores_RN = judged(writer.codes, "codes", vectors, wanted).reshape(shape)
    by_codes = chosen_of(candidates, scores_RN)
    rows = np.arange(len(codes_NK))
    firsts_N = codes_NK[:, 0].clip(0)
    others_N = np.bincount(firsts_N)[firsts_N] - 1
    return {
        "cosine": cosine_RN[:, 0],
        "cosine_best": cosine_RN.max(axis=1),
        "agreement": same_RN[:, 0].astype(np.float64),
        "agreement_best": same_RN[rows, by_codes].astype(np.float64),
        "chance": others_N / max(len(codes_NK) - 1, 1),
    }


def _ids(writer: Writer, texts: Sequence[str]) -> list[Ids]:
    return [ids.astype(np.int64) for ids in sentence_ids(writer.bpe, texts)]


def _contexts(writer: Writer, contexts: Sequence[Sequence[str]]) -> list[Ids]:
    """Return the BPE ids of the sentences before."""
    nothing = np.empty(0, dtype=np.int64)
    return [np.concatenate([nothing, *_ids(writer, before)]) for before in contexts]


def _score(writer: Writer, segments: Sequence[Segment]) -> tuple[Any, Any]:
    """Return the (N,) bits and the (N,) tokens of sentences; those of one length are together."""
    bits, tokens = np.zeros(len(segments)), np.zeros(len(segments))
    order = np.argsort([len(segment.ids) for segment in segments], kind="stable")
    network = writer.network
    for start in range(0, len(order), _ROWS):
        some = order[start : start + _ROWS].tolist()
        length = max(len(segments[row].ids) for row in some)
        arrays = np.zeros((4, len(some), length), dtype=np.int64)
        arrays[2:] = -1
        for place, row in enumerate(some):
            segment, here = segments[row], slice(len(segments[row].ids))
            arrays[0, place, here], arrays[1, place, here] = segment.ids, segment.places
            arrays[2, place, here], arrays[3, place, here] = 0, segment.targets
        ids, places, within, targets = torch.from_numpy(arrays).to(network.device)
        with torch.inference_mode():
            x_BTW = network.read(ids, places, within)
            features_BTW = network(x_BTW, seen_mask(within))
            log_p_BTV = network.to_logits(features_BTW).float().log_softmax(dim=-1)
            said_BT = log_p_BTV.gather(-1, targets.clamp_min(0)[..., None])[..., 0]
        counted = targets >= 0
        nats = said_BT.masked_fill(~counted, 0.0).double().sum(dim=1)
        bits[some] = -nats.cpu().numpy() / math.log(2)
        tokens[some] = counted.sum(dim=1).cpu().numpy()
    return bits, tokens
