"""``imagegram.run("tokenizer=pyramid2", ...)``: an experiment from Python.

The words are those of ``python -m imagegram.run``; the run folder, the cache and the report too, so
that a notebook and a shell share all that was computed. Errors are raised, and nothing exits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, flag_override

from imagegram import schema, words
from imagegram.errors import ConfigError, explain_os_error
from imagegram.finished_run import FinishedRun, open_run


def run_words(typed: Sequence[str], experiment: Callable[[DictConfig, Path], Any]) -> FinishedRun:
    """Compose the configuration of some words, run its experiment, and return the run.

    Args:
        typed: ``key=value`` words; flags belong to the shell.
        experiment: runs a configuration in a folder, which exists.

    Raises:
        ConfigError: when the words do not compose, with a hint.
        ImagegramError: whatever the run raises, saying what to type instead.
    """
    for word in typed:
        if not isinstance(word, str) or word.startswith("-"):
            raise ConfigError(
                f"{word!r} is no word of a configuration; in Python type key=value words, "
                "imagegram.run('seed=1'), and loop over runs instead of -m"
            )
    cfg = compose(words.as_typed(typed))
    folder = Path(cfg.hydra.run.dir).absolute()
    with flag_override(cfg, ["readonly", "struct"], [False, False]):
        cfg.hydra.runtime.output_dir = str(folder)
        own = cfg.copy()
        del own["hydra"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(explain_os_error(error, outputs=Path(own.paths.outputs))) from error
    with _hydra_config(cfg), _without_main():
        experiment(own, folder)
    return open_run(folder)


def compose(typed: Sequence[str]) -> DictConfig:
    """Compose a configuration with Hydra's own part.

    Raises:
        ConfigError: Hydra's message, followed by what was probably meant.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    schema.register()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(schema.CONF), "imagegram", version_base="1.3"):
            return hydra.compose("config", list(typed), return_hydra_config=True)
    except HydraException as error:
        raise ConfigError("\n".join([str(error), *words.explain(typed)])) from error
    finally:
        GlobalHydra.instance().hydra = before  # a notebook may have a Hydra of its own


@contextmanager
def _hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Let components and loggers read Hydra's part, as in a run of the shell."""
    from hydra.core.hydra_config import HydraConfig

    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the script that calls from worker processes, which would run it once more.

    A spawned process first runs the file of ``__main__`` again, for what may be defined there; a
    run needs nothing of it, so that a script does without ``if __name__ == "__main__":``.
    """
    main: Any = sys.modules["__main__"]
    hidden = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    main.__spec__ = None
    vars(main).pop("__file__", None)
    try:
        yield
    finally:
        vars(main).update(hidden)
