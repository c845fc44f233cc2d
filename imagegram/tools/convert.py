"""Import and export token shards with the separator *after* each image (NNNNN.bin, config.json).

python -m imagegram.tools.convert export outputs/artifacts/selection/DIGEST FOLDER
python -m imagegram.tools.convert import FOLDER INDEX_FOLDER

The layout: ``FOLDER/token_shards/NNNNN.bin`` (or ``FOLDER/NNNNN.bin``), little-endian uint16, every
image ``tokens_per_image`` ids and then 65535; ``FOLDER/config.json`` holds the counts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.progress import track

from imagegram.errors import IndexFormatError, StageError, UnsupportedError
from imagegram.executors.commands import exit_cleanly
from imagegram.indexes.build.stage import BuildIndexShard
from imagegram.indexes.format import IndexShard
from imagegram.indexes.open import find_shards
from imagegram.records import EOS_TOKEN_ID, TOKEN_BYTES
from imagegram.stages.split import CHOSEN_SKIPS
from imagegram.stages.token_shard import TokenShard
from imagegram.stages.tokens import TokenSet
from imagegram.store.manifest import MANIFEST, PARTS_FILE, Artifact, Manifest, read_parts
from imagegram.store.parts import open_parts
from imagegram.tools.arguments import place, tool_parser

CONFIG: Final = "config.json"
TOKEN_SHARDS: Final = "token_shards"
_SEPARATOR: Final = EOS_TOKEN_ID.to_bytes(TOKEN_BYTES, "little")
_BLOCK: Final = 1 << 22
_EXAMPLES: Final = """\
examples:
  hand the training tokens of a run (stage select) to another program:
    python -m imagegram.tools.convert export outputs/artifacts/selection/DIGEST exported
  index token shards of another program, then ask them:
    python -m imagegram.tools.convert import exported imported
    python -m imagegram.tools.query imported --ids 65535 --next"""


def main(argv: Sequence[str] | None = None) -> int:
    """Export or import token shards; return the exit status."""
    parser = tool_parser("convert", __doc__.partition("\n")[0], epilog=_EXAMPLES)
    verbs = parser.add_subparsers(dest="verb", required=True)
    out = verbs.add_parser("export", help="token or index artifact -> NNNNN.bin and config.json")
    out.add_argument(
        "source", type=place, help="selection, tokens, index artifact, or index folder"
    )
    out.add_argument("target", type=place, help="folder to write")
    into = verbs.add_parser("import", help="NNNNN.bin and config.json -> index folders")
    into.add_argument("source", type=place, help="folder with config.json and the .bin files")
    into.add_argument("target", type=place, help="folder to write, one folder a shard")
    into.add_argument(
        "--tokens-per-image", type=int, metavar="N", help="when there is no config.json"
    )
    flags = parser.parse_args(argv)
    try:
        print(f"{_convert(flags)} -> {flags.target}")
    except OSError as error:
        raise StageError(
            f"cannot convert {flags.source} to {flags.target}: {error}; give a source that exists "
            "and a target folder on a disk with space that you may write"
        ) from error
    return 0


def _convert(flags: argparse.Namespace) -> str:
    if flags.verb == "export":
        config = export_shards(flags.source, flags.target)
        return f"{config['num_images']} images in {config['shards']} shards"
    folders = import_shards(flags.source, flags.target, tokens_per_image=flags.tokens_per_image)
    return f"{len(folders)} index shards"


# ------------------------------------------------------------------------------------------ export


def export_shards(source: Path, target: Path) -> dict[str, Any]:
    """Write ``token_shards/NNNNN.bin`` and ``config.json``; return the contents of the latter.

    Args:
        source: selection, tokens or index artifact, or anything that ``open_index`` opens.
        target: folder, made when missing.

    Raises:
        UnsupportedError: when the documents are not all equally long.
        IndexFormatError: when ``source`` is none of these, or ``target`` holds shards already.
    """
    shards = _streams(source)
    lengths = {shard.document_length for shard in shards if shard.num_documents}
    if len(lengths) != 1 or None in lengths:
        raise UnsupportedError(
            f"{source}: its documents have different lengths or there are none, and this layout "
            "holds images of one length only; copy the index folder instead"
        )
    folder = target / TOKEN_SHARDS
    if any(folder.glob("*.bin")):
        raise IndexFormatError(f"{folder} holds token shards already; give an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(track(shards, description="export", transient=True)):
        partial = folder / f"{number:05d}.bin.tmp"
        with partial.open("wb") as stream:
            for piece in _pieces(shard):
                stream.write(piece)
        partial.rename(partial.with_suffix(""))
    config = {
        **_describe(source),
        "tokens_per_image": lengths.pop(),
        "separator_token": EOS_TOKEN_ID,
        "num_images": sum(shard.num_documents for shard in shards),
        "shards": len(shards),
    }
    (target / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    return config


def _pieces(shard: IndexShard | TokenShard) -> Iterator[bytes]:
    """Yield the documents of a shard in pieces, with the separator moved behind each document."""
    if isinstance(shard, TokenShard):
        ends = shard.separators
        parts = [shard.stream[ends[first] + 1 : ends[end] + 1] for first, end in shard.runs()]
    else:
        parts = [shard.tokens[1:]]
    for part in parts:
        for start in range(0, len(part), _BLOCK):
            yield part[start : start + _BLOCK].tobytes()
    if isinstance(shard, IndexShard) and shard.num_documents and not shard.has_final_separator:
        yield _SEPARATOR


def _streams(source: Path) -> tuple[IndexShard | TokenShard, ...]:
    """Shards to export; those of a token set have no table, and none is needed."""
    if (source / PARTS_FILE).exists():
        collection = Artifact(path=source, manifest=Manifest.read(source))
        if read_parts(source)[0] != BuildIndexShard.kind:
            return TokenSet(artifact=collection, images=()).shards
        return tuple(IndexShard(path=part.path) for part in open_parts(collection))
    if (source / "tokenized.0").exists() and not (source / "table.0").exists():
        return (IndexShard(path=source),)
    return find_shards(source)


def _describe(source: Path) -> dict[str, Any]:
    """Return tokenizer and failures, as far as the manifest of the source records them."""
    described: dict[str, Any] = {
        "tokenizer": None,
        "encoded_levels": None,
        "vocab_size": 256,
        "num_failed": None,
        "source": source.name,
    }
    if not (source / MANIFEST).exists():
        return described
    manifest = Manifest.read(source)
    upstream = manifest.payload.get("tokens")
    if upstream:  # an index names its token set; an index shard names its token shards
        names = [upstream] if isinstance(upstream, str) else upstream
        # A shard of which documents are left out is named with the content of the selection.
        names = [name if isinstance(name, str) else name[0] for name in names]
        parts = [_describe(source.parent.parent / name) for name in names]
        failed = [part["num_failed"] for part in parts]
        described |= {**parts[0], "num_failed": None if None in failed else sum(failed)}
    else:
        described["encoded_levels"] = manifest.payload.get("tokenizer", {}).get("sizes")
        for name in ("tokenizer", "vocab_size"):
            described[name] = manifest.facts.get(name, described[name])
    if "skipped" in manifest.facts:
        skipped = manifest.facts["skipped"]
        described["num_failed"] = sum(n for why, n in skipped.items() if why not in CHOSEN_SKIPS)
    return described | {"source": manifest.digest}


# ------------------------------------------------------------------------------------------ import


def import_shards(source: Path, target: Path, *, tokens_per_image: int | None = None) -> list[Path]:
    """Index every ``NNNNN.bin``; return the index folders, which ``open_index(target)`` opens.

    Args:
        source: folder with ``config.json`` and the shards, in it or in ``token_shards``.
        target: folder for one index folder a shard.
        tokens_per_image: instead of the one in ``config.json``.

    Raises:
        IndexFormatError: when a shard has a remainder, a misplaced separator, or counts that
            differ from ``config.json``; nothing half-made is kept of that shard.
    """
    config = _read_config(source)
    length = tokens_per_image if tokens_per_image is not None else config.get("tokens_per_image")
    if not isinstance(length, int) or length < 1:
        raise IndexFormatError(
            f"{source / CONFIG} tells no tokens_per_image of at least 1 (found {length!r}); "
            "add --tokens-per-image N"
        )
    files = sorted((source / TOKEN_SHARDS).glob("*.bin")) or sorted(source.glob("*.bin"))
    if not files:
        raise IndexFormatError(
            f"{source} holds no NNNNN.bin, nor does {source / TOKEN_SHARDS}; give the folder with "
            "config.json"
        )
    counts = {
        "num_images": sum(_num_images(file, length) for file in files),
        "shards": len(files),
    }
    for name, count in counts.items():
        if isinstance(config.get(name), int) and config[name] != count:
            raise IndexFormatError(
                f"{source / CONFIG} promises {name} = {config[name]}, but the .bin files hold "
                f"{count}; a shard is missing, left over or of another length than {length}"
            )
    target.mkdir(parents=True, exist_ok=True)
    return [
        _import_shard(file, target / file.stem, length)
        for file in track(files, description="import", transient=True)
    ]


def _read_config(source: Path) -> dict[str, Any]:
    path = source / CONFIG
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise IndexFormatError(f"{path} is not a JSON object ({error}); mend it") from error


def _num_images(file: Path, length: int) -> int:
    """Return the number of images of a shard; a remainder is an error, never rounded away."""
    size, image = file.stat().st_size, (length + 1) * TOKEN_BYTES
    if size % image:
        raise IndexFormatError(
            f"{file} has {size} bytes, which is no multiple of {image} = ({length} tokens + "
            f"separator) x {TOKEN_BYTES} bytes ({size % image} left over): it was cut, or "
            "tokens_per_image is wrong; copy it again, or give --tokens-per-image N"
        )
    return size // image


def _import_shard(file: Path, folder: Path, length: int) -> Path:
    from imagegram.indexes.build.sort import build_table

    if folder.exists():
        raise IndexFormatError(f"{folder} exists already; give another folder")
    stride, images = length + 1, _num_images(file, length)
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with (partial / "tokenized.0").open("wb") as stream, file.open("rb") as bytes_in:
            stream.write(_SEPARATOR)
            rows = max(_BLOCK // stride, 1)
            for first in range(0, images, rows):
                block = bytes_in.read(rows * stride * TOKEN_BYTES)
                _check_separators(file, first, np.frombuffer(block, "<u2").reshape(-1, stride))
                stream.write(block)
        offsets = np.arange(images, dtype="<u8") * np.uint64(stride * TOKEN_BYTES)
        offsets.tofile(partial / "offset.0")
        build_table(partial / "tokenized.0", partial / "table.0")
        IndexShard.open(partial)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check_separators(file: Path, first: int, rows: np.ndarray[Any, np.dtype[np.uint16]]) -> None:
    separators = rows == EOS_TOKEN_ID
    wrong = ~separators[:, -1] | separators[:, :-1].any(axis=1)
    if wrong.any():
        raise IndexFormatError(
            f"{file}: image {first + int(wrong.argmax())} does not end with its only separator "
            f"{EOS_TOKEN_ID}; tokens_per_image is wrong, or the file is damaged; give "
            "--tokens-per-image N, or copy it again"
        )


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
