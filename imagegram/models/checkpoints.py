"""Checkpoints: tensors by name in a file that cannot run anything, those of others matched by name.

``.safetensors``, or ``.bin``, ``.pt``, ``.pth``: a pickle of which torch reads the tensors alone.

>>> different({"a": (2,), "b": (3,)}, {"a": (2,), "c": (3,)})
'b is missing, c is left over'
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imagegram.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]

SAFETENSORS: Final = ".safetensors"
#: Ends of names of files that are read.
SUFFIXES: Final = (SAFETENSORS, ".bin", ".pt", ".pth")
#: A name that only the files of a family have, from the special to the general.
_FAMILIES: Final = {
    "RAR": "target_aware_pos_embed",
    "TA-TiTok": "decoder.text_guidance_proj.weight",
    "TiTok": "latent_tokens",
    "MaskGen-VQ": "blocks.0.attn.add_q_proj.weight",
    "MaskGen-KL": "decoder_blocks.0.attn.add_q_proj.weight",
    "UViT": "mid_block.attn.qkv.weight",
    "ImageBert": "model.lm_head.weight",
    "MaskGIT-VQGAN": "quantize.embedding.weight",
    "gpt of this package": "targets",
    "planner of this package": "id_ranges",
    "chunks of this package": "hand.weight",
    "maskgen_kl of this package": "head.to_velocity.weight",
    "maskgen of this package": "text.project.weight",
    "local maskgit of this package": "mix.weight",
    "maskgit of this package": "transformer.blocks.0.attention.qkv.weight",
}
#: Families whose files have the names of another one, and more.
_WITHIN: Final = {"TiTok": "TA-TiTok", "maskgen of this package": "maskgen_kl of this package"}
#: Names that a message lists.
_LISTED: Final = 5


def read_tensors(path: Path, *, setting: str) -> dict[str, Tensor]:
    """Read a checkpoint; tensors are memory-mapped and read when they are used.

    Args:
        path: the file.
        setting: how it is asked for: ``generator.checkpoint``.

    Raises:
        ConfigError: for a file of another kind, cut, or with anything but tensors.
    """
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise ConfigError(
            f"{setting}={path}: this is no file of weights; give one that exists: "
            f"{setting}=FOLDER/NAME.safetensors, or NAME.bin"
        )
    content = (_read_safetensors if path.suffix == SAFETENSORS else _read_pickle)(path, setting)
    strange = [name for name, value in content.items() if not hasattr(value, "shape")]
    if strange or not content:
        raise ConfigError(
            f"{setting}={path}: a file of weights holds tensors by name, but this one holds "
            f"{_listed(strange) or 'nothing'}; give the state dict of the network alone"
        )
    return content


def recorded_sizes(path: Path) -> dict[str, Any]:
    """Return the sizes of a network by name, as a training writes them into the header of a file.

    {}: nothing is recorded. The file is one that :func:`read_tensors` reads.
    """
    if path.suffix != SAFETENSORS:
        return {}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        entries = (file.metadata() or {}).values()
    sizes: dict[str, Any] = {}
    for entry in entries:
        with suppress(ValueError, TypeError):  # a header of others
            sizes.update(json.loads(entry))
    return sizes


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors, by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_family(shapes: Shapes, family: str, *, setting: str) -> None:
    """Refuse the weights of another kind of network.

    Raises:
        ConfigError: naming the kind that they are of, where it is known.
    """
    more = _FAMILIES.get(_WITHIN.get(family, ""))
    if _FAMILIES[family] in shapes and more not in shapes:
        return
    found = next((name for name, key in _FAMILIES.items() if key in shapes), None)
    what = f"weights of {found}" if found else f"unknown ones ({_listed(shapes)})"
    raise ConfigError(
        f"{setting}: weights of {family} were asked for, but the file holds {what}; give another "
        "file, or a component of that family"
    )


def require_shapes(found: Shapes, expected: Shapes, *, setting: str) -> None:
    """Refuse weights that are not exactly those of a network.

    Raises:
        ConfigError: naming what is missing, left over or of another shape.
    """
    if reason := different(expected, found):
        raise ConfigError(
            f"{setting}: the weights are not those of the network: {reason}; give the whole file "
            "of a network of these sizes"
        )


def different(expected: Shapes, found: Shapes) -> str:
    """Return how names and shapes differ; empty where they are the same."""
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    reasons = [f"{_listed(missing)} is missing"] if missing else []
    reasons += [f"{_listed(more)} is left over"] if more else []
    reasons += [
        f"{name} is {found[name]}, not {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if tuple(found[name]) != tuple(expected[name])
    ][:_LISTED]
    return ", ".join(reasons)


def num_blocks(shapes: Shapes, prefix: str) -> int:
    """Return the number of blocks whose weights are named ``prefix`` and a number.

    >>> num_blocks({"in_blocks.0.x": (1,), "in_blocks.2.x": (1,)}, "in_blocks.")
    3
    """
    numbers = [name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)]
    return 1 + max(map(int, numbers), default=-1)


def write_weights(path: Path, weights: Mapping[str, Tensor], header: dict[str, str]) -> None:
    """Write tensors as a safetensors file, with metadata in its header.

    The file has the same bytes for the same tensors, with one entry of metadata: several are
    written in any order. Tied weights are stored twice.
    """
    from safetensors.torch import save_file

    save_file(dict(_apart(weights)), path, metadata=header)


def _apart(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Copy tensors to the CPU so that none share memory."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        yield name, plain.clone() if place in seen else plain
        seen.add(place)


def _read_safetensors(path: Path, setting: str) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise _damaged(path, setting, error) from error


def _read_pickle(path: Path, setting: str) -> dict[str, Any]:
    import pickle
    import zipfile

    import torch

    try:
        is_mapped = zipfile.is_zipfile(path)  # files of very old versions are none
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{setting}={path}: the file asks for more than tensors, which could run programs, so "
            "it is not read; give the state dict alone, or a .safetensors file"
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise _damaged(path, setting, error) from error
    return dict(content) if isinstance(content, Mapping) else {type(content).__name__: None}


def _damaged(path: Path, setting: str, error: Exception) -> ConfigError:
    reason = str(error).partition("\n")[0]
    return ConfigError(f"{setting}={path}: the file is cut or damaged ({reason}); fetch it again")


def _listed(names: Iterable[str]) -> str:
    some = sorted(names)
    more = f" ... ({len(some)} in all)" if len(some) > _LISTED else ""
    return ", ".join(some[:_LISTED]) + more
