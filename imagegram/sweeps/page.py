"""The sweep's ``report.html``: one file with everything in it, readable without a network.

It has the style of a run's report. Figures are drawn by plotly, which the file contains once;
pictures are base64 PNG; all user text is escaped, in HTML, in JSON and in labels.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup
from omegaconf import OmegaConf

from imagegram.images import grids
from imagegram.numerals import number_text, tied
from imagegram.records import Images
from imagegram.sweeps.answer import answer_of
from imagegram.sweeps.axes import show
from imagegram.sweeps.drawings import Frontier, Knob, path_axis
from imagegram.sweeps.grids import jobs_grid, means_grid
from imagegram.sweeps.interactive import frontier_figure, panel_figure, plotly_script
from imagegram.sweeps.jobs import planned_jobs
from imagegram.sweeps.legends import frontier_legend, knob_legend
from imagegram.sweeps.samples import SampleTable, sample_tables
from imagegram.sweeps.styles import REPORT_CSS, dark_partners
from imagegram.sweeps.sweep import Sweep

REPORT: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_MAX_SHOWN_SEEDS: Final = 6


def write_page(folder: Path, sweep: Sweep) -> Path:
    """Write ``report.html`` into ``folder``; return its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"png": _data_url, "tied": tied, "share": _share}
    samples = sample_tables(sweep.counted, sweep.axes)
    page = environment.get_template("sweep.html.j2").render(
        page=_texts(sweep) | {"are_texts": any(map(_has_texts, samples))},
        css=Markup(REPORT_CSS.read_text() + (_TEMPLATES / "sweep.css").read_text()),
        script=Markup((_TEMPLATES / "sweep.js").read_text()),
        plotly=Markup(plotly_script()),
        partners=_json(dark_partners(sweep.axes)),
        frontiers=[_frontier(frontier) for frontier in sweep.frontiers],
        knobs=[_knob(knob) for knob in sweep.knobs],
        samples=samples,
        means=means_grid(sweep),
        jobs=jobs_grid(sweep),
    )
    path = folder / REPORT
    path.write_text(page)
    return path


def warnings_of(sweep: Sweep) -> list[str]:
    """Return sentences that warn of what makes the figures less reliable."""
    found = []
    planned = [planned_jobs(path) for path in sweep.paths]
    wanted = sum(number for number in planned if number is not None)
    if None not in planned and wanted > len(sweep.jobs):
        found.append(f"The sweep was to have {wanted} jobs; {len(sweep.jobs)} of them began.")
    if sweep.unfinished:
        kinds = Counter(job.outcome for job in sweep.unfinished)
        counts = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        found.append(
            f"{len(sweep.unfinished)} of {len(sweep.jobs)} jobs did not finish ({counts}): they "
            "are in the table of all jobs, and in no figure and no mean."
        )
    if sweep.repeated:
        found.append(
            f"{len(sweep.repeated)} jobs have the configuration and the seed of a later one, which "
            "counts; they are no second seed."
        )
    by_text: dict[str, list[str]] = {}
    for score, groups in sweep.mixed.items():
        text = "; ".join(f"{group.text} ({len(group.jobs)} jobs)" for group in groups)
        by_text.setdefault(text, []).append(score)
    for text, scores in by_text.items():
        found.append(
            f"Recipes differ for {', '.join(scores)}: {text}. Such numbers are not comparable: "
            "they are never averaged or joined, and each recipe has figures of its own."
        )
    if gone := [job for job in sweep.counted if job.scores and job.recipes is None]:
        found.append(
            f"The recipes of {len(gone)} jobs are not on record any more (their evaluation was "
            "deleted); number of samples and encoder of the configuration stand in for them."
        )
    for option, chosen, kind in (("x", sweep.x, "copying"), ("y", sweep.y, "quality")):
        if chosen is None:
            found.append(
                f"No frontier is drawn: no job has a {kind} score; choose one with {option}=SCORE."
            )
    return found


def _texts(sweep: Sweep) -> dict[str, Any]:
    """Return all texts of the page outside figures and tables."""
    joined = path_axis(sweep.axes)
    several = any(len(found.jobs) > 1 for found in sweep.configurations)
    return {
        "title": _title(sweep),
        "facts": _facts(sweep),
        "answer": answer_of(sweep),
        "warnings": warnings_of(sweep),
        "x": sweep.x,
        "y": sweep.y,
        "interval": "over seeds where there are several" if several else "of the job's own samples",
        "path": joined.label if joined else "",
        "has_axes": bool(sweep.axes),
        "failures": sweep.unfinished,
        "command": _command(sweep),
        "stages": _stages(sweep),
        "shared": _shared(sweep),
        "folders": [str(job.folder) for job in sweep.jobs],
    }


def _title(sweep: Sweep) -> str:
    if sweep.all_axes:
        return " x ".join(axis.label for axis in sweep.all_axes)
    names = [_constant(sweep, f"{group}.name") for group in ("corpus", "tokenizer", "sampler")]
    return " x ".join(filter(None, names)) or sweep.paths[0].name


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """Return (label, value) pairs for the line under the title."""
    done, total = len(sweep.jobs) - len(sweep.unfinished), len(sweep.jobs)
    seeds = list(dict.fromkeys(show(job.seed) for job in sweep.counted))
    some = ", ".join(seeds) if len(seeds) <= _MAX_SHOWN_SEEDS else f"{len(seeds)} seeds"
    facts = [
        ("jobs", f"{total} completed" if done == total else f"{done} of {total} completed"),
        ("configurations", str(len(sweep.configurations))),
        ("seeds", some or "none"),
    ]
    for label, key in (
        ("corpus", "corpus.name"),
        ("tokenizer", "tokenizer.name"),
        ("sampler", "sampler.name"),
        ("samples each", "num_samples"),
    ):
        if value := _constant(sweep, key):
            facts.append((label, value))
    seconds = sum(job.duration_s for job in sweep.jobs)
    if seconds:  # a table of results has none
        facts.append(("time of all stages", f"{seconds:,.0f} s"))
    return facts


def _constant(sweep: Sweep, key: str) -> str:
    """Return a value of the configuration that all jobs share, or an empty text."""
    values = {job.config.get(key) for job in sweep.jobs if job.config}
    return show(next(iter(values))) if len(values) == 1 and None not in values else ""


def _shared(sweep: Sweep) -> str:
    """Return what all jobs have in common, one ``key=value`` per line."""
    configs = [job.config for job in sweep.jobs if job.config]
    if not configs:
        return ""
    first, *others = configs
    common = {
        key: value
        for key, value in first.items()
        if not key.startswith("hydra") and all(other.get(key, _ABSENT) == value for other in others)
    }
    return "\n".join(f"{key}={show(value)}" for key, value in common.items())


_ABSENT: Final = object()


def _command(sweep: Sweep) -> str:
    """Return the command that was typed, if there is one multirun that recorded it."""
    try:
        words = OmegaConf.load(sweep.paths[0] / "multirun.yaml").hydra.overrides.task
    except (OSError, AttributeError):
        return ""
    line = shlex.join(["python", "-m", "imagegram.run", "-m", *words])
    return line if len(sweep.paths) == 1 else ""


def _stages(sweep: Sweep) -> list[dict[str, Any]]:
    """Return for each stage how many jobs made and found it, and its total seconds."""
    stages: dict[str, dict[str, Any]] = {}
    for job in sweep.jobs:
        for name, record in job.stages.items():
            row = stages.setdefault(name, {"name": name, "made": 0, "found": 0, "duration_s": 0.0})
            row["found" if record["hit"] else "made"] += 1
            row["duration_s"] += record["duration_s"]
    return list(stages.values())


def _frontier(frontier: Frontier) -> dict[str, Any]:
    return {
        "recipe": frontier.recipe,
        "num_jobs": sum(len(mark.configuration.jobs) for mark in frontier.marks),
        "legends": frontier_legend(frontier),
        "figure": _json(frontier_figure(frontier).to_plotly_json()),
    }


def _knob(knob: Knob) -> dict[str, Any]:
    return {
        "title": knob.scale.title,
        "key": knob.scale.axis.key,
        "followers": ", ".join(knob.scale.axis.followers),
        "refusals": knob.refusals,
        "legends": knob_legend(knob),
        "panels": [
            {
                "score": panel.score,
                "recipe": panel.recipe,
                "figure": _json(panel_figure(panel, knob).to_plotly_json()),
            }
            for panel in knob.panels
        ],
    }


def _has_texts(table: SampleTable) -> bool:
    return any(cell and cell.texts for _, cells in table.rows for cell in cells)


def _share(share: float) -> str:
    return tied(number_text(share, is_share=True))


def _json(value: Mapping[str, Any]) -> Markup:
    """Return JSON for a script element, escaped so that no text can close the element."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _data_url(image_HWC: Images) -> str:
    encoded = base64.b64encode(grids.png_bytes(image_HWC)).decode("ascii")
    return f"data:image/png;base64,{encoded}"
