"""What each score means, in one line, and how it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from imagegram.metrics.duplication import BUCKETS

GROUPS: Final = (
    "Copying",
    "Novelty and choice",
    "Likelihood",
    "Quality",
    "Tokenizer",
    "Other",
)
#: Groups in which held-out and training images are the ends of a scale; elsewhere both are as good.
_SCALES: Final = ("Copying", "Novelty and choice")
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

    @property
    def has_scale(self) -> bool:
        """Whether a value between held-out and training images says how much is copied."""
        return self.group in _SCALES

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


_COPYING: Final = {
    "exact_copy_rate": (
        "Samples whose tokens are those of a training image. Higher: more copying.",
        "percent",
    ),
    "near_exact_rate": (
        "Samples that share nine tenths of their tokens, each at its place, with one training "
        "image. Higher: more copying.",
        "percent",
    ),
    "largest_source_share": (
        "Mean share of a sample that one training image explains. Higher: more copying.",
        "percent",
    ),
    "max_source_share_p95": (
        "That share at its 95th percentile over the samples: how bad the worst are.",
        "percent",
    ),
    "num_phrases": (
        "Fewest cut-and-paste operations that make a sample of training images. Fewer: more "
        "copying.",
        "count",
    ),
    "num_effective_sources": (
        "Training images that a sample is made of, by entropy. 1 is a copy, a few are a collage.",
        "count",
    ),
    "mean_copied_span": (
        "Tokens in the copied phrase that a token lies in. Longer: more copying.",
        "count",
    ),
    "forced_copy_rate": (
        "Steps at which the corpus left one single next token. Higher: more copying.",
        "percent",
    ),
    "source_coverage": (
        "Training images that any sample took a phrase from. Low: few pictures are used.",
        "percent",
    ),
    "source_gini": (
        "How unevenly training images are used: 0 all alike, 1 a single one.",
        "number",
    ),
    "aligned_agreement": (
        "Tokens equal to those of the training image that agrees best, at the same places. "
        "Higher: more copying.",
        "percent",
    ),
    "mean_aligned_match": (
        "Tokens of the longest run up to a token that a training image holds at the same places. "
        "Longer: more copying.",
        "count",
    ),
    "mean_free_match": (
        "The same run, wherever in a training image. Hardly longer than in place: parts of a "
        "picture were copied; much longer: what is common to many.",
        "count",
    ),
    "copied_prefix_share": (
        "Share of the longest beginning, coarse tokens first, that is a training image's. Higher: "
        "its layout was copied.",
        "percent",
    ),
    "near_dup_rate_fpr1pct": (
        "Samples nearer to a training image than 99 % of held-out ones, by difference hashes. "
        "Blind to collages.",
        "percent",
    ),
    "near_dup_features_rate_fpr1pct": (
        "Samples nearer to a training image than 99 % of held-out ones, by features. Blind to "
        "collages.",
        "percent",
    ),
    "carlini_rate_fpr1pct": (
        "Samples nearer to a training image, compared with 50 neighbours, than 99 % of held-out "
        "ones. Blind to collages and to what the corpus holds 50 times.",
        "percent",
    ),
    "authpct": (
        "Per cent of samples farther from their nearest training image than that one is from "
        "its own. Lower: more copying; blind to collages.",
        "count",
    ),
    "ct": (
        "Are samples nearer to training images than held-out ones are? Far below 0: copying; far "
        "above: farther away.",
        "number",
    ),
}
_DUPLICATION: Final = {
    f"copies_per_{unit}_multiplicity_{label}": (
        f"How often pictures that the corpus holds {words} are copied, {counted}",
        "number",
    )
    for unit, counted in (
        ("image", "by the number of their images. 1: as often as any image."),
        ("cluster", "near-duplicates counted once. 1: copies in the corpus do not matter."),
    )
    for _, label, words in BUCKETS
}
_NOVELTY: Final = {
    "novelty_auc": (
        "Mean of the novelty curve. Lower repeats the corpus; above held-out is noise.",
        "percent",
    ),
    "mean_suffix_len": (
        "Tokens of context that decided a token. Longer leaves less choice.",
        "count",
    ),
    "single_context_rate": (
        "Steps that one place of the corpus decided alone. Higher: more copying.",
        "percent",
    ),
    "impossible_step_rate": (
        "Tokens that the sampler could not have written; 0 for its own samples.",
        "percent",
    ),
    "choice_bits_per_image": (
        "Bits that tell which tokens were drawn. Fewer bits, closer to a replay.",
        "count",
    ),
}
_LIKELIHOOD: Final = {
    "bits_per_token": (
        "Code length under a smoothed n-gram of the corpus. Fewer: the corpus foretells it.",
        "number",
    ),
    "bits_per_dim": (
        "The same by colour value of the picture; read it beside the lossless files.",
        "number",
    ),
}
_QUALITY: Final = {
    "precision": ("Samples that lie among training images. Higher is more faithful.", "percent"),
    "recall": ("Training images that lie among samples. Higher is more diverse.", "percent"),
    "density": (
        "How densely training images surround the samples; about 1 for real ones.",
        "number",
    ),
    "coverage": ("Training images with a sample nearby. Higher is more diverse.", "percent"),
}
_TOKENIZER: Final = {
    "psnr": (
        "Decoded images beside their original files, in dB. Higher is closer; what no sample can "
        "exceed.",
        "number",
    ),
    "exact_reconstruction_rate": (
        "Images that are decoded to their original, byte for byte.",
        "percent",
    ),
    "codebook_usage": (
        "Share of the vocabulary that occurs in the set; grows with its size.",
        "percent",
    ),
    "codebook_entropy": ("Bits of a token by the frequency of its id alone.", "number"),
}
_EXACT: Final = {
    "Copying": _COPYING | _DUPLICATION,
    "Novelty and choice": _NOVELTY,
    "Likelihood": _LIKELIHOOD,
    "Quality": _QUALITY,
    "Tokenizer": _TOKENIZER,
}
#: Names with a part that varies, which the words may repeat.
_PATTERNS: Final = (
    (
        r"copied_through_level(\d+)_rate",
        "Copying",
        "Samples that are one training image's up to the end of level {}. Higher: more copying.",
        "percent",
    ),
    (
        r"copied_through_k(\d+)_rate",
        "Copying",
        "Samples whose prefix of length {} is a training image's. Higher: more copying.",
        "percent",
    ),
    (
        r"exact_patch_rate(?:_anywhere)?",
        "Copying",
        "Textured tiles of pixels that equal a training tile. Sees collages.",
        "percent",
    ),
    (
        r"patch_copy_rate(?:_anywhere)?_(\d+)px",
        "Copying",
        "The same, tiles of {} pixels only.",
        "percent",
    ),
    (
        r"patch_copy_rate(?:_anywhere)?",
        "Copying",
        "Textured tiles nearer to a training tile than 99 % of held-out ones. Sees collages.",
        "percent",
    ),
    (
        r"novelty_n(\d+)",
        "Novelty and choice",
        "Runs of {} tokens that no training image holds. Lower repeats the corpus.",
        "percent",
    ),
    (
        r"bits_per_token_level(\d+)",
        "Likelihood",
        "Code length of a token of level {}.",
        "number",
    ),
    (
        r"([a-z0-9]+)_sheet_bits_per_dim",
        "Likelihood",
        "The same, all samples side by side on contact sheets, format {}.",
        "number",
    ),
    (
        r"([a-z0-9]+)_bits_per_dim",
        "Likelihood",
        "Every sample as a lossless file of its own, format {}: what a codec needs that knows "
        "pictures but not the corpus.",
        "number",
    ),
    (
        r"fd_(\w+)",
        "Quality",
        "Fréchet distance of {} features to training images. Lower is closer.",
        "count",
    ),
    (
        r"kd_(\w+)",
        "Quality",
        "Kernel distance of {} features to training images. Lower is closer; unbiased.",
        "number",
    ),
    (
        r"vendi_(\w+)",
        "Quality",
        "How many different pictures the samples are, by {} features. Says nothing of copying.",
        "count",
    ),
    (
        r"prefix_psnr_k(\d+)",
        "Tokenizer",
        "Images decoded from their prefix of length {} beside their original files, in dB. Higher "
        "is closer.",
        "number",
    ),
    (
        r"prefix_jpeg_psnr_k(\d+)",
        "Tokenizer",
        "JPEG of as many bits as a prefix of length {} beside the same originals, in dB; its "
        "headers and tables are not counted.",
        "number",
    ),
    (
        r"rfd_(\w+)",
        "Tokenizer",
        "Fréchet distance of {} features between decoded images and their original files. Lower "
        "is closer.",
        "count",
    ),
)


def explain(name: str) -> Explanation:
    """The words for a score; an unknown one is shown without any.

    >>> explain("novelty_n8").meaning
    'Runs of 8 tokens that no training image holds. Lower repeats the corpus.'
    >>> explain("my_own").group
    'Other'
    """
    for group, scores in _EXACT.items():
        if name in scores:
            meaning, unit = scores[name]
            return Explanation(group=group, meaning=meaning, unit=unit)
    for pattern, group, meaning, unit in _PATTERNS:
        if found := re.fullmatch(pattern, name):
            parts = [part.replace("_", " ") for part in found.groups()]
            return Explanation(group=group, meaning=meaning.format(*parts), unit=unit)
    return Explanation(group="Other", meaning="", unit="number")
