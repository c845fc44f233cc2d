"""Mirrors a run to loggers: W&B, and Lightning's CSV, TensorBoard ... whatever conf/logger/ names.

``import lightning`` takes seconds, so Lightning's classes are imported only when one is configured;
the default logger calls ``wandb`` directly (see ``wandb.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from imagegram.loggers.wandb import TARGET, WandbLogger
from imagegram.records import Images


class Mirror:
    """All configured loggers behind four methods; without loggers they do nothing."""

    def __init__(self, nodes: Mapping[str, Any], *, name: str, group: str, tags: list[str]) -> None:
        self._loggers = [
            build_logger(OmegaConf.create(node), name=name, group=group, tags=tags)
            for node in nodes.values()
        ]

    def config(self, values: Mapping[str, Any]) -> None:
        """Log the configuration, or additions to it."""
        for logger in self._loggers:
            logger.log_hyperparams(dict(values))

    def scalars(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log final numbers, or points of curves with their step."""
        for logger in self._loggers:
            logger.log_metrics(dict(values), step)

    def images(self, key: str, images_BHWC: Images, captions: list[str]) -> None:
        """Log pictures to the loggers that accept pictures."""
        for logger in self._loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(key=key, images=list(images_BHWC), caption=captions)
            elif hasattr(logger.experiment, "add_images"):
                logger.experiment.add_images(key, np.asarray(images_BHWC), dataformats="NHWC")

    def finish(self, status: str) -> list[str]:
        """Close every logger, also after a failure; return lines for the user."""
        lines = [logger.finalize(status) for logger in self._loggers]
        return [line for line in lines if line]


def build_logger(node: DictConfig, *, name: str, group: str, tags: list[str]) -> Any:
    """Build the logger that one node of conf/logger/ describes.

    Args:
        node: ``_target_`` is ``wandb.init`` or one of Lightning's loggers, with their arguments.
        name: name of the run, shown by W&B like group and tags.
        group: group of runs.
        tags: tags of the run.
    """
    if node["_target_"] == TARGET:
        values: Any = OmegaConf.to_container(node, resolve=True)
        return WandbLogger(values, name=name, group=group, tags=tags)
    logger = instantiate(node, _convert_="all")
    Path(logger.log_dir or node["save_dir"]).mkdir(parents=True, exist_ok=True)
    return logger
