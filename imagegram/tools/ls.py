"""List the artifacts: what is cached, how large, and when it was made; --json adds the path.

python -m imagegram.tools.ls
python -m imagegram.tools.ls kind=index_shard --json
python -m imagegram.tools.ls paths.outputs=FOLDER

kind           artifacts of one kind: tokens, index, samples, evaluation ...
paths.outputs  the outputs folder (outputs)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from imagegram.executors.commands import exit_cleanly
from imagegram.store.manifest import Artifact, human_bytes
from imagegram.tools.arguments import open_store, parse, tool_parser


def describe(artifact: Artifact) -> dict[str, object]:
    """Describe one artifact: kind, digest, path, size_bytes, seconds, memory_bytes, facts."""
    manifest = artifact.manifest
    return {
        "kind": artifact.kind,
        "digest": artifact.digest,
        "path": str(artifact.path.absolute()),
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        "created_at": manifest.created_at,
        "duration_s": manifest.duration_s,
        "cpu_s": manifest.cpu_s,
        "memory_bytes": manifest.memory_bytes,
        "facts": manifest.facts,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the list; return the exit status."""
    parser = tool_parser("ls", __doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    flags, values = parse(parser, argv, {"kind": "", "paths.outputs": "outputs"})
    store = open_store(values["paths.outputs"])
    rows = [describe(a) for a in store if values["kind"] in ("", a.kind)]
    if flags.json:
        print(json.dumps(rows, indent=1))
        return 0
    table = Table(box=None)
    for heading in ("kind", "digest", "size", "made at", "seconds"):
        table.add_column(heading, no_wrap=True)
    table.add_column("facts", overflow="fold", min_width=60)
    for row in rows:
        facts = " ".join(
            f"{key}={value}"
            for key, value in dict(row["facts"]).items()  # type: ignore[call-overload]
            if isinstance(value, int | str)
        )
        size = human_bytes(float(str(row["size_bytes"])))
        made, seconds = str(row["created_at"]), f"{row['duration_s']:.2f}"
        table.add_row(str(row["kind"]), str(row["digest"]), size, made, seconds, facts)
    console = Console()
    if not console.is_terminal:
        console.width = 200  # output to a file is not cut at a terminal's width
    console.print(table)
    total = sum(int(str(row["size_bytes"])) for row in rows)
    print(f"{len(rows)} artifacts, {human_bytes(total)} (shared files count each time)")
    return 0


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
