"""Mirrors a run to loggers: W&B, and Lightning's CSV, TensorBoard ... whatever conf/logger/ names.

A logger shows a run and never decides about it: the first call that fails is told in a sentence,
and the run goes on without that logger. What is wrong in the configuration is refused, though.

``import lightning`` takes seconds, so Lightning's classes are imported only when one is configured;
the default logger calls ``wandb`` directly (see ``wandb.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from markupsafe import Markup
from omegaconf import DictConfig, OmegaConf

from imagegram.errors import ConfigError, ImagegramError
from imagegram.loggers.wandb import TARGET, WandbLogger, open_wandb
from imagegram.records import Images


class Mirror:
    """All configured loggers behind five methods; without loggers they do nothing.

    Args:
        nodes: nodes of conf/logger/ by name.
        names: ``name``, ``group`` and ``tags`` of the run (``names.py``).
        say: called with a sentence when a logger fails, or does not do what was asked.

    Raises:
        ConfigError: for arguments that a logger does not have.
    """

    def __init__(
        self, nodes: Mapping[str, Any], *, names: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        self._say = say
        self._loggers: dict[str, Any] = {}
        for key, node in nodes.items():
            try:
                logger = build_logger(OmegaConf.create(node), names=names, say=say)
            except ImagegramError:
                raise
            except Exception as error:  # noqa: BLE001 - of any library
                self._lost(key, error)
                continue
            if logger is not None:
                self._loggers[key] = logger

    def config(self, values: Mapping[str, Any]) -> None:
        """Log the configuration, or additions to it."""
        self._each(lambda logger: logger.log_hyperparams(dict(values)))

    def scalars(self, values: Mapping[str, float], *, step: int | None = None) -> None:
        """Log final numbers, or points of curves with their step."""
        self._each(lambda logger: logger.log_metrics(dict(values), step))

    def images(
        self, key: str, images_BHWC: Images, captions: list[str], *, step: int | None = None
    ) -> None:
        """Log pictures to the loggers that accept pictures, with their step where they have one."""
        at = {} if step is None else {"step": step}

        def show(logger: Any) -> None:
            if hasattr(logger, "log_image"):
                logger.log_image(key=key, images=list(images_BHWC), caption=captions, **at)
            elif hasattr(logger.experiment, "add_images"):
                logger.experiment.add_images(key, np.asarray(images_BHWC), step, dataformats="NHWC")

        self._each(show)

    def page(self, key: str, html: Markup, text: str, *, step: int | None = None) -> None:
        """Log texts to the loggers that accept them, with their step where they have one.

        They are a page to W&B, plain to TensorBoard.
        """
        at = {} if step is None else {"step": step}

        def show(logger: Any) -> None:
            if hasattr(logger, "log_html"):
                logger.log_html(key, html, **at)
            elif hasattr(logger.experiment, "add_text"):
                logger.experiment.add_text(key, text, *at.values())

        self._each(show)

    def finish(self, status: str) -> list[str]:
        """Close every logger, also after a failure; return lines for the user."""
        lines: list[str | None] = []
        self._each(lambda logger: lines.append(logger.finalize(status)))
        return [line for line in lines if line]

    def _each(self, call: Callable[[Any], object]) -> None:
        for key, logger in list(self._loggers.items()):
            try:
                call(logger)
            except Exception as error:  # noqa: BLE001 - of any library
                del self._loggers[key]
                is_ours = isinstance(logger, WandbLogger)
                self._lost(key, error, f"; {logger.abandon(error)}" if is_ours else "")

    def _lost(self, key: str, error: Exception, hint: str = "") -> None:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0].removesuffix(": ")
        self._say(f"logger={key} failed, and the run goes on without it: {reason}{hint}")


def build_logger(
    node: DictConfig, *, names: Mapping[str, Any], say: Callable[[str], None]
) -> Any | None:
    """Build the logger that one node of conf/logger/ describes; None: it is disabled.

    Args:
        node: ``_target_`` is ``wandb.init`` or one of Lightning's loggers, with their arguments.
        names: ``name``, ``group`` and ``tags`` of the run, shown by W&B.
        say: called with a sentence when W&B does not do what was asked.

    Raises:
        ConfigError: for arguments that the logger does not have.
    """
    if node["_target_"] == TARGET:
        values: Any = OmegaConf.to_container(node, resolve=True)
        return open_wandb(values, names=names, say=say)
    try:
        logger = instantiate(node, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, TypeError):
            raise ConfigError(f"{node['_target_']}: {error.__cause__}") from error
        raise error.__cause__ or error from None
    Path(logger.log_dir or node["save_dir"]).mkdir(parents=True, exist_ok=True)
    return logger
