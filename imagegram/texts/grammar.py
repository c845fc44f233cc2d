r"""A small language whose entropy is known: a weighted context-free grammar, LL(1).

Rules are written as ``symbol: 3 a b | 1 c``: alternatives with whole weights, of words and of other
symbols. Alternatives of one symbol begin with different words, so a text has at most one
derivation, found by looking one word ahead, and what holds of derivations holds of texts: the
entropy of a symbol is that of its choice plus those of the symbols that the choice brings,

    H = h + M H,  hence  H = (I - M)^-1 h

(Grenander, "Syntax-controlled probabilities", 1967; Chi, "Statistical properties of probabilistic
context-free grammars", Computational Linguistics 1999), M the expected number of each symbol in an
alternative of another.

>>> coin = Grammar("text: 1 head text | 1 tail", start="text")
>>> coin.entropy(), coin.bits("head head tail"), coin.legal("tail head")
(2.0, 3.0, False)
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError

#: Words of a text: letters, or one sign.
_WORD: Final = re.compile(r"\w+|[^\w\s]")
#: Signs that stand close to the word before them, and behind them.
_CLOSING: Final = ".,\u201d"
_OPENING: Final = "\u201c"


@dataclass(frozen=True)
class Alternative:
    """One right-hand side of a rule.

    Attributes:
        probability: of its choice.
        parts: symbols and words, in order; at least one.
    """

    probability: float
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Grammar:
    """A weighted grammar in which one word ahead tells the alternative.

    Attributes:
        rules: a rule a line.
        start: symbol of a whole text.
    """

    rules: str
    start: str

    def __post_init__(self) -> None:
        """Refuse rules that are no such grammar.

        Raises:
            ConfigError: saying which rule, and why.
        """
        for word in self._words:
            if not _WORD.fullmatch(word):
                raise ConfigError(f"{word!r} is no word of a grammar: write letters, or one sign")
        for symbol, alternatives in self.alternatives.items():
            firsts = list(itertools.chain.from_iterable(map(self._first, alternatives)))
            if len(set(firsts)) < len(firsts):
                twice = next(word for word in firsts if firsts.count(word) > 1)
                raise ConfigError(
                    f"rule {symbol}: two alternatives begin with {twice!r}, so one word ahead does "
                    "not tell them apart; let them share it in a rule of their own"
                )
        if np.abs(np.linalg.eigvals(self._brought)).max() >= 1:
            raise ConfigError(
                f"the texts of {self.start} have no end on average; give more weight to "
                "alternatives that bring fewer symbols"
            )

    # ------------------------------------------------------------------------------------- rules

    @cached_property
    def alternatives(self) -> Mapping[str, tuple[Alternative, ...]]:
        """Alternatives of every symbol, in the order of the rules."""
        found: dict[str, tuple[Alternative, ...]] = {}
        for line in filter(None, map(str.strip, self.rules.splitlines())):
            symbol, _, right = line.partition(": ")
            sides = [side.split() for side in right.split(" | ")]
            if symbol in found or not all(s[1:] and s[0].isdigit() and int(s[0]) for s in sides):
                raise ConfigError(
                    f"{line!r} is no rule, or the second of its symbol; write it as: "
                    "symbol: 3 word symbol | 1 word"
                )
            total = sum(int(weight) for weight, *_ in sides)
            found[symbol] = tuple(
                Alternative(int(weight) / total, tuple(parts)) for weight, *parts in sides
            )
        if self.start not in found:
            raise ConfigError(f"no rule gives {self.start}, with which texts begin")
        return found

    @cached_property
    def _number(self) -> Mapping[str, int]:
        return {symbol: number for number, symbol in enumerate(self.alternatives)}

    @cached_property
    def _words(self) -> frozenset[str]:
        parts = {part for ones in self.alternatives.values() for one in ones for part in one.parts}
        return frozenset(parts.difference(self._number))

    @cached_property
    def _brought(self) -> NDArray[np.float64]:
        """(S, S) expected number of symbol j in an alternative of symbol i."""
        brought = np.zeros((len(self._number), len(self._number)))
        for symbol, alternatives in self.alternatives.items():
            for one in alternatives:
                for part in one.parts:
                    if part in self._number:
                        brought[self._number[symbol], self._number[part]] += one.probability
        return brought

    def _first(self, alternative: Alternative) -> frozenset[str]:
        """Words that a text of an alternative can begin with."""
        return self._firsts(alternative.parts[0], ())

    def _firsts(self, part: str, above: tuple[str, ...]) -> frozenset[str]:
        if part not in self._number:
            return frozenset([part])
        if part in above:
            raise ConfigError(f"rule {part} begins with itself, so a text of it never begins")
        first = (one.parts[0] for one in self.alternatives[part])
        return frozenset().union(*(self._firsts(one, (*above, part)) for one in first))

    @cached_property
    def _choice(self) -> Mapping[tuple[str, str], Alternative]:
        """The alternative of a symbol in front of a word."""
        return {
            (symbol, word): one
            for symbol, alternatives in self.alternatives.items()
            for one in alternatives
            for word in self._first(one)
        }

    # ------------------------------------------------------------------------------- closed forms

    def expected(self, part: str) -> float:
        """Expected number of times that a text holds a word, or a symbol stands in its tree."""
        if part in self._number:
            return float(self._visits[self._number[part]])
        return float(
            sum(
                self._visits[self._number[symbol]] * one.probability * one.parts.count(part)
                for symbol, alternatives in self.alternatives.items()
                for one in alternatives
            )
        )

    @cached_property
    def _visits(self) -> NDArray[np.float64]:
        """(S,) expected number of each symbol in the tree of a text."""
        start = np.zeros(len(self._number))
        start[self._number[self.start]] = 1.0
        return np.asarray(np.linalg.solve(np.eye(len(start)) - self._brought.T, start))

    def entropy(self, symbol: str | None = None) -> float:
        """Entropy of a text, in bits, exactly; or of the texts of another symbol."""
        choices = [
            -sum(one.probability * math.log2(one.probability) for one in alternatives)
            for alternatives in self.alternatives.values()
        ]
        entropies = np.linalg.solve(np.eye(len(choices)) - self._brought, choices)
        return float(entropies[self._number[symbol or self.start]])

    def expected_bytes(self) -> float:
        """Expected length of a text, in bytes of UTF-8."""
        total = -1.0  # no space before the first word
        for word in self._words:
            is_close = word in _CLOSING or word in _OPENING
            total += self.expected(word) * (len(word.encode()) + (not is_close))
        return total

    # -------------------------------------------------------------------------------------- texts

    def draw(self, uniform: Callable[[], float]) -> str:
        """Draw a text.

        Args:
            uniform: gives the next random number in [0, 1), one for every choice.
        """
        words, waiting = [], [self.start]
        while waiting:
            part = waiting.pop()
            if part in self._number:
                waiting.extend(reversed(self._drawn(part, uniform()).parts))
            else:
                words.append(part)
        return written(words)

    def _drawn(self, symbol: str, uniform: float) -> Alternative:
        *others, last = self.alternatives[symbol]
        for one in others:
            if (uniform := uniform - one.probability) < 0:
                return one
        return last

    def bits(self, text: str) -> float:
        """Return -log2 of the probability of a text; infinite for one that is not legal."""
        total = 0.0
        for probability in self._choices(text):
            if probability == 0:
                return math.inf
            total -= math.log2(probability)
        return total

    def legal(self, text: str) -> bool:
        """Whether the grammar has a text, character for character."""
        return all(self._choices(text))

    def _choices(self, text: str) -> Iterator[float]:
        """Yield the probability of every choice in the derivation of a text; 0: there is none."""
        words = _WORD.findall(text)
        if written(words) != text:
            yield 0.0
            return
        ahead, waiting = iter([*words, ""]), [self.start]
        word = next(ahead)
        while waiting:
            part = waiting.pop()
            if part in self._number:
                one = self._choice.get((part, word))
                if one is None:
                    break
                yield one.probability
                waiting.extend(reversed(one.parts))
            elif part != word:
                break
            else:
                word = next(ahead)
        else:
            if word == "":
                return
        yield 0.0


def written(words: list[str]) -> str:
    r"""Write words as a text: a space between them, signs close to their words.

    >>> print(written(["Ben", "said", ",", "\u201c", "No", ".", "\u201d"]))
    Ben said, “No.”
    """
    text = " ".join(words)
    return re.sub(rf" (?=[{_CLOSING}])|(?<=[{_OPENING}]) ", "", text)


_NAMES: Final = ("Anna", "Ben", "Clara", "David", "Emma", "Felix")
#: Who is next, after a sentence about each: weights of the names, in their order.
_NEXT: Final = (
    (6, 24, 12, 4, 2, 2),
    (24, 6, 4, 12, 2, 2),
    (2, 4, 6, 24, 12, 2),
    (4, 2, 24, 6, 2, 12),
    (12, 2, 2, 4, 6, 24),
    (2, 12, 4, 2, 24, 6),
)


def _about(number: int) -> str:
    """Rules of a sentence about one of the names, and of what follows it."""
    name = _NAMES[number]
    others = " | ".join(
        f"{weight} {other}_ next_{other}"
        for other, weight in zip(_NAMES, _NEXT[number], strict=True)
    )
    return f"{name}_: 1 {name} does .\nnext_{name}: {others} | 5 The end ."


#: Stories of sentences about people: who is next depends on who was last, and what somebody said
#: is a sentence inside a sentence, as deep as chance will have it.
STORIES: Final = Grammar(
    start="story",
    rules="\n".join(
        [
            "story: " + " | ".join(f"{6 - n} {name}_ next_{name}" for n, name in enumerate(_NAMES)),
            *map(_about, range(len(_NAMES))),
            "does: 6 sees thing | 4 wants thing | 3 carries thing | 3 likes who | 2 follows who "
            "| 1 sleeps | 1 laughs | 2 says , \u201c who does \u201d",
            "who: 5 Anna | 5 Ben | 3 Clara | 3 David | 2 Emma | 2 Felix",
            "thing: 3 a one | 2 the one where",
            "one: 12 plain | 4 red plain | 3 big plain | 2 tiny plain | 1 golden plain",
            "plain: 8 ball | 6 book | 4 pear | 3 lamp | 2 boat | 2 key | 1 drum | 1 mirror",
            "where: 4 in place | 3 behind place | 2 that who does",
            "place: 4 town | 3 Paris | 2 school",
        ]
    ),
)
#: Symbols of a sentence of ``STORIES``; ``The end.`` is not counted.
SENTENCES: Final = tuple(f"{name}_" for name in _NAMES)
