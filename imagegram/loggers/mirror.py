"""Mirrors a run to Lightning's loggers: W&B, CSV, TensorBoard ... whatever conf/logger/ names.

W&B needs care (each point was seen to go wrong): a second ``wandb.init`` in one process returns the
first run unless ``reinit="create_new"``; without a key it raises unless it is offline; and a run
that is not finished swallows the next job of a multirun.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from imagegram.records import Images

#: Fields of conf/logger/wandb.yaml that are WandbLogger's; all others (project, entity, notes ...)
#: are arguments of ``wandb.init``.
_LOGGER_KEYS: Final = ("_target_", "offline", "save_dir", "log_model", "prefix")


class Mirror:
    """All configured loggers behind four verbs; with none configured it does nothing."""

    def __init__(self, nodes: Mapping[str, Any], *, name: str, group: str, tags: list[str]) -> None:
        self._loggers = [
            build_logger(OmegaConf.create(node), name=name, group=group, tags=tags)
            for node in nodes.values()
        ]

    def config(self, values: Mapping[str, Any]) -> None:
        """Log the configuration, or more of it."""
        for logger in self._loggers:
            logger.log_hyperparams(dict(values))

    def scalars(self, values: Mapping[str, float]) -> None:
        """Log finished numbers."""
        for logger in self._loggers:
            logger.log_metrics(dict(values))

    def images(self, key: str, images_BHWC: Images, captions: list[str]) -> None:
        """Log pictures as pictures, where a logger can show them."""
        for logger in self._loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(key=key, images=list(images_BHWC), caption=captions)
            elif hasattr(logger.experiment, "add_images"):
                logger.experiment.add_images(key, np.asarray(images_BHWC), dataformats="NHWC")

    def finish(self, status: str) -> list[str]:
        """Close every logger, also after a failure; returns lines for the person."""
        lines = []
        for logger in self._loggers:
            logger.finalize(status)
            if _is_wandb(type(logger).__module__):
                run = logger.experiment
                folder = Path(run.dir).parent
                offline = run.offline
                run.finish(exit_code=0 if status == "success" else 1)
                if offline:
                    lines.append(f"W&B ran offline; to upload this run: wandb sync {folder}")
        return lines


def build_logger(node: DictConfig, *, name: str, group: str, tags: list[str]) -> Any:
    """Instantiate one of Lightning's loggers.

    W&B gets the name, group and tags of the run, its own folder and its own run, and goes offline
    when ``offline`` is null and no key is configured.
    """
    if not _is_wandb(node["_target_"]):
        logger = instantiate(node, _convert_="all")
        Path(logger.log_dir or node["save_dir"]).mkdir(parents=True, exist_ok=True)
        return logger
    import wandb

    offline = node.get("offline")
    if offline is None:
        offline = not _has_wandb_key()
    Path(node["save_dir"]).mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        name=name,
        group=group,
        tags=tags,
        dir=node["save_dir"],
        mode="offline" if offline else "online",
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
        **{str(key): value for key, value in node.items() if key not in _LOGGER_KEYS},
    )
    return instantiate(node, experiment=run, offline=offline, _convert_="all")


def _is_wandb(path: str) -> bool:
    return "wandb" in path.lower()


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return os.environ.get("WANDB_MODE", "online") == "online"
    try:
        hosts = netrc.netrc().hosts
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
    return any("wandb" in host for host in hosts)
