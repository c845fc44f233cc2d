"""Lay out a W&B project: the frontier, corpus size, depth, prefixes, all knobs at once, pictures.

python -m imagegram.tools.wandb_workspace entity=ME                saves it, prints its address
python -m imagegram.tools.wandb_workspace entity=ME project=NAME
python -m imagegram.tools.wandb_workspace entity=ME --print        the view as JSON, no network

Panels use the short names that metrics give to scores, so they work for every sweep of the project.
 Needs ``pip install 'imagegram[workspace]'``.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any, Final

from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.executors.commands import exit_cleanly
from imagegram.loggers.headline import SECTION
from imagegram.loggers.wandb import has_key
from imagegram.metrics.shipped import shipped_scores
from imagegram.tools.arguments import parse, tool_parser

NAME: Final = "imagegram: create or copy"
#: Keys of the configuration that panels use as axes, as they are logged to W&B.
AXES: Final = {
    "images": "corpus_num_images",
    "levels": "tokenizer_num_levels",
    "context": "sampler.max_context",
    "min count": "sampler.min_count",
    "temperature": "sampler.temperature",
}
#: Number of tokens that an ordered tokenizer keeps. Not among the knobs of all runs: a plot of all
#: knobs omits a run that lacks one of them.
PREFIX: Final = "tokenizer.num_tokens"
PICTURES: Final = ("generate/grid", "copies/worst")
_LOGARITHMIC: Final = ("images", "tokens")
#: Largest number of runs that a panel shows; W&B's default is 10.
_MAX_RUNS: Final = 200


def build_workspace(entity: str, project: str) -> Any:
    """Build the workspace (``wandb_workspaces.workspaces.Workspace``) without saving it.

    Args:
        entity: user or team that owns the project.
        project: project with the runs.

    Raises:
        MissingDependencyError: when ``wandb-workspaces`` is not installed.
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
    """Return short names of shipped scores, of some groups or of all; ranked scores first."""
    shown = [
        info for info in shipped_scores() if info.short and (info.group in groups or not groups)
    ]
    return [info.short for info in sorted(shown, key=lambda info: info.rank or math.inf)]


def _frontiers(wr: Any) -> list[Any]:
    """Return scatter panels: the first quality number over all copying and novelty numbers.

    The other quality numbers are drawn over the first copying number.
    """
    copies, (first, *others) = _shorts("copying", "novelty and choice"), _shorts("quality")
    pairs = [(x, first) for x in copies] + [(copies[0], y) for y in others]
    return [wr.ScatterPlot(title=f"{y} by {x}", x=_score(wr, x), y=_score(wr, y)) for x, y in pairs]


def _curves(wr: Any, axis: str, key: str) -> list[Any]:
    """Return panels with one point per run, and their mean: W&B cannot draw a line over runs."""
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
    """Return the JSON that W&B would receive, for which the package has no public function."""
    model = workspace._to_model()
    spec: dict[str, Any] = json.loads(model.spec.model_dump_json(by_alias=True, exclude_none=True))
    return spec


def main(argv: Sequence[str] | None = None) -> int:
    """Save or print the workspace; return the exit status."""
    parser = tool_parser("wandb_workspace", __doc__)
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
