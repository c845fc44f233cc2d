"""W&B without Lightning, whose WandbLogger would import torch and a trainer for four calls.

    python -m imagegram.run logger=wandb +logger.wandb.entity=ME +logger.wandb.notes="a first try"

W&B needs care (each point was seen to go wrong): a second ``wandb.init`` in one process returns the
first run unless ``reinit="create_new"``; without a key it raises unless it is offline; a run that
is not finished swallows the next job of a multirun; ``define_metric(summary="last")`` makes the
summary of a number ``{"last": number}``, which no sweep and no panel finds under its own name.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from imagegram.loggers.headline import SECTION
from imagegram.records import Images

#: ``_target_`` of conf/logger/wandb.yaml; all its fields are arguments of ``wandb.init``, but:
TARGET: Final = "wandb.init"
_CURVE_STEP: Final = "training_step"
_OWN_KEYS: Final = ("_target_", "offline", "save_dir")


class WandbLogger:
    """One W&B run, with the methods of Lightning's WandbLogger.

    Attributes:
        experiment: the run (``wandb.Run``).
    """

    def __init__(self, node: Mapping[str, Any], *, name: str, group: str, tags: list[str]) -> None:
        """Start a run in its own folder; offline when ``offline`` is null and there is no key.

        Args:
            node: ``project``, ``offline``, ``save_dir`` and any argument of ``wandb.init``.
            name: name of the run.
            group: runs that the dashboard shows together: a sweep.
            tags: words to filter by.
        """
        import wandb

        offline = node.get("offline")
        if offline is None:
            offline = not has_key()
        Path(node["save_dir"]).mkdir(parents=True, exist_ok=True)
        self.experiment = wandb.init(
            name=name,
            group=group,
            tags=tags,
            dir=node["save_dir"],
            mode="offline" if offline else "online",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
            **{key: value for key, value in node.items() if key not in _OWN_KEYS},
        )
        self.experiment.define_metric(f"{SECTION}*")  # the summary holds the last number of each

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Add to the configuration; ``a.b`` also becomes ``a_b``, which every panel can name.

        A panel reads ``a.b`` as the entry ``b`` of ``a``, which does not exist; and where a W&B
        sweep varies ``a``, W&B keeps only the word that the sweep chose for it.
        """
        plain = {key.replace(".", "_"): value for key, value in params.items() if "." in key}
        self.experiment.config.update({**params, **plain}, allow_val_change=True)  # type: ignore[no-untyped-call]

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; with a step they are points of curves over ``training_step``.

        The step is our own: W&B's step only grows, but a curve that is logged again after a resume
        begins at 0.
        """
        if step is None:
            self.experiment.log(dict(metrics))
            return
        for name in metrics:
            self.experiment.define_metric(name, step_metric=_CURVE_STEP)
        self.experiment.log({**metrics, _CURVE_STEP: step})

    def log_image(self, key: str, images: Sequence[Images], caption: Sequence[str]) -> None:
        """Log (H, W, 3) uint8 pictures, each with its caption."""
        import wandb

        pairs = zip(images, caption, strict=True)
        self.experiment.log({key: [wandb.Image(image, caption=text) for image, text in pairs]})

    def finalize(self, status: str) -> str | None:
        """Finish the run; return the command that uploads it when it was offline."""
        folder, offline = Path(self.experiment.dir).parent, self.experiment.offline
        self.experiment.finish(exit_code=0 if status == "success" else 1)
        return f"W&B ran offline; to upload this run: wandb sync {folder}" if offline else None


def has_key() -> bool:
    """Return whether W&B can go online: ``WANDB_MODE`` allows it and a key is configured."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    try:
        hosts = netrc.netrc(named).hosts
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    return any("wandb" in host or host == own for host in hosts)
