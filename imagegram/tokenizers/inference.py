"""Inference with the network of a learned tokenizer, in chunks of one shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from imagegram.encoders.preprocessing import require_device
from imagegram.models.cores import map_on_cores
from imagegram.models.pictures import to_bytes, to_float
from imagegram.records import Images, Tokens
from imagegram.tokenizers.sizes import NetworkSizes


class CodeNetwork(Protocol):
    """A network with ids between its two halves, ``encode`` and ``decode``."""

    image_size: int
    num_tokens: int

    def ids(self, images_BSSC: Tensor) -> Tensor:
        """Encode (B, S, S, 3) pixels in -1 ... 1 as (B, T) ids."""

    def paint(self, ids_BT: Tensor, *beside: Tensor) -> Tensor:
        """Decode (B, T) ids to (B, S, S, 3) pixels, not clipped."""

    def parameters(self) -> Any:
        """Yield the weights."""


def load(path: Path, sizes: NetworkSizes, *, device: str, compiled: bool) -> CodeNetwork:
    """Load the network in evaluation mode, with the weights of a file, on a device.

    Raises:
        ConfigError: when there is no such device.
    """
    require_device(device, setting="tokenizer.device")
    with torch.random.fork_rng(devices=[]):  # the fresh weights are overwritten
        network: Any = sizes.network()(**sizes.as_dict())
    network.load_state_dict(load_file(path))
    network = network.eval().to(device)
    if compiled and device != "cpu":
        for name in ("encode", "decode"):
            setattr(network, name, torch.compile(getattr(network, name)))
    loaded: CodeNetwork = network
    return loaded


def encode(network: CodeNetwork, images_BSSC: Images, *, chunk: int, dtype: str) -> Tokens:
    """Encode (B, S, S, 3) uint8 images as (B, T) uint16 ids, ``chunk`` images at a time."""

    def ids(images: Tensor) -> Tensor:
        return network.ids(to_float(images)).to(torch.int32)

    empty = np.empty((0, network.num_tokens), dtype=np.int32)
    return _chunked(network, ids, (images_BSSC,), empty, chunk, dtype).astype(np.uint16)


def decode(
    network: CodeNetwork, tokens_BT: NDArray[Any], *beside: NDArray[Any], chunk: int, dtype: str
) -> Images:
    """Decode (B, T) ids to (B, S, S, 3) uint8 images, ``chunk`` images at a time.

    Args:
        network: paints.
        tokens_BT: ids.
        beside: arrays of B rows that ``network.paint`` reads beside the ids.
        chunk: images at a time.
        dtype: numbers that the network computes with.
    """

    def paint(ids: Tensor, *others: Tensor) -> Tensor:
        return to_bytes(network.paint(ids, *others))

    side = network.image_size
    empty = np.empty((0, side, side, 3), dtype=np.uint8)
    arrays = (tokens_BT.astype(np.int32), *beside)
    return _chunked(network, paint, arrays, empty, chunk, dtype)


def vectors(network: Any, vocab_size: int) -> NDArray[np.float32]:
    """Return the (V, D) float32 vectors that the ids of a network with a quantizer stand for."""
    ids = torch.arange(vocab_size, device=next(network.parameters()).device)
    with torch.inference_mode():
        found: NDArray[np.float32] = network.quantizer.codes(ids).float().cpu().numpy()
    return found


def _chunked(
    network: CodeNetwork,
    function: Callable[..., Tensor],
    arrays: Sequence[NDArray[Any]],
    empty: NDArray[Any],
    chunk: int,
    dtype: str,
) -> NDArray[Any]:
    """Apply ``function`` to all rows, ``chunk`` per call; the last call is padded with zeros."""
    device, count = next(network.parameters()).device, len(arrays[0])

    def work(first: int) -> NDArray[Any]:
        given = []
        for rows in arrays:
            some = rows[first : first + chunk]
            padded = np.zeros((chunk, *rows.shape[1:]), dtype=rows.dtype)
            padded[: len(some)] = some
            given.append(torch.from_numpy(padded).to(device))
        with torch.inference_mode():
            done = function(*given)
        return done[: min(chunk, count - first)].cpu().numpy()

    firsts = range(0, count, chunk)
    return np.concatenate([empty, *map_on_cores(work, firsts, device=device, dtype=dtype)])
