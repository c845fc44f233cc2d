"""Identity: the digest that decides whether an artifact is the requested one.

A digest is 12 hex digits of sha256 over canonical JSON of the identity *object*, never of the
YAML: spelling out a default, reordering keys or changing a worker count is the same experiment.
Code is not hashed; a class that changes its results bumps its ``VERSION``.

>>> from dataclasses import dataclass, field
>>> @dataclass(frozen=True, kw_only=True)
... class Blur:
...     VERSION = 1
...     radius: int = 2
...     workers: int = field(default=1, metadata=NOT_IDENTITY)
>>> identity(Blur(workers=8))
{'class': 'Blur', 'version': 1, 'radius': 2}
>>> digest(identity(Blur())) == digest(identity(Blur(radius=2, workers=3)))
True
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Final

#: ``field(metadata=NOT_IDENTITY)``: a knob of speed or place, not of the result.
NOT_IDENTITY: Final = {"identity": False}
#: A knob that was added later: at its default it is left out, so old identities stay the same.
NOT_IDENTITY_AT_DEFAULT: Final = {"identity": "unless default"}

DIGEST_LENGTH: Final = 12


def identity(value: Any) -> Any:
    """Return the JSON value that identifies ``value``.

    Components are frozen dataclasses: class name, ``VERSION`` and every field not marked
    :data:`NOT_IDENTITY` (or, while it has its default, :data:`NOT_IDENTITY_AT_DEFAULT`). Anything
    with an ``identity()`` method (an artifact handle, an image shard) answers for itself. Paths are
    refused: a place is never an identity.

    Raises:
        TypeError: for a value whose identity is not defined.
    """
    own = getattr(value, "identity", None)
    if callable(own) and not isinstance(value, type):
        return own()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: identity(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if _belongs(f, getattr(value, f.name))
        }
        cls = type(value)
        return {"class": cls.__name__, "version": getattr(cls, "VERSION", 1), **fields}
    if isinstance(value, dict):
        return {str(key): identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Path):
        raise TypeError(f"a path is not an identity: {value}; mark the field NOT_IDENTITY")
    raise TypeError(f"no identity is defined for {type(value).__name__}")


def _belongs(field: dataclasses.Field[Any], value: Any) -> bool:
    rule = field.metadata.get("identity", True)
    return bool(value != field.default) if rule == "unless default" else bool(rule)


def canonical_json(payload: Any) -> bytes:
    """Return bytes that are equal exactly when the payloads are: sorted keys, no spaces or NaN.

    >>> canonical_json({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    # A name of a file may hold bytes that are not UTF-8, which Python keeps as lone surrogates.
    return json.dumps(
        payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest(payload: Any) -> str:
    """Return 12 hex digits (48 bits) that name a payload; a hit still compares whole payloads."""
    return hashlib.sha256(canonical_json(payload)).hexdigest()[:DIGEST_LENGTH]
