"""imagegram: when does a token generator create, and when does it copy?

One experiment is corpus x tokenizer x generator x sampler, run as
``tokenize -> index -> fit -> generate -> evaluate``. In the shell::

    python -m imagegram.run corpus=demo tokenizer=pyramid3

and in a notebook::

    import imagegram
    run = imagegram.run("corpus=demo", "tokenizer=pyramid3")
    again = imagegram.open_run("outputs/latest")

Importing this package imports neither torch nor wandb.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

from imagegram.executors.lifetime import heed_announcement

__version__ = "0.1.0"

#: What notebooks use -> its module, which is imported when it is asked for.
_LAZY: Final = {"open_run": "imagegram.finished_run", "run": "imagegram.run"}


def __getattr__(name: str) -> Any:
    """Import what notebooks use; ``imagegram.run`` is a module that can be called."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    return module if name == "run" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


heed_announcement()
