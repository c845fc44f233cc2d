"""Estimate what a run will need: images, tokens, disk, memory and time of every stage.

python -m imagegram.tools.plan corpus=cc12m_100 tokenizer=pyramid4
python -m imagegram.tools.plan corpus=folder corpus.path=PHOTOS tokenizer=pyramid5 --json

Takes the words of ``imagegram.run``. Nothing is tokenized, hashed or downloaded: sizes follow from
formulas, times from the artifacts that were made here before. What is cached costs nothing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from imagegram.errors import ConfigError, ImagegramError
from imagegram.executors.commands import exit_cleanly
from imagegram.plan.forecast import Forecast
from imagegram.plan.rates import BUILTIN, Rates
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import human_bytes
from imagegram.tools.arguments import tool_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a plan; return the exit status, 1 when disk or memory is too small."""
    parser = tool_parser("plan", __doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument(
        "--rates", action="store_true", help="seconds a unit, of what was made here"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for imagegram.run")
    flags = parser.parse_intermixed_args(argv)
    cfg = _compose(flags.overrides)
    outputs = Path(cfg.paths.outputs).absolute()
    if flags.rates:
        import imagegram.run  # noqa: F401 - imports all stages and so their RATE

        rates = Rates(ArtifactStore(root=outputs / "artifacts"))
        print(json.dumps(rates.measured(), indent=1))
        return 0
    forecast, found = _foresee(cfg, outputs)
    free = shutil.disk_usage(_existing(outputs)).free
    if flags.json:
        print(json.dumps(describe(forecast, free), indent=1))
    else:
        print(found)
        show(forecast, free, outputs)
    return 0 if forecast.disk_bytes <= free and not forecast.refusals else 1


def describe(forecast: Forecast, free: int) -> dict[str, Any]:
    """Describe a forecast: ``stages``, the totals, and which numbers are estimates."""
    return {
        "stages": [dataclasses.asdict(stage) for stage in forecast.stages],
        "disk_bytes": forecast.disk_bytes,
        "free_bytes": free,
        "memory_bytes": forecast.memory_bytes,
        "seconds": forecast.seconds,
        "is_whole": forecast.is_whole,
        "num_estimated_shards": forecast.num_estimated,
        "num_unhashed_shards": forecast.num_unknown,
    }


def _compose(overrides: Sequence[str]) -> DictConfig:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    from imagegram import schema, words

    schema.register()
    typed = words.as_typed(overrides)
    try:
        with initialize_config_dir(str(schema.CONF), version_base="1.3"):
            return compose("config", typed)
    except HydraException as error:
        if isinstance(error.__cause__, ImagegramError):
            raise error.__cause__ from None
        hints = words.explain(typed)
        raise ConfigError("\n".join([str(error), *hints])) from error


def _foresee(cfg: DictConfig, outputs: Path) -> tuple[Forecast, str]:
    """Return the forecast, and what was found of the corpus."""
    from imagegram.executors.budget import budget_bytes
    from imagegram.experiment import build, num_workers
    from imagegram.plan.planner import foresee
    from imagegram.run import flow

    store = ArtifactStore(root=outputs / "artifacts")
    exp = build(cfg)
    forecast = foresee(
        exp,
        flow,
        store=store,
        workers=num_workers(cfg),
        memory_bytes=budget_bytes(cfg.runtime.memory_gb),
    )
    return forecast, exp.corpus.snapshot.line


def _existing(folder: Path) -> Path:
    """Return the folder or its nearest existing parent, whose file system is asked for space."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def show(forecast: Forecast, free: int, outputs: Path) -> None:
    """Print the table of a plan and its totals."""
    table = Table(box=None)
    table.add_column("stage", no_wrap=True)
    for heading in ("cached", "items", "tokens", "to write", "memory", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("rate", no_wrap=True)
    for stage in forecast.stages:
        if not stage.known:
            table.add_row(stage.name, "unknown", *[""] * 5, "not foreseen")
            continue
        done = stage.cached == stage.parts
        table.add_row(
            stage.name,
            "all" if done else f"{stage.cached} of {stage.parts}",
            f"{stage.images:,}",
            f"{stage.tokens:,}" if stage.tokens else "",
            "" if done else human_bytes(stage.disk_bytes),
            "" if done else human_bytes(stage.memory_bytes),
            "" if done else f"{stage.seconds:,.1f}",
            "" if done else stage.source,
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # output to a file is not cut at a terminal's width
    console.print(table)
    verdict = "fits" if forecast.disk_bytes <= free else "DOES NOT FIT"
    print(
        f"to write {human_bytes(forecast.disk_bytes)} in {outputs}, {human_bytes(free)} free: "
        f"{verdict}; memory {human_bytes(forecast.memory_bytes)}; about {forecast.seconds:,.0f} s"
    )
    for refusal in forecast.refusals:
        print(f"REFUSED: {refusal}")
    if forecast.unforeseen:
        print(f"not foreseen, so without a share in these sums: {', '.join(forecast.unforeseen)}")
    if not forecast.is_whole:
        print("the stages after them depend on what they make, and are not foreseen either")
    if forecast.num_estimated:
        print(f"items of {forecast.num_estimated} files are estimated from their sizes")
    if forecast.num_unknown:
        print(f"{forecast.num_unknown} shards were never hashed here: they count as not cached")
    if any(stage.source == "built in" for stage in forecast.stages):
        print(f"built-in rates: {BUILTIN}")


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
