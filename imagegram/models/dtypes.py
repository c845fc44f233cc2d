"""Numbers that networks compute with outside of trainings; imports no torch."""

from __future__ import annotations

from typing import Final

from imagegram.errors import ConfigError, did_you_mean

#: With ``bfloat16`` products are; norms and sums stay float32 (torch.autocast).
DTYPES: Final = ("float32", "bfloat16")


def require_dtype(dtype: str, *, setting: str) -> None:
    """Refuse numbers that no network computes with.

    Args:
        dtype: one of :data:`DTYPES`.
        setting: how it is asked for: ``tokenizer.dtype``.

    Raises:
        ConfigError: naming what is allowed.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"{setting}={dtype} is unknown; {did_you_mean(dtype, DTYPES)}")
