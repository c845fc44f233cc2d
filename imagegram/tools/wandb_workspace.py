"""Lay out a W&B project: the frontier, corpus size, depth, prefixes, all knobs at once, pictures.

python -m imagegram.tools.wandb_workspace entity=ME                saves it, prints its address
python -m imagegram.tools.wandb_workspace entity=ME project=NAME
python -m imagegram.tools.wandb_workspace entity=ME --print        the view as JSON, no network

Panels hold on to the short names that metrics give to scores, so they show every sweep of the
project. Needs ``pip install 'imagegram[workspace]'``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any, Final

from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.loggers.headline import SECTION
from imagegram.loggers.wandb import has_key
from imagegram.metrics.shipped import shipped_scores
from imagegram.tools.arguments import exit_cleanly, parse

NAME: Final = "imagegram: create or copy"
#: Numbers of the configuration that panels use as axes, as W&B is told them.
AXES: Final = {
    "images": "corpus_num_images",
    "levels": "tokenizer_num_levels",
    "context": "sampler.max_context",
    "min count": "sampler.min_count",
    "temperature": "sampler.temperature",
}
#: Number of tokens that an ordered tokenizer keeps. No knob of all runs: in a plot of all knobs a
#: run without one of them is not shown.
PREFIX: Final = "tokenizer.num_tokens"
PICTURES: Final = ("generate/grid", "copies/worst")
_LOGARITHMIC: Final = ("images", "tokens")
#: Of a sweep that a panel shows; W&B's own limit is 10.
_MAX_RUNS: Final = 200


def build_workspace(entity: str, project: str) -> Any:
    """The workspace (``wandb_workspaces.workspaces.Workspace``), not saved.

    Args:
        entity: user or team that owns the project.
        project: where the runs are.

    Raises:
        MissingDependencyError: without the package that knows W&B's views.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise MissingDependencyError(
            "a workspace needs wandb-workspaces; type: pip install 'imagegram[workspace]'"
        ) from error

    sections = [
        _section(ws, "Frontier: copies or chaos", _frontiers(wr)),
        _section(ws, "Size of the corpus", _curves(wr, "images", AXES["images"])),
        _section(ws, "Depth of the pyramid", _curves(wr, "levels", AXES["levels"])),
        _section(ws, "Length of the prefix", _curves(wr, "tokens", PREFIX)),
        _section(ws, "All knobs", _knobs(wr), columns=1),
        _section(ws, "Pictures", _pictures(wr), columns=1),
    ]
    settings = ws.WorkspaceSettings(max_runs=_MAX_RUNS)
    return ws.Workspace(
        entity=entity, project=project, name=NAME, sections=sections, settings=settings
    )


def _section(ws: Any, name: str, panels: list[Any], *, columns: int = 3) -> Any:
    layout = ws.SectionLayoutSettings(columns=columns, rows=2)
    return ws.Section(name=name, panels=panels, is_open=True, layout_settings=layout)


def _score(wr: Any, name: str) -> Any:
    return wr.SummaryMetric(f"{SECTION}{name}")


def _shorts(*groups: str) -> list[str]:
    """Short names that shipped metrics give to scores of some groups, or of all; ranked first."""
    shown = [
        info for info in shipped_scores() if info.short and (info.group in groups or not groups)
    ]
    return [info.short for info in sorted(shown, key=lambda info: info.rank or math.inf)]


def _frontiers(wr: Any) -> list[Any]:
    """The first number of quality over all that is copied or new, the others over the first."""
    copies, (first, *others) = _shorts("copying", "novelty and choice"), _shorts("quality")
    pairs = [(x, first) for x in copies] + [(copies[0], y) for y in others]
    return [wr.ScatterPlot(title=f"{y} by {x}", x=_score(wr, x), y=_score(wr, y)) for x, y in pairs]


def _curves(wr: Any, axis: str, key: str) -> list[Any]:
    """One point a run, and their mean: a line over runs is something that W&B has no panel for."""
    return [
        wr.ScatterPlot(
            title=f"{name} by {axis}",
            x=wr.Config(key),
            y=_score(wr, name),
            log_x=axis in _LOGARITHMIC,
            running_ymean=True,
        )
        for name in _shorts()
    ]


def _knobs(wr: Any) -> list[Any]:
    metrics = {axis: wr.Config(key) for axis, key in AXES.items()}
    metrics |= {name: _score(wr, name) for name in _shorts()}
    columns = [
        wr.ParallelCoordinatesPlotColumn(metric=metric, display_name=name, log=name in _LOGARITHMIC)
        for name, metric in metrics.items()
    ]
    return [
        wr.ParallelCoordinatesPlot(title="knobs and what they lead to", columns=columns),
        wr.ParameterImportancePlot(with_respect_to=f"{SECTION}{_shorts('quality')[0]}"),
    ]


def _pictures(wr: Any) -> list[Any]:
    return [
        wr.MediaBrowser(title=key, media_keys=[key], mode="gallery", gallery_axis="run")
        for key in PICTURES
    ]


def view_spec(workspace: Any) -> dict[str, Any]:
    """What W&B would be sent: the package has no public name for it."""
    model = workspace._to_model()
    spec: dict[str, Any] = json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
    return spec


def main(argv: Sequence[str] | None = None) -> int:
    """Save or print; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m imagegram.tools.wandb_workspace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--print", action="store_true", help="show the JSON, save nothing")
    flags, values = parse(parser, argv, {"entity": "", "project": "imagegram"})
    if not values["entity"]:
        raise ConfigError(
            "whose project is it? type: python -m imagegram.tools.wandb_workspace entity=YOUR_NAME"
        )
    workspace = build_workspace(values["entity"], values["project"])
    if flags.print:
        print(json.dumps(view_spec(workspace), indent=1))
        return 0
    if not has_key():
        raise ConfigError(
            "W&B knows no key here, so nothing can be saved; type: wandb login, or set "
            "WANDB_API_KEY (and not WANDB_MODE=offline); --print shows the view without an account"
        )
    workspace.save()
    print(workspace.url)
    return 0


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
