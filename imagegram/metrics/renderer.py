"""``renderer_*``: whether a renderer of sentence codes writes what the codes say.

Bits of real sentences with their own codes, with those of another sentence, and without codes; and
of the sentences that it writes itself, how near they are to what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.intervals import ratio_over_images
from imagegram.metrics.codes import all_codes
from imagegram.metrics.features import undefined
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measured, Measurement, ScoreInfo
from imagegram.stages.sentences import are_real

Arrays = dict[str, NDArray[np.float64]]

#: Sentences before one that are offered as its context.
_BEFORE: Final = 16
_SAID: Final = ("cosine", "cosine_best", "agreement", "agreement_best", "chance")
_OF_BITS: Final = {
    "renderer_bits_per_token": ("bits",),
    "renderer_shuffled_bits_per_token": ("shuffled_bits",),
    "renderer_no_codes_bits_per_token": ("no_codes_bits",),
    "renderer_codes_gain_bits": ("shuffled_bits", "bits"),
}


@runtime_checkable
class Renders(Protocol):
    """A decoder of sentence codes whose sentences have probabilities."""

    def measured(
        self,
        codes: Any,
        *,
        codes_NK: NDArray[np.int64],
        texts: Sequence[str] | None,
        contexts: Sequence[Sequence[str]],
        num_candidates: int,
        seed: int,
    ) -> Arrays:
        """Return (N,) arrays by name, see ``tokenizers/renderer/quality.py``."""


@dataclass(frozen=True, kw_only=True)
class RendererMetric:
    """Metric of a renderer, on sentences of held-out and of training documents, and on samples.

    Real sentences stand behind those before them in their row. Samples have codes and no sentence
    that was meant: only what is said is measured. Intervals are by document.

    Attributes:
        name: name of this metric in the configuration.
        num_sentences: most sentences of a set, spread over all; 0: all of them.
        num_candidates: sentences that are written for each.
    """

    VERSION: ClassVar[int] = 1
    SECONDS: ClassVar[float] = 0.5
    NEEDS: ClassVar[frozenset[str]] = frozenset({"ids", "text", "sentences"})
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="renderer_bits_per_token",
            title="bits of real sentences",
            words="Code length of real sentences for the renderer that is told their codes.",
            unit="bits",
            better="lower",
            group="tokenizer",
        ),
        *(
            ScoreInfo(
                name=f"renderer_{which}_bits_per_token",
                title=f"bits of real sentences, {title}",
                words=f"Code length of real sentences for the renderer that is told {words}",
                unit="bits",
                group="tokenizer",
            )
            for which, title, words in (
                (
                    "shuffled",
                    "codes of others",
                    "the codes of another sentence. As low as with the own codes: codes are not "
                    "heard.",
                ),
                ("no_codes", "no codes", "no codes."),
            )
        ),
        ScoreInfo(
            name="renderer_codes_gain_bits",
            title="bits that codes save",
            words="What a token of a real sentence costs more with the codes of another sentence. "
            "0: codes are not heard.",
            unit="bits",
            better="higher",
            group="tokenizer",
        ),
        *(
            ScoreInfo(
                name=f"renderer_{what}{best}",
                title=f"{title}{', best candidate' if best else ''}",
                words=words
                + (" Of the best of {n} candidates." if best else " Of the first candidate."),
                unit=unit,
                better="higher",
                group="tokenizer",
            )
            for what, title, words, unit in (
                (
                    "cosine",
                    "cosine to the codes",
                    "Cosine of a rendered sentence's vector to the vector of its codes.",
                    "",
                ),
                (
                    "agreement",
                    "first codes that come back",
                    "Rendered sentences whose own first code is the one that was asked for.",
                    "% of sentences",
                ),
            )
            for best in ("", "_best_of_{n:d}")
        ),
        ScoreInfo(
            name="renderer_chance",
            title="first codes by chance",
            words="How often the first code of a sentence is that of any other.",
            unit="% of sentences",
            group="tokenizer",
        ),
    )

    name: str = "renderer"
    num_sentences: int = 256
    num_candidates: int = 4

    def __post_init__(self) -> None:
        for name, least in (("num_sentences", 0), ("num_candidates", 1)):
            if (value := getattr(self, name)) < least:
                raise ConfigError(
                    f"metric.{self.name}.{name} is {value}; use {least} or more, for example "
                    f"metric.{self.name}.{name}=4"
                )

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Render sentences of one set, and score real ones."""
        tokenizer: Any = reference.tokenizer
        decoder = getattr(tokenizer, "decoder", None)
        if not isinstance(decoder, Renders):
            return self._nothing(
                "the tokenizer has no renderer; type tokenizer=sentence_rvq "
                "tokenizer.decoder=renderer"
            )
        is_real = are_real(generated)
        codes_NK, row_of = all_codes(tokenizer, np.asarray(generated.tokens))
        chosen = self._spread(len(codes_NK))
        if not len(chosen):
            return self._nothing("no sentence was written")
        rows = generated.sentences
        places = np.arange(len(row_of)) - np.searchsorted(row_of, row_of)
        contexts = [
            () if not is_real else rows[row][max(place - _BEFORE, 0) : place]
            for row, place in zip(row_of[chosen].tolist(), places[chosen].tolist(), strict=True)
        ]
        texts = [
            rows[row][place] for row, place in zip(row_of[chosen], places[chosen], strict=True)
        ]
        task = reference.progress.start("renderer", len(chosen), "sentences")
        arrays = decoder.measured(
            tokenizer,
            codes_NK=codes_NK[chosen],
            texts=texts if is_real else None,
            contexts=contexts,
            num_candidates=self.num_candidates,
            seed=reference.seed,
        )
        reference.progress.advance(task, len(chosen))
        reference.progress.finish(task)
        documents = generated.row_documents
        owners = row_of if documents is None else documents[row_of]
        scalars = self._scalars(arrays, owners[chosen], seed=reference.seed)
        return Measurement(scalars=scalars, curves={}, recipe={"sentences": str(len(chosen))})

    def _nothing(self, why: str) -> Measurement:
        names = (*_OF_BITS, *(self._said_name(name) for name in _SAID))
        return Measurement(scalars=dict.fromkeys(names, undefined(why)), curves={})

    def _said_name(self, array: str) -> str:
        return f"renderer_{array.replace('_best', f'_best_of_{self.num_candidates}')}"

    def _spread(self, count: int) -> NDArray[np.int64]:
        """Return the numbers of the sentences that are measured: every k-th."""
        most = min(self.num_sentences or count, count)
        return np.arange(most) * count // max(most, 1)

    def _scalars(
        self, arrays: Arrays, documents: NDArray[np.int64], *, seed: int
    ) -> dict[str, Measured]:
        def by_document(values: NDArray[np.float64], wholes: NDArray[np.float64]) -> Measured:
            return ratio_over_images(values, wholes, seed=seed, documents=documents)

        scalars = {}
        for name, (first, *others) in _OF_BITS.items():
            if first not in arrays:
                scalars[name] = undefined("samples are of no sentence that was meant")
                continue
            values = arrays[first] - sum(arrays[other] for other in others)
            scalars[name] = by_document(values, arrays["tokens"])
        ones = np.ones(len(documents))
        return scalars | {self._said_name(name): by_document(arrays[name], ones) for name in _SAID}
