"""Report a sweep: read its jobs and write report.html, results.csv and results.parquet.

    python -m imagegram.tools.report sweep=outputs/sweeps/TIME
    python -m imagegram.tools.report sweep=FIRST sweep=SECOND sweep=outputs/runs/TIME out=FOLDER
    python -m imagegram.tools.report sweep=FOLDER x=exact_copy_rate y=recall
    python -m imagegram.tools.report sweep=outputs/sweeps/TIME out=experiments/NAME

A multirun does this by itself when it ends. Nothing is measured: the numbers are those of the jobs'
``summary.json``. The last line on stdout is the path of the report.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from imagegram.errors import ConfigError
from imagegram.executors.commands import exit_cleanly
from imagegram.sweeps.jobs import newest_sweep
from imagegram.tools.arguments import parse, tool_parser

_EPILOG = """\
sweep  a folder of a multirun or of a single run, or a results.csv; may be given several times
x, y   scores of the frontier; by default a copying score, and a kernel or Frechet distance
out    where to write; by default the folder of the first sweep
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report; return the exit status."""
    parser = tool_parser("report", __doc__, epilog=_EPILOG)
    keys = {"sweep": "", "x": "", "y": "", "out": ""}
    flags, values = parse(parser, argv, keys)
    words = [word.partition("=") for word in flags.words]
    paths = [Path(value) for key, _, value in words if key == "sweep" and value]
    if not paths:
        newest = newest_sweep(Path("outputs")) or "outputs/sweeps/TIME"
        raise ConfigError(f"which sweep? type: python -m imagegram.tools.report sweep={newest}")
    from imagegram.sweeps.write import write_report

    beside = paths[0].parent if paths[0].is_file() else paths[0]
    out = Path(values["out"]) if values["out"] else beside
    print(write_report(paths, out=out, x=values["x"], y=values["y"]))
    return 0


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
