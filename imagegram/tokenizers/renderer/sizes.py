"""Sizes of a renderer, and the places of what it reads: codes, text before, sentence; no torch.

A sentence is read at fixed places, whatever is there::

    0 ... P - 1            its codes
    P ... P + C - 1        the text before it, at the end of these places
    P + C                  its beginning
    P + C + 1 ...          its tokens, at most S - 1 of which are read before the last is written

The codes come first and have places of their own: no long text before a sentence takes them away.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from imagegram.errors import ConfigError, did_you_mean

#: How codes are read: ``soft``, their vectors projected; ``special``, one new word a code;
#: ``text``, as ``c0=17 c1=4`` in BPE tokens; ``none``, not at all.
CONDITIONINGS: Final = ("soft", "special", "text", "none")
#: Name of the network in states of training.
NETWORK: Final = "renderer"


@dataclass(frozen=True, kw_only=True)
class RendererSizes:
    """Sizes of a renderer; they are written beside its weights.

    Attributes:
        vocab_size: BPE ids, V; id V is the boundary, which begins and ends a sentence.
        num_codebooks: codes of a sentence, K.
        codebook_size: values of a code.
        dim: features of the vector of a code.
        conditioning: one of :data:`CONDITIONINGS`.
        broadcast: of ``soft``: whether every token of a sentence also reads the sum of the vectors
            of its codes.
        context_tokens: places of the text before a sentence, C.
        sentence_tokens: most tokens of a sentence, S.
        width: features of a position, W.
        depth: number of blocks.
        num_heads: divides ``width``.
    """

    METADATA: ClassVar[str] = "renderer"

    vocab_size: int
    num_codebooks: int
    codebook_size: int
    dim: int
    conditioning: str
    broadcast: bool
    context_tokens: int
    sentence_tokens: int
    width: int
    depth: int
    num_heads: int

    def check(self) -> None:
        """Refuse sizes that no renderer can have.

        Raises:
            ConfigError: with the field and what is allowed.
        """
        prefix = "tokenizer.decoder."
        if self.conditioning not in CONDITIONINGS:
            raise ConfigError(
                f"{prefix}conditioning={self.conditioning!r}: "
                f"{did_you_mean(self.conditioning, CONDITIONINGS)}"
            )
        if self.context_tokens < 0:
            raise ConfigError(
                f"{prefix}context_tokens={self.context_tokens} must be at least 0; type "
                f"{prefix}context_tokens=0 to render every sentence for itself"
            )
        for name in ("sentence_tokens", "width", "depth", "num_heads"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{prefix}{name}={value} must be at least 1")
        if self.width % self.num_heads:
            raise ConfigError(
                f"{prefix}num_heads={self.num_heads} must divide {prefix}width={self.width}; "
                f"type {prefix}num_heads=1"
            )

    @property
    def boundary(self) -> int:
        """The id that begins and ends a sentence."""
        return self.vocab_size

    @property
    def first_code(self) -> int:
        """The id of the first code; those of the others follow, stage by stage."""
        return self.vocab_size + 1

    @property
    def num_codes(self) -> int:
        """Number of codes of all stages, K x V."""
        return self.num_codebooks * self.codebook_size

    @property
    def is_broadcast(self) -> bool:
        """Whether the tokens of a sentence read the sum of its codes."""
        return self.broadcast and self.conditioning == "soft"

    @property
    def prefix_length(self) -> int:
        """Number of places of the codes, P."""
        if self.conditioning == "none":
            return 0
        if self.conditioning == "text":  # a byte has a token of its own, at worst
            return sum(len(code_text(k, self.codebook_size - 1)) for k in range(self.num_codebooks))
        return self.num_codebooks

    @property
    def beginning(self) -> int:
        """The place of the boundary that begins a sentence."""
        return self.prefix_length + self.context_tokens

    @property
    def num_places(self) -> int:
        """Number of places, P + C + S."""
        return self.beginning + self.sentence_tokens

    def as_dict(self) -> dict[str, Any]:
        """Return the sizes by name."""
        return dataclasses.asdict(self)


def code_text(stage: int, code: int) -> str:
    """Return what ``text`` writes for a code.

    >>> code_text(0, 17) + code_text(1, 4)
    ' c0=17 c1=4'
    """
    return f" c{stage}={code}"


def read_header(path: Path) -> tuple[RendererSizes, str]:
    """Read sizes and the sha256 of the codebooks from the header of a weights file.

    Raises:
        ConfigError: when the file is missing, or is not one of a renderer.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {})[RendererSizes.METADATA])
        return RendererSizes(**header["sizes"]), str(header["codebooks"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        found = "holds no weights of a renderer" if path.is_file() else "is no file"
        raise ConfigError(
            f"tokenizer.decoder.checkpoint={path} {found} ({error}); type "
            "tokenizer.decoder.checkpoint=FOLDER, one that a training wrote, or "
            "tokenizer.decoder.checkpoint=null to train"
        ) from error


def header_of(sizes: RendererSizes, codebooks: str) -> dict[str, str]:
    """Return the header of a weights file; see :func:`read_header`."""
    return {RendererSizes.METADATA: json.dumps({"sizes": sizes.as_dict(), "codebooks": codebooks})}
