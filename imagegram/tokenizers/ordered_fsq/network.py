"""Inference with the network of the ordered tokenizer, in chunks of one shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from imagegram.encoders.preprocessing import require_device
from imagegram.models.cores import map_on_cores
from imagegram.records import Images, Tokens
from imagegram.tokenizers.ordered_fsq.model import OrderedFsq, to_float


def load(path: Path, sizes: dict[str, Any], *, device: str, compiled: bool) -> OrderedFsq:
    """Load the network in evaluation mode, with the weights of a file, on a device.

    Raises:
        ConfigError: when there is no such device.
    """
    require_device(device, setting="tokenizer.device")
    with torch.random.fork_rng(devices=[]):  # the fresh weights are overwritten
        network = OrderedFsq(**sizes)
    network.load_state_dict(load_file(path))
    network = network.eval().to(device)
    if compiled and device != "cpu":
        for name in ("encode", "decode"):
            setattr(network, name, torch.compile(getattr(network, name)))
    return network


def encode(network: OrderedFsq, images_BSSC: Images, *, chunk: int, dtype: str) -> Tokens:
    """Encode (B, S, S, 3) uint8 images as (B, R) uint16 ids, ``chunk`` images at a time."""

    def ids(images: Tensor) -> Tensor:
        return network.ids(to_float(images)).to(torch.int32)

    empty = np.empty((0, network.num_registers), dtype=np.int32)
    return _chunked(network, ids, images_BSSC, empty, chunk, dtype).astype(np.uint16)


def decode(network: OrderedFsq, tokens_BK: NDArray[Any], *, chunk: int, dtype: str) -> Images:
    """Decode (B, K) ids to (B, S, S, 3) uint8 images, ``chunk`` images at a time."""

    def paint(ids: Tensor) -> Tensor:
        pixels = (network.paint(ids).float() + 1) * 127.5
        return pixels.round().clamp(0, 255).to(torch.uint8)

    side = network.image_size
    empty = np.empty((0, side, side, 3), dtype=np.uint8)
    return _chunked(network, paint, tokens_BK.astype(np.int32), empty, chunk, dtype)


def _chunked(
    network: OrderedFsq,
    function: Callable[[Tensor], Tensor],
    rows: NDArray[Any],
    empty: NDArray[Any],
    chunk: int,
    dtype: str,
) -> NDArray[Any]:
    """Apply ``function`` to all rows, ``chunk`` per call; the last call is padded with zeros."""
    device = network.registers.device

    def work(first: int) -> NDArray[Any]:
        some = rows[first : first + chunk]
        padded = np.zeros((chunk, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(some)] = some
        bfloat16 = torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")
        with torch.inference_mode(), bfloat16:
            done = function(torch.from_numpy(padded).to(device))
        return done[: len(some)].cpu().numpy()

    firsts = range(0, len(rows), chunk)
    return np.concatenate([empty, *map_on_cores(work, firsts, device=device)])
