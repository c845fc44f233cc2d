"""The report: one self-contained HTML file, readable without a network.

Pictures are base64 PNG, charts are inline SVG, there is no script and no link to elsewhere. The
samples that copy most come first, each coloured by the training items that it was made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from imagegram.numerals import number_text, plain_text, tied
from imagegram.protocols import ImageSet, TextTokenizer, Tokenizer
from imagegram.records import PROMPT
from imagegram.report.answer import Answer, Wording
from imagegram.report.copies import copy_cards, data_url, drawn_share, small_url
from imagegram.report.figures import chart_sections, heat_sections
from imagegram.report.pairs import Pair
from imagegram.report.passages import copied_text, text_card, write_copies
from imagegram.report.provenance import TracedSample
from imagegram.report.tables import (
    Infos,
    Intervals,
    Values,
    calibration_table,
    score_groups,
    stage_rows,
)
from imagegram.stages.evaluate import Curves, Score
from imagegram.store.manifest import Artifact
from imagegram.texts.highlight import visible

REPORT: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_SHOWN_SAMPLES: Final = 64
#: Number of worst copies that are shown unfolded.
_OPEN_COPIES: Final = 6
#: Characters of a copied text that are quoted at the top.
_SHOWN_CHARACTERS: Final = 240
#: Number of findings of an audit that are shown unfolded.
_OPEN_FINDINGS: Final = 5


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Everything that the report shows.

    Attributes:
        wording: title and facts of the page, and what the measured items are called.
        answer: what the page begins with.
        config_yaml: the whole configuration.
        scores: by score name.
        curves: image set -> curve name -> array, as :class:`Evaluation` has them.
        generated: the samples.
        pairs: the samples that copy most beside training images.
        tokenizer: names the levels.
        stages: by stage name, the record of a run: ``hit``, ``digest`` and ``path``.
        artifacts: artifacts that were made only for the report.
        traced: the first of the pairs, with the source of every token.
        values, intervals: score name -> image set -> value or (low, high), planted sets included.
        infos: description of each score: words, unit and direction.
        notes: by score name, why a part of the score is missing.
        skipped: by metric name, why the metric was left out.
        recipes: by score name, what comparable numbers must share.
    """

    wording: Wording
    answer: Answer
    config_yaml: str
    scores: Mapping[str, Score]
    curves: Curves
    generated: ImageSet
    pairs: Sequence[Pair]
    tokenizer: Tokenizer
    stages: Mapping[str, Mapping[str, Any]]
    artifacts: Sequence[Artifact] = ()
    traced: Sequence[TracedSample] = ()
    values: Values = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    infos: Infos = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)


def write_report(folder: Path, inputs: ReportInputs) -> Path:
    """Write ``report.html`` into ``folder``; return its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"png": data_url, "small_png": small_url}
    environment.filters |= {"share": _share, "plain": plain_text, "tied": tied}
    generated, layout = inputs.generated, inputs.tokenizer.spec.layout
    shown = _pictures(inputs) if generated.texts is None else _texts(inputs, folder)
    page = environment.get_template("report.html.j2").render(
        inputs=inputs,
        css=Markup((_TEMPLATES / "report.css").read_text()),
        is_picture=layout.is_picture,
        noun=inputs.tokenizer.modality.noun,
        nouns=inputs.tokenizer.modality.nouns,
        num_samples=generated.num_images,
        drawn_share=drawn_share(inputs.traced),
        **shown,
        num_open=_OPEN_COPIES,
        wording=inputs.wording,
        answer=inputs.answer,
        num_findings=_OPEN_FINDINGS,
        groups=score_groups(
            inputs.scores, inputs.infos, inputs.notes, inputs.recipes, inputs.answer.readings
        ),
        calibration=calibration_table(inputs.scores, inputs.infos, inputs.values, inputs.intervals),
        charts=chart_sections(inputs.curves, layout, inputs.tokenizer.modality),
        heat=heat_sections(inputs.curves, layout),
        stages=stage_rows(inputs.stages, inputs.artifacts),
    )
    path = folder / REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _pictures(inputs: ReportInputs) -> dict[str, Any]:
    """Samples and worst copies of a report on images."""
    cards = copy_cards(
        inputs.traced,
        inputs.pairs,
        generated=inputs.generated,
        layout=inputs.tokenizer.spec.layout,
    )
    captions = getattr(inputs.generated, "captions", None)
    for card in cards:
        card["heading"] = inputs.wording.heading(card["sample"])
    examples = [
        {
            "name": one.name,
            "source": one.source,
            "image": small_url(np.asarray(inputs.generated.images[one.pair.sample])),
            "beside": small_url(one.pair.nearest.image),
        }
        for one in inputs.answer.examples
        if one.pair.nearest is not None
    ]
    return {
        "samples": inputs.generated.images[:_SHOWN_SAMPLES],
        "captions": [visible(_short(text)) for text in (captions or [])[:_SHOWN_SAMPLES]],
        "texts": [],
        "examples": examples,
        "cards": cards,
        "pairs": inputs.pairs[len(cards) :],
    }


def _texts(inputs: ReportInputs, folder: Path) -> dict[str, Any]:
    """Samples and worst copies of a report on texts; the latter are also written as JSON lines."""
    assert isinstance(inputs.tokenizer, TextTokenizer)
    texts, tokens = inputs.generated.texts, inputs.generated.tokens
    by_sample = {pair.sample: pair for pair in inputs.pairs}
    records = [
        copied_text(one, texts[one.sample], tokens[one.sample], inputs.tokenizer)
        for one in inputs.traced
    ]
    write_copies(folder, records)
    cards = [
        {
            "pair": by_sample[one.sample],
            "traced": one,
            "heading": inputs.wording.heading(one.sample),
        }
        | text_card(one, record)
        for one, record in zip(inputs.traced, records, strict=True)
    ]
    givens = given_characters(inputs.generated, inputs.tokenizer, count=_SHOWN_SAMPLES)
    shown = [
        (visible(text[:given]), visible(text[given:]))
        for text, given in zip(texts[:_SHOWN_SAMPLES], givens, strict=True)
    ]
    examples = [
        {"name": one.name, "source": one.source, "image": "", "text": visible(_short(text))}
        for one in inputs.answer.examples
        for text in [texts[one.pair.sample]]
    ]
    pictures: dict[str, Any] = {"samples": [], "captions": [], "pairs": []}
    return pictures | {"texts": shown, "examples": examples, "cards": cards}


def given_characters(generated: ImageSet, tokenizer: TextTokenizer, *, count: int) -> list[int]:
    """Return how many characters of each of the first texts were given, as prompts or excerpts.

    Args:
        generated: B texts.
        tokenizer: tokenizer of their tokens.
        count: most texts.
    """
    shown = min(count, generated.num_images)
    if PROMPT not in generated.trace:
        return [0] * shown
    sizes = np.asarray(generated.trace[PROMPT][:shown]).sum(axis=1).tolist()
    rows = zip(generated.tokens[:shown], sizes, strict=True)
    return [int(tokenizer.offsets(row)[size]) if size else 0 for row, size in rows]


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]} ..."


def _share(share: float) -> str:
    return tied(number_text(share, is_share=True))
