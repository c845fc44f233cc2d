"""Remove what is not needed: half-made folders of killed runs, and artifacts on request.

python -m imagegram.tools.gc                       half-made folders of killed runs
python -m imagegram.tools.gc digest=0123456789ab   one artifact (it is made again when needed)
python -m imagegram.tools.gc --unused              also artifacts that no run folder refers to
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from imagegram.errors import ConfigError
from imagegram.executors.commands import exit_cleanly
from imagegram.store.artifacts import LOCKS, PARTIAL, ArtifactStore
from imagegram.store.manifest import PARTS_FILE, Artifact, human_bytes, read_parts
from imagegram.tools.arguments import open_store, parse, tool_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Remove folders; return the exit status."""
    parser = tool_parser("gc", __doc__)
    parser.add_argument("--unused", action="store_true", help="also what no run refers to")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed")
    flags, values = parse(parser, argv, {"digest": "", "paths.outputs": "outputs"})
    store = open_store(values["paths.outputs"])
    if values["digest"]:
        doomed = _named(store, values["digest"])
    else:
        doomed = _abandoned(store)
        if flags.unused:
            doomed += _unused(store, Path(values["paths.outputs"]))
    freed = sum(_remove(path, dry_run=flags.dry_run) for path in doomed)
    verb = "would remove" if flags.dry_run else "removed"
    print(f"{verb} {len(doomed)} folders, {human_bytes(freed)}")
    return 0


def _named(store: ArtifactStore, digest: str) -> list[Path]:
    """Return the folder of an artifact, readable or not, and the collections that list it."""
    # Names are compared, not globbed: a pattern or ".." must not remove other folders.
    found = sorted(p for p in store.root.glob("*/*") if p.name == digest and p.is_dir())
    if not found:
        raise ConfigError(
            f"no artifact {digest!r} below {store.root}; python -m imagegram.tools.ls lists them"
        )
    names = {f"{path.parent.name}/{path.name}" for path in found}
    lists = (path.parent for path in sorted(store.root.glob(f"*/*/{PARTS_FILE}")))
    return found + [path for path in lists if path not in found and names & set(_parts(path))]


def _abandoned(store: ArtifactStore) -> list[Path]:
    """Return half-made folders that no process is writing: their lock is free."""
    doomed = []
    for path in store.partials():
        digest = path.name.removeprefix(PARTIAL).rpartition("-")[0]
        try:
            with FileLock(store.root / LOCKS / f"{path.parent.name}-{digest}.lock", timeout=0):
                doomed.append(path)
        except Timeout:
            continue  # another process is writing it now
    return doomed


def _unused(store: ArtifactStore, outputs: Path) -> list[Path]:
    """Return artifacts that no run's summary refers to, directly or through another artifact."""
    by_name = {artifact.identity(): artifact for artifact in store}
    by_digest = {artifact.digest: artifact for artifact in store}
    summaries = [*outputs.glob("runs/*/summary.json"), *outputs.glob("sweeps/*/*/summary.json")]
    queue: list[Artifact] = [
        by_digest[record["digest"]]
        for summary in summaries
        for record in _stages(summary)
        if record["digest"] in by_digest
    ]
    used: set[str] = set()
    while queue:
        artifact = queue.pop()
        if artifact.identity() in used:
            continue
        used.add(artifact.identity())
        names = set(_strings(artifact.manifest.payload)) | set(_parts(artifact.path))
        queue += [by_name[name] for name in names if name in by_name]
    # Side artifacts are no stage of a run: each is kept with the artifact that it belongs to.
    size = -1
    while len(used) > size:
        size = len(used)
        used |= {
            name
            for name, artifact in by_name.items()
            if artifact.manifest.payload.get(artifact.manifest.side_of) in used
        }
    return [artifact.path for name, artifact in by_name.items() if name not in used]


def _stages(summary: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(summary.read_text())["stages"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{summary} cannot be read ({error}), so what that run refers to is unknown; put the "
            f"file back, or move {summary.parent} to another place, and try again"
        ) from error


def _strings(payload: Any) -> Iterable[str]:
    if isinstance(payload, str):
        yield payload
    elif isinstance(payload, dict | list):
        for item in payload.values() if isinstance(payload, dict) else payload:
            yield from _strings(item)


def _parts(folder: Path) -> Iterable[str]:
    if (folder / PARTS_FILE).exists():
        kind, digests = read_parts(folder)
        yield from (f"{kind}/{digest}" for digest in digests)


def _remove(path: Path, *, dry_run: bool) -> int:
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    print(f"{path.parent.name}/{path.name}  {human_bytes(size)}")
    if not dry_run:
        shutil.rmtree(path)
    return size


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
