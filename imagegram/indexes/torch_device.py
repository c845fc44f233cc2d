"""Devices of the torch engine: choice, free memory, and conversion of packed files.

>>> unpack(np.array([2, 0, 4, 1], dtype=np.uint8), width=2, count=2, device=choose_device("cpu"))
tensor([  2, 260], dtype=torch.int32)
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imagegram.errors import ConfigError, UnsupportedError
from imagegram.executors.budget import available_bytes

#: Entries that are copied to the device at a time.
_BLOCK: Final = 1 << 24
#: Share of the free memory that an index may take; the rest is for the searches.
_SHARE: Final = 0.8
_GIGABYTE: Final = 1e9


def choose_device(name: str | None, *, setting: str = "generator.device") -> torch.device:
    """Return the device of a name such as ``cuda:1``; None: CUDA if there is one, else CPU.

    Args:
        name: name of the device.
        setting: key of the configuration that holds the name, for messages.

    Raises:
        ConfigError: for another name, or a device that is not there.
    """
    present = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if name is None:
        return torch.device("cuda" if present else "cpu")
    allowed = ["cpu", *(["cuda", *present] if present else [])]
    if name not in allowed:
        raise ConfigError(
            f"{setting}={name}: torch {torch.__version__} finds {', '.join(allowed)} here; set "
            f"{setting} to one of these"
        )
    return torch.device(name)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


def require_memory(needed: int, device: torch.device, *, what: str) -> None:
    """Refuse an index that does not fit on the device, before anything is copied.

    Args:
        needed: needed bytes.
        device: the device.
        what: name of the data, for messages.

    Raises:
        UnsupportedError: naming both sizes and what to type instead.
    """
    free = free_bytes(device)
    if needed > free * _SHARE:
        raise UnsupportedError(
            f"{what} needs {needed / _GIGABYTE:.2f} GB on device {device}, and of the "
            f"{free / _GIGABYTE:.2f} GB that are free there it may take {_SHARE:.0%}; use engine "
            "native, which reads the index from disk (generator.engine=native), another "
            "generator.device, or a smaller corpus or tokenizer"
        )


def position_dtype(largest: int) -> torch.dtype:
    """Return the smallest integer type that holds positions up to ``largest``."""
    return torch.int32 if largest < 2**31 else torch.int64


def unpack(
    packed: NDArray[np.uint8], *, width: int, count: int, device: torch.device, halve: bool = False
) -> Tensor:
    """Unpack little-endian integers of ``width`` bytes to a tensor.

    Args:
        packed: at least ``count * width`` bytes.
        width: 1 ... 8.
        count: integers.
        device: where the tensor lies.
        halve: whether they are byte positions of tokens, wanted as positions in tokens.

    Returns:
        (count,) int32 where that holds every value up to 2 * count, else int64.
    """
    dtype = position_dtype(2 * count)
    values = torch.empty(count, dtype=dtype, device=device)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        block = np.array(packed[start * width : stop * width]).reshape(-1, width)
        columns = torch.from_numpy(block).to(device)
        wide = torch.zeros(stop - start, dtype=torch.int64, device=device)
        for k in range(width):
            wide |= columns[:, k].long() << (8 * k)
        values[start:stop] = wide >> 1 if halve else wide
    return values


def to_device(values: NDArray[Any], device: torch.device, *, most: int | None = None) -> Tensor:
    """Copy a uint16 array to an int16 tensor of the same bits, or with values cut at ``most``.

    Args:
        values: (n,) uint16, perhaps a memory map.
        device: where the tensor lies.
        most: cut larger values to this, at most 32767, so that they compare as numbers.
    """
    result = torch.empty(values.size, dtype=torch.int16, device=device)
    for start in range(0, values.size, _BLOCK):
        block = np.array(values[start : start + _BLOCK], dtype=np.uint16)
        if most is not None:
            np.minimum(block, most, out=block)
        result[start : start + _BLOCK] = torch.from_numpy(block.view(np.int16)).to(device)
    return result


def first_true(mask_AK: Tensor) -> tuple[Tensor, Tensor]:
    """Return, per row, whether any entry is true and the first true one (else the last entry)."""
    last = mask_AK.shape[1] - 1
    numbers_K = torch.arange(last + 1, device=mask_AK.device)
    return mask_AK.any(1), torch.where(mask_AK, numbers_K, last).amin(1)
