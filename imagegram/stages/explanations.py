"""What each score means, in one line, and how it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROUPS: Final = ("Copying", "Novelty and choice", "Quality", "Other")
_ABSENT: Final = "—"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """One score in words.

    Attributes:
        group: of the table.
        meaning: one line, with the direction that copying or quality lies in.
        unit: ``percent``, ``count`` or ``number``.
    """

    group: str
    meaning: str
    unit: str

    def show(self, value: float | None) -> str:
        """A value as text; a dash where there is none.

        >>> Explanation(group="Copying", meaning="", unit="percent").show(0.5)
        '50.0 %'
        """
        if value is None:
            return _ABSENT
        if self.unit == "percent":
            percent = 100 * value
            return f"{percent:.1f} %" if percent == 0 or abs(percent) >= 1 else f"{percent:.2g} %"
        return f"{value:,.1f}" if self.unit == "count" else f"{value:.4g}"


_EXACT: Final = {
    "exact_copy_rate": (
        "Copying",
        "Samples whose tokens are those of a training image. Higher: more copying.",
        "percent",
    ),
    "largest_source_share": (
        "Copying",
        "Mean share of a sample that one training image explains. Higher: more copying.",
        "percent",
    ),
    "forced_copy_rate": (
        "Copying",
        "Steps at which the corpus left one single next token. Higher: more copying.",
        "percent",
    ),
    "mean_copied_span": (
        "Copying",
        "Tokens in the copied phrase that a token lies in. Longer: more copying.",
        "count",
    ),
    "novelty_auc": (
        "Novelty and choice",
        "Mean of the novelty curve. Lower repeats the corpus; above held-out is noise.",
        "percent",
    ),
    "mean_suffix_len": (
        "Novelty and choice",
        "Tokens of context that decided a token. Longer leaves less choice.",
        "count",
    ),
    "single_context_rate": (
        "Novelty and choice",
        "Steps that one place of the corpus decided alone. Higher: more copying.",
        "percent",
    ),
    "impossible_step_rate": (
        "Novelty and choice",
        "Tokens that the sampler could not have written; 0 for its own samples.",
        "percent",
    ),
    "choice_bits_per_image": (
        "Novelty and choice",
        "Bits that tell which tokens were drawn. Fewer bits, closer to a replay.",
        "count",
    ),
    "precision": (
        "Quality",
        "Samples that lie among training images. Higher is more faithful.",
        "percent",
    ),
    "recall": (
        "Quality",
        "Training images that lie among samples. Higher is more diverse.",
        "percent",
    ),
    "density": (
        "Quality",
        "How densely training images surround the samples; about 1 for real ones.",
        "number",
    ),
    "coverage": (
        "Quality",
        "Training images with a sample nearby. Higher is more diverse.",
        "percent",
    ),
}
_PREFIXES: Final = {
    "novelty_n": (
        "Novelty and choice",
        "Runs of {} tokens that no training image holds. Lower repeats the corpus.",
        "percent",
    ),
    "fd_": (
        "Quality",
        "Fréchet distance of {} features to training images. Lower is closer.",
        "count",
    ),
    "kd_": (
        "Quality",
        "Kernel distance of {} features to training images. Lower is closer; unbiased.",
        "number",
    ),
}


def explain(name: str) -> Explanation:
    """The words for a score; an unknown one is shown without any."""
    if name in _EXACT:
        group, meaning, unit = _EXACT[name]
        return Explanation(group=group, meaning=meaning, unit=unit)
    for prefix, (group, meaning, unit) in _PREFIXES.items():
        if name.startswith(prefix):
            subject = name.removeprefix(prefix).replace("_", " ")
            return Explanation(group=group, meaning=meaning.format(subject), unit=unit)
    return Explanation(group="Other", meaning="", unit="number")
