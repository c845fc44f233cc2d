"""PromptCondition: samples that continue given texts, or given tokens.

    python -m imagegram.run modality=text condition=prompt 'condition.texts=[Once upon a time]'

>>> condition = PromptCondition(name="prompt", tokens=((7, 8), ()))
>>> condition.of_tokens.of_samples(np.array([0, 1, 2], dtype=np.uint64), num_tokens=3)[1].tolist()
[2, 0, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.protocols import Condition, TextTokenizer, Tokenizer
from imagegram.records import EOS_TOKEN_ID, PROMPT, Tokens, row_sizes
from imagegram.seeding import in_turn
from imagegram.store.fingerprint import NOT_IDENTITY


class Prompts:
    """A condition of how samples begin."""


@dataclass(frozen=True, kw_only=True)
class GivenTokens(Prompts):
    """Prompts as models take them: sample i begins with the (i mod R)-th of R rows of ids.

    Attributes:
        rows: ids of every prompt; an empty one asks for nothing.
        name: in messages.
    """

    rows: tuple[tuple[int, ...], ...]
    name: str = field(default="prompt", metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows):
            if any(not 0 <= token < EOS_TOKEN_ID for token in row):
                raise ConfigError(
                    f"prompt {place + 1} of condition={self.name} holds an id that is none: ids "
                    f"lie in 0 ... {EOS_TOKEN_ID - 1}, and the separator {EOS_TOKEN_ID} ends a "
                    "document"
                )

    @classmethod
    def of(cls, prompts_BP: Tokens) -> GivenTokens:
        """Take (B, P) ids, each row padded with separators behind its prompt."""
        sizes = row_sizes(prompts_BP).tolist()
        rows = (tuple(row[:size]) for row, size in zip(prompts_BP.tolist(), sizes, strict=True))
        return cls(rows=tuple(rows))

    def of_samples(
        self, samples: NDArray[np.uint64], *, num_tokens: int
    ) -> tuple[Tokens, NDArray[np.int64]]:
        """Return the beginnings of some samples.

        Args:
            samples: (B,) sample ids.
            num_tokens: T, tokens of a sample.

        Returns:
            (B, T) uint16 ids, 0 behind the prompt of each row; (B,) tokens of each prompt.

        Raises:
            ConfigError: for a prompt of more than T tokens.
        """
        self.check(most=num_tokens)
        which = in_turn(samples, len(self.rows)).tolist()
        tokens_BT = np.zeros((len(which), num_tokens), dtype=np.uint16)
        for row, place in zip(tokens_BT, which, strict=True):
            row[: len(self.rows[place])] = self.rows[place]
        return tokens_BT, np.array([len(self.rows[place]) for place in which], dtype=np.int64)

    def check(self, *, most: int, vocab_size: int = EOS_TOKEN_ID) -> None:
        """Refuse prompts of more than ``most`` tokens, and ids that a tokenizer does not have.

        Raises:
            ConfigError: with the first of them, and what to type instead.
        """
        for place, row in enumerate(self.rows):
            if len(row) > most:
                raise ConfigError(
                    f"prompt {place + 1} of condition={self.name} has {len(row)} tokens, and at "
                    f"most {most} fit into a sample; shorten it, or give samples more tokens: "
                    f"tokenizer.window={2 * len(row)}"
                )
            if row and max(row) >= vocab_size:
                raise ConfigError(
                    f"prompt {place + 1} of condition={self.name} holds the id {max(row)}, but the "
                    f"ids of this tokenizer lie in 0 ... {vocab_size - 1}"
                )


@dataclass(frozen=True, kw_only=True)
class PromptCondition(Prompts):
    """Begin every sample with a prompt; sample i takes the i-th of them, again and again.

    The tokens of a prompt are part of the sample, and are measured with it.

    Attributes:
        name: of the configuration file.
        texts: prompts of a generator of texts.
        tokens: instead of texts, prompts as lists of ids.
    """

    VERSION: ClassVar[int] = 1
    name: str = field(metadata=NOT_IDENTITY)
    texts: tuple[str, ...] = ()
    tokens: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "texts", tuple(self.texts))
        object.__setattr__(self, "tokens", tuple(_row(row) for row in self.tokens))
        if bool(self.texts) == bool(self.tokens):
            raise ConfigError(
                f"condition={self.name} needs prompts, either texts or tokens; type "
                "'condition.texts=[Once upon a time]', or 'condition.texts=[]' "
                "'condition.tokens=[[12,7]]'"
            )

    @property
    def of_tokens(self) -> GivenTokens:
        """The prompts that are given as ids."""
        return GivenTokens(rows=self.tokens, name=self.name)

    def encoded(self, tokenizer: Tokenizer) -> GivenTokens:
        """Return the prompts as ids.

        Args:
            tokenizer: with its weights.

        Raises:
            ConfigError: for texts where items are none, ids out of the vocabulary, and prompts
                that leave a sample no token to write.
        """
        given = self.of_tokens
        if self.texts:
            if not isinstance(tokenizer, TextTokenizer):
                raise ConfigError(
                    f"condition.texts are texts, but tokenizer={tokenizer.name} reads "
                    f"{tokenizer.modality.nouns}; type 'condition.texts=[]' "
                    "'condition.tokens=[[12,7]]', ids of that tokenizer, or modality=text"
                )
            documents = tokenizer.encode([tokenizer.prepare(text) for text in self.texts]).documents
            rows = tuple(tuple(np.asarray(ids).tolist()) for ids in documents)
            given = GivenTokens(rows=rows, name=self.name)
        given.check(most=tokenizer.spec.length - 1, vocab_size=tokenizer.spec.vocab_size)
        return given


def _row(row: Any) -> tuple[int, ...]:
    """Return one prompt of ids.

    Raises:
        ConfigError: when it is none.
    """
    is_row = isinstance(row, Sequence) and not isinstance(row, str)
    if not is_row or not all(isinstance(token, int) for token in row):
        raise ConfigError(
            f"condition.tokens holds {row!r}, which is no list of ids; type "
            "'condition.tokens=[[12,7],[12]]'"
        )
    return tuple(row)


@runtime_checkable
class Encodes(Protocol):
    """A condition of how samples begin that needs the tokenizer to know their ids."""

    def encoded(self, tokenizer: Tokenizer) -> GivenTokens:
        """Return the beginnings as ids."""


def encoded(condition: Condition | None, tokenizer: Tokenizer) -> Condition | None:
    """Return a condition as models take it: prompts as ids, others as they are."""
    return condition.encoded(tokenizer) if isinstance(condition, Encodes) else condition


def prompts_of(condition: Condition | None) -> GivenTokens:
    """Return the prompts of a condition; without any, samples begin with no token."""
    return condition if isinstance(condition, GivenTokens) else GivenTokens(rows=((),))


def prompt_trace(
    condition: Condition | None, samples: NDArray[np.uint64], *, num_tokens: int
) -> dict[str, NDArray[np.bool_]]:
    """Return the (B, T) array of a trace that says which tokens were given; {}: no prompt is."""
    if not isinstance(condition, GivenTokens):
        return {}
    until_B = condition.of_samples(samples, num_tokens=num_tokens)[1]
    return {PROMPT: np.arange(num_tokens) < until_B[:, None]}


def without_prompt(condition: Condition | None) -> Condition | None:
    """Return what is asked of a sample besides its beginning; real documents have no other."""
    return None if isinstance(condition, Prompts) else condition
