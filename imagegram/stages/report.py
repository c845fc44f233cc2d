"""The report: one HTML file with everything in it, readable without a network.

Pictures are base64 PNG, charts are inline SVG, there is no script and no link to elsewhere. The
samples that copy most come first, beside the training image that each is nearest to.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from imagegram import pictures
from imagegram.charts import histogram_chart, line_chart, scale_chart
from imagegram.protocols import ImageSet, Tokenizer
from imagegram.records import Images
from imagegram.stages.evaluate import Curves, Score
from imagegram.stages.explanations import GROUPS, explain
from imagegram.stages.pairs import Pair

REPORT: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_SHOWN_SAMPLES: Final = 64
_OPEN_PAIRS: Final = 12


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """All that the report shows.

    Attributes:
        title: of the page.
        config_yaml: the whole configuration.
        facts: (label, value) pairs for the line under the title: corpus, tokenizer, sampler ...
        scores: by score name.
        curves: image set -> curve name -> array, as :class:`Evaluation` has them.
        generated: the samples.
        pairs: the samples that copy most beside training images.
        tokenizer: names the levels.
        stages: one dict a stage with name, hit, digest, duration_s, path.
        notes: by score name, why a part of it is missing.
        recipes: by score name, what numbers must share to be comparable.
    """

    title: str
    config_yaml: str
    facts: Sequence[tuple[str, str]]
    scores: Mapping[str, Score]
    curves: Curves
    generated: ImageSet
    pairs: Sequence[Pair]
    tokenizer: Tokenizer
    stages: Sequence[Mapping[str, Any]]
    notes: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def write_report(folder: Path, inputs: ReportInputs) -> Path:
    """Write ``report.html`` into ``folder``; returns its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["png"] = _data_url
    page = environment.get_template("report.html.j2").render(
        inputs=inputs,
        css=Markup((_TEMPLATES / "report.css").read_text()),
        samples=inputs.generated.images[:_SHOWN_SAMPLES],
        num_samples=inputs.generated.num_images,
        pairs=inputs.pairs,
        num_open_pairs=_OPEN_PAIRS,
        groups=_score_groups(inputs),
        charts=_charts(inputs),
    )
    path = folder / REPORT
    path.write_text(page, encoding="utf-8")
    return path


def _data_url(image_HWC: Images) -> Markup:
    """A picture as text; small ones are enlarged so that their pixels stay sharp in print."""
    scale = pictures.scale_for(image_HWC.shape[0], target=64)
    png = pictures.png_bytes(pictures.enlarge(image_HWC[None], scale)[0])
    encoded = base64.b64encode(png).decode()
    return Markup(f"data:image/png;base64,{encoded}")


# ------------------------------------------------------------------------------------------ scores


def _score_groups(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Rows of the score table, grouped by question."""
    groups: list[dict[str, Any]] = [{"title": title, "rows": [], "recipe": ""} for title in GROUPS]
    for name, score in inputs.scores.items():
        explanation = explain(name)
        group = groups[GROUPS.index(explanation.group)]
        if recipe := inputs.recipes.get(name):
            group["recipe"] = ", ".join(f"{k} {v}" for k, v in recipe.items())
        scale = None
        ends = (score.value, score.floor, score.ceiling)
        # Between two sets of real images there is no scale of quality: both are as good.
        if explanation.group != "Quality" and None not in ends and score.floor != score.ceiling:
            scale = scale_chart(*ends, (score.low, score.high))  # type: ignore[arg-type]
        row = {
            "name": name,
            "meaning": explanation.meaning,
            "value": explanation.show(score.value),
            "interval": _interval(explanation.show, score),
            "floor": explanation.show(score.floor),
            "ceiling": explanation.show(score.ceiling),
            "scale": scale,
            "note": inputs.notes.get(name, ""),
        }
        group["rows"].append(row)
    return [group for group in groups if group["rows"]]


def _interval(show: Any, score: Score) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{show(score.low)} – {show(score.high)}"  # noqa: RUF001 - an en dash between numbers


# ------------------------------------------------------------------------------------------ charts


def _charts(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Sections of small multiples, one chart a level."""
    sections = [
        _histograms(
            inputs,
            "copied_span",
            "Copied spans",
            "Length, in tokens, of the phrase of the training corpus that each token lies in. Bars "
            "right of the dashed outline: longer pieces than real held-out images share with it.",
        ),
        _histograms(
            inputs,
            "order",
            "Contexts that decided",
            "Length of the context, in tokens, that chose each token. Long contexts have few "
            "places in the corpus and leave little choice.",
        ),
        _novelty(inputs),
    ]
    return [section for section in sections if section["charts"]]


def _histograms(inputs: ReportInputs, prefix: str, title: str, text: str) -> dict[str, Any]:
    edges = inputs.curves.get("generated", {}).get(f"{prefix}_edges")
    charts = []
    for level in range(inputs.tokenizer.layout.num_levels):
        shares = _named(inputs.curves, f"{prefix}_level{level}")
        shares.pop("ceiling", None)  # one tall bar at the far end, which would flatten the rest
        if edges is not None and shares:
            label = _level_label(inputs.tokenizer, level)
            svg = histogram_chart(edges, shares, title=f"{title}, {label}")
            charts.append({"label": label, "svg": svg})
    return {"title": title, "text": text, "x": "tokens", "charts": charts, "ceiling": False}


def _novelty(inputs: ReportInputs) -> dict[str, Any]:
    names = [("all levels", "novelty")] + [
        (_level_label(inputs.tokenizer, level), f"novelty_level{level}")
        for level in range(inputs.tokenizer.layout.num_levels)
    ]
    charts = []
    for label, name in names:
        if curves := _named(inputs.curves, name):
            svg = line_chart(curves, title=f"n-novelty, {label}")
            charts.append({"label": label, "svg": svg})
    return {
        "title": "Novelty",
        "text": "Share of runs of n tokens that no training image holds. Below the dashed held-out "
        "curve the samples repeat the corpus more than real images do; above it they are noisier.",
        "x": "n",
        "charts": charts,
        "ceiling": True,
    }


def _named(curves: Curves, name: str) -> dict[str, Any]:
    return {which: arrays[name] for which, arrays in curves.items() if name in arrays}


def _level_label(tokenizer: Tokenizer, level: int) -> str:
    layout = tokenizer.layout
    return f"level {level}, {layout.heights[level]} × {layout.widths[level]}"  # noqa: RUF001
