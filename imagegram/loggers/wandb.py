"""W&B without Lightning, whose WandbLogger would import torch and a trainer for four calls.

    python -m imagegram.run logger.wandb.name="a first try" logger.wandb.entity=ME

W&B needs care (each point was seen to go wrong): a second ``wandb.init`` in one process returns the
first run unless ``reinit="create_new"``; without a key it raises unless it is offline; with one it
waits 90 s for a server that does not answer, then raises; a run that is not finished swallows the
next job of a multirun; ``finish`` waits without end for a server that is gone, or for W&B's own
process when that is stuck, and so does Python when it ends; if that process died, Python ends with
its traceback;
``define_metric(summary="last")`` makes the summary of a number ``{"last": number}``, which no sweep
and no panel finds under its own name.
"""

from __future__ import annotations

import inspect
import netrc
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from imagegram.errors import ConfigError, did_you_mean
from imagegram.loggers.headline import SECTION
from imagegram.records import Images

#: ``_target_`` of conf/logger/wandb.yaml; all its fields are arguments of ``wandb.init``, but:
TARGET: Final = "wandb.init"
_OWN_KEYS: Final = ("_target_", "save_dir")
_CURVE_STEP: Final = "training_step"
_MODES: Final = ("online", "offline", "disabled", "shared")
#: Fields that W&B reads from the environment where they are null, by variable.
_VARIABLES: Final = {
    "project": "WANDB_PROJECT",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "tags": "WANDB_TAGS",
}
_PROJECT: Final = "imagegram"
_SERVER: Final = "https://api.wandb.ai"
#: Seconds that a server has to answer at all, to start a run, and to take what is left at the end.
_ANSWER_S: Final = 3.0
_INIT_S: Final = 15.0
_FINISH_S: Final = 20.0
#: Seconds for W&B's own process to start a run, and to end it, where no server is asked: a busy
#: machine is slow.
_LOCAL_S: Final = 90.0
_LOCAL_FINISH_S: Final = 90.0
#: Seconds beyond these after which W&B's own process, which counts them, is stuck. (With a server
#: that never answers it needs about ten.)
_STUCK_S: Final = 20.0


def open_wandb(
    node: Mapping[str, Any], *, names: Mapping[str, Any], say: Callable[[str], None]
) -> WandbLogger | None:
    """Start a run of W&B; None where W&B is disabled.

    A server that cannot be reached, or refuses, is told in a sentence, and the run is offline.
    Where W&B's own process does not start, it is started once more.

    Args:
        node: ``save_dir`` and arguments of ``wandb.init``; what is null comes from the environment,
            then from ``names``.
        names: ``name``, ``group`` and ``tags`` of the run.
        say: called with that sentence.

    Raises:
        ConfigError: for an argument that ``wandb.init`` does not have, or an unknown mode.
    """
    mode = choose_mode(node.get("mode"))
    if mode == "disabled":
        return None
    arguments = chosen_arguments(node, names)
    if mode != "offline" and (reason := unreachable(server())):
        say(f"W&B: {server()} {reason}; this run is logged offline")
        mode = "offline"
    try:
        return WandbLogger(arguments, mode=mode)
    except Exception as error:  # noqa: BLE001 - a wrong key, a server in trouble ...
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    if mode == "offline":  # its own process died, or was not ready in time: a new one may be
        _end_service()
        say(f"W&B: its own process did not start ({reason}); it is started again")
    else:
        say(f"W&B: {server()} took no run ({reason}); it is logged offline")
    return WandbLogger(arguments, mode="offline")


def choose_mode(mode: str | None) -> str:
    """Return the mode of W&B: the configuration's, else that of ``WANDB_MODE``, else by the key.

    Args:
        mode: ``logger.wandb.mode``; null: online exactly when there is a key.

    Raises:
        ConfigError: for a mode that W&B does not have.
    """
    if mode is not None:
        if mode not in _MODES:
            raise ConfigError(f"logger.wandb.mode={mode}: {did_you_mean(mode, _MODES)}")
        return mode
    asked = os.environ.get("WANDB_MODE") or "online"
    if asked not in ("online", "shared"):
        return "disabled" if asked == "disabled" else "offline"
    return asked if has_key() else "offline"


def chosen_arguments(node: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``wandb.init``, without those that W&B reads from the environment.

    Args:
        node: ``save_dir`` and arguments, of which null ones are not given.
        names: ``name``, ``group`` and ``tags`` where neither gives them.

    Raises:
        ConfigError: for an argument that ``wandb.init`` does not have.
    """
    import wandb

    given = {key: value for key, value in node.items() if key not in _OWN_KEYS}
    given = {key: value for key, value in given.items() if value is not None and key != "mode"}
    allowed = set(inspect.signature(wandb.init).parameters) - {"dir", "reinit"}
    for key in given:
        if key not in allowed:
            raise ConfigError(f"logger.wandb.{key}: {did_you_mean(key, allowed)}")
    usual = {"project": _PROJECT, **names}
    unset = {key for key in usual if not os.environ.get(_VARIABLES[key])}
    return {key: usual[key] for key in sorted(unset)} | given | {"dir": node["save_dir"]}


class WandbLogger:
    """One W&B run, with the methods of Lightning's WandbLogger.

    Attributes:
        experiment: the run (``wandb.Run``).
    """

    def __init__(self, arguments: Mapping[str, Any], *, mode: str) -> None:
        """Start a run in its own folder.

        Args:
            arguments: of ``wandb.init``, ``dir`` among them.
            mode: ``online``, ``offline`` or ``shared``.
        """
        import wandb

        given = dict(arguments)
        patience_s = _LOCAL_S if mode == "offline" else _INIT_S
        settings: dict[str, Any] = {"silent": True, "console": "off", "init_timeout": patience_s}
        self._finish_s = _LOCAL_FINISH_S if mode == "offline" else _FINISH_S
        settings |= {"finish_timeout": self._finish_s, "finish_timeout_raises": True}
        settings |= given.pop("settings", {})
        Path(given["dir"]).mkdir(parents=True, exist_ok=True)
        self.experiment = wandb.init(
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            settings=wandb.Settings(**settings),
            **given,
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

    def log_image(
        self,
        key: str,
        images: Sequence[Images],
        caption: Sequence[str],
        step: int | None = None,
    ) -> None:
        """Log (H, W, 3) uint8 pictures, each with its caption; a step is that of the curves."""
        import wandb

        pairs = zip(images, caption, strict=True)
        pictures = [wandb.Image(image, caption=text) for image, text in pairs]
        self.experiment.log({key: pictures} | ({} if step is None else {_CURVE_STEP: step}))

    def log_html(self, key: str, html: str, step: int | None = None) -> None:
        """Log a page that needs nothing else; a step is that of the curves.

        It is a file, which an offline run keeps.
        """
        import wandb

        at = {} if step is None else {_CURVE_STEP: step}
        self.experiment.log({key: wandb.Html(html)} | at)

    def finalize(self, status: str) -> str | None:
        """Finish the run; return the command that uploads what did not reach W&B."""
        exit_code = 0 if status == "success" else 1
        try:
            _within(self._finish_s + _STUCK_S, lambda: self.experiment.finish(exit_code=exit_code))
        except TimeoutError:
            return f"W&B: {server()} did not take all of it; for the rest: {self._sync}"
        if self.experiment.offline:
            return f"W&B ran offline; to upload this run: {self._sync}"
        return None

    def abandon(self, error: Exception) -> str:
        """Leave a run that failed, and end W&B's own process if it does not work any more.

        Returns:
            The command that uploads what was logged until then.
        """
        if isinstance(error, StuckError | ConnectionError) or "Handle" in type(error).__name__:
            _end_service()
        return f"for what it has: {self._sync}"

    @property
    def _sync(self) -> str:
        return f"wandb sync {Path(self.experiment.dir).parent}"


class StuckError(Exception):
    """W&B's own process does not answer."""


def _within(seconds: float, call: Callable[[], None]) -> None:
    """Call something that may never return, and raise what it raises.

    Raises:
        StuckError: when it has not returned after so many seconds.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise StuckError(f"its own process did not answer within {seconds:.0f} s")
    if raised:
        raise raised[0]


def _end_service() -> None:
    """End W&B's own process, and what waits for it when Python ends; the next run has a new one."""
    import wandb
    from wandb.sdk import wandb_setup

    with suppress(Exception):  # private names, and the process may be gone
        wandb_setup.singleton().ensure_service()._proc._process.kill()  # type: ignore[union-attr]
    with suppress(Exception, SystemExit):  # it ends Python where its process failed
        wandb.teardown()
    os.environ.pop("WANDB_SERVICE", None)  # its address, which what starts next would ask


def server() -> str:
    """Return the address of the W&B server: ``WANDB_BASE_URL``, or the public one."""
    return os.environ.get("WANDB_BASE_URL") or _SERVER


def unreachable(url: str) -> str:
    """Ask a server for anything at all; return why it cannot be reached, or an empty string.

    Any answer counts, a refusal too. Proxies of the environment are used, as W&B does.
    """
    silent = f"did not answer within {_ANSWER_S:.0f} s"
    found = [silent]

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=_ANSWER_S).close()
        except urllib.error.HTTPError:
            found[0] = ""
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", error)
            found[0] = silent if isinstance(why, TimeoutError) else f"cannot be reached: {why}"
        else:
            found[0] = ""

    # On a thread, because looking up a name can take longer than any timeout of a connection.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_ANSWER_S)
    return found[0]


def has_key() -> bool:
    """Return whether a key of W&B is configured, in the environment or by ``wandb login``."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    named = os.environ.get("NETRC")
    try:
        hosts = netrc.netrc(named).hosts
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
    own = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    return any("wandb" in host or host == own for host in hosts)
