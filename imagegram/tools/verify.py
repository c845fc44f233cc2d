"""Read every artifact again and compare each file with the sha256 of its manifest.

python -m imagegram.tools.verify
python -m imagegram.tools.verify kind=index_shard
python -m imagegram.tools.verify paths.outputs=FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.progress import track

from imagegram.errors import ArtifactError, ConfigError, did_you_mean
from imagegram.executors.commands import exit_cleanly
from imagegram.store.artifacts import check_sizes
from imagegram.store.fingerprint import digest
from imagegram.store.manifest import Artifact, file_sha256, removal
from imagegram.tools.arguments import open_store, parse, tool_parser


def verify(artifact: Artifact) -> None:
    """Check sizes, content and name of one artifact.

    Raises:
        ArtifactError: naming the first file that is not what the manifest says.
    """
    check_sizes(artifact)
    expected = digest(artifact.manifest.payload)
    if expected != artifact.digest or artifact.path.name != artifact.digest:
        raise ArtifactError(
            f"{artifact.path}: its payload has the digest {expected}; remove it with: "
            f"{removal(artifact.path)}"
        )
    for name, entry in artifact.manifest.files.items():
        if file_sha256(artifact.path / name) != entry.sha256:
            raise ArtifactError(
                f"{artifact.path / name}: its bytes changed after it was made; remove it with: "
                f"{removal(artifact.path)}"
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Verify all artifacts; return the exit status, 1 when anything is damaged."""
    parser = tool_parser("verify", __doc__)
    _, values = parse(parser, argv, {"kind": "", "paths.outputs": "outputs"})
    store = open_store(values["paths.outputs"])
    artifacts, kind = list(store), values["kind"]
    if kind:
        kinds = {artifact.kind for artifact in artifacts}
        if kind not in kinds:  # "0 damaged" would look like a success
            raise ConfigError(f"no artifact of kind {kind!r}; {did_you_mean(kind, kinds)}")
        artifacts = [artifact for artifact in artifacts if artifact.kind == kind]
    damaged = 0
    for artifact in track(artifacts, description="verify", transient=True):
        try:
            verify(artifact)
        except ArtifactError as error:
            damaged += 1
            print(f"DAMAGED {artifact.identity()}: {error}")
    print(f"{len(artifacts)} artifacts read, {damaged} damaged")
    return int(damaged > 0)


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
