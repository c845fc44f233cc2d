"""``judge_bits_per_byte``: how likely texts are under a language model from outside.

A judge that has read other books knows what reads like a text, and not what is in this corpus. It
prefers whoever copies: training texts read best, so it is never read alone, but beside the longest
run that a training document has too (``metrics/verbatim.py``). Shuffled texts are its worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from imagegram.encoders.judge import Judge
from imagegram.errors import ConfigError
from imagegram.intervals import ratio_over_images
from imagegram.metrics.features import undefined
from imagegram.metrics.likelihood import num_bytes
from imagegram.protocols import ImageSet, Reference
from imagegram.records import Measurement, ScoreInfo


@dataclass(frozen=True, kw_only=True)
class JudgeMetric:
    """Metric of the bits of a text under a causal language model, by its bytes of UTF-8.

    The interval is over texts, or over the documents that they are windows of. One text is judged
    at a time: memory does not grow with their number, nor with their length.

    Attributes:
        name: name of this metric in the configuration.
        model, max_tokens, device: see :class:`Judge`.
        num_texts: most texts of a set that are judged, the first ones, which the seed has drawn;
            a text of 128 tokens takes about half a second of one core.
    """

    VERSION: ClassVar[int] = 1
    NEEDS: ClassVar[frozenset[str]] = frozenset({"text"})
    #: Seconds a text of a set, for forecasts.
    SECONDS: ClassVar[float] = 0.5
    SCORES: ClassVar[tuple[ScoreInfo, ...]] = (
        ScoreInfo(
            name="judge_bits_per_byte",
            title="bits per byte under the judge",
            words="Code length under a language model from outside. Fewer: it reads like other "
            "texts, or is copied from one; never read it without the longest runs.",
            unit="bits",
            group="likelihood",
            short="judge_bits_per_byte",
        ),
    )

    name: str = "judge"
    model: str | None = None
    max_tokens: int = 512
    num_texts: int = 64
    device: str = "cpu"

    def __post_init__(self) -> None:
        for knob in ("num_texts", "max_tokens"):
            if (value := getattr(self, knob)) < 1:
                raise ConfigError(
                    f"metric.{self.name}.{knob}={value} must be at least 1; type "
                    f"metric.{self.name}.{knob}=64"
                )

    @property
    def judge(self) -> Judge:
        """The model."""
        return Judge(model=self.model, max_tokens=self.max_tokens, device=self.device)

    def identity(self) -> dict[str, Any]:
        """Return the identity: content of the model, how it reads, and how many texts."""
        own = {"class": type(self).__name__, "version": self.VERSION, "name": self.name}
        return own | {"judge": self.judge.identity(), "num_texts": self.num_texts}

    def check_machine(self) -> None:
        """Refuse a missing model, package or device before any work."""
        self.judge.check_machine()

    def measure(self, *, generated: ImageSet, reference: Reference) -> Measurement:
        """Judge the first texts of a set."""
        texts = [str(text) for text in generated.texts[: self.num_texts]]
        judge, bytes_B = self.judge, num_bytes(texts)
        recipe = {"judge": judge.name, "texts": str(len(texts))}
        if not bytes_B.any():
            nothing = undefined("nothing was written")
            return Measurement(scalars={"judge_bits_per_byte": nothing}, curves={}, recipe=recipe)
        task = reference.progress.start("judge", len(texts), "texts")
        bits_B = np.zeros(len(texts))
        for number, text in enumerate(texts):
            bits_B[number] = judge.bits(text.encode("utf-8", "replace").decode("utf-8"))
            reference.progress.advance(task)
        reference.progress.finish(task)
        documents = generated.row_documents
        measured = ratio_over_images(
            bits_B,
            bytes_B,
            seed=reference.seed,
            documents=None if documents is None else documents[: len(texts)],
        )
        return Measurement(scalars={"judge_bits_per_byte": measured}, curves={}, recipe=recipe)
