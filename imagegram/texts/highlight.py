r"""Text as HTML: runs coloured by their source, and no character that acts without being seen.

Classes as in the report's drawings of images: ``s0`` ... ``s4`` for the largest sources, ``sx`` for
any other, ``o1`` ... ``o5`` for the length of the run. The page's style gives them colours.

>>> highlighted("a<b", [Run(start=0, end=2, length=2, rank=0, title='a "b"')], longest=4)
Markup('<span class="run s0 o3" title="a &#34;b&#34;">a&lt;</span>b')
>>> visible("a\u202eb\x00")
Markup('a<span class="code">U+202E</span>b<span class="code">U+0000</span>')
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

#: Steps of opacity.
STEPS: Final = 5
#: Characters of the source that are shown on each side of a copied run.
MARGIN: Final = 200
#: What makes sense between the letters of some scripts and the parts of an emoji.
_JOINERS: Final = "\u200c\u200d"
#: Control, format, surrogate, private and unassigned characters, separators of lines.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PLAIN: Final = re.compile(r"[\n\t -~]+")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of characters that one source has too.

    Attributes:
        start, end: characters of the text, half open.
        length: tokens of the copied phrase.
        rank: of the source among the largest ones; None: another one.
        title: what is said of it.
    """

    start: int
    end: int
    length: int
    rank: int | None
    title: str


def visible(text: str) -> Markup:
    """Text as HTML: markup is escaped, characters that cannot be seen are written as codes."""
    code = Markup('<span class="code">{}</span>')
    return Markup("").join(code.format(part) if unseen else part for part, unseen in _parts(text))


def coded(text: str) -> str:
    """Text for a title or a name: characters that cannot be seen are written as codes.

    >>> coded("a\u202eb")
    'a[U+202E]b'
    """
    return "".join(f"[{part}]" if unseen else part for part, unseen in _parts(text))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a text: as they are, or the code of a character that cannot be seen."""
    at = 0
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            yield plain[0], False
            at = plain.end()
            continue
        character = text[at]
        unseen = unicodedata.category(character) in _UNSEEN and character not in _JOINERS
        yield f"U+{ord(character):04X}" if unseen else character, unseen
        at += 1


def highlighted(text: str, runs: Sequence[Run], *, longest: int) -> Markup:
    """Text with its runs marked; what lies in no run is plain.

    Args:
        text: whatever was generated.
        runs: in order, none reaching into the next.
        longest: tokens of the longest run that there could be, which has full opacity.
    """
    parts: list[Markup] = []
    at = 0
    for run in runs:
        if not at <= run.start <= run.end <= len(text):
            raise ValueError(f"{run} does not lie behind character {at} of {len(text)}")
        parts.append(visible(text[at : run.start]))
        if run.end > run.start:
            parts.append(
                Markup('<span class="run {} o{}" title="{}">{}</span>').format(
                    _colour(run.rank),
                    step(run.length, longest),
                    coded(run.title),
                    visible(text[run.start : run.end]),
                )
            )
        at = run.end
    parts.append(visible(text[at:]))
    return Markup("").join(parts)


def step(length: int, longest: int) -> int:
    """Opacity 1 ... 5 of a run, by the logarithm of its length.

    >>> [step(length, 128) for length in (1, 3, 8, 32, 128)]
    [1, 2, 3, 4, 5]
    """
    share = math.log(max(length, 1)) / max(math.log(longest), 1e-9)
    return 1 + min(int(STEPS * share), STEPS - 1)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of a document, with what stands before and after it.

    Attributes:
        before, copied, after: characters; ``before`` and ``after`` are cut.
        starts, ends: whether the document starts or ends there.
    """

    before: str
    copied: str
    after: str
    starts: bool
    ends: bool

    @classmethod
    def of(
        cls,
        text: str,
        start: int,
        end: int,
        *,
        margin: int = MARGIN,
        more_before: bool = False,
        more_after: bool = False,
    ) -> Passage:
        """Cut a stretch out of a document.

        Args:
            text: the document, or what stands around the stretch.
            start: first character of the stretch.
            end: one more than its last.
            margin: largest number of characters on each side.
            more_before: whether the document begins before the text does.
            more_after: whether it ends behind it.
        """
        first, last = max(start - margin, 0), min(end + margin, len(text))
        return cls(
            before=text[first:start],
            copied=text[start:end],
            after=text[end:last],
            starts=first == 0 and not more_before,
            ends=last == len(text) and not more_after,
        )

    def marked(self, *, rank: int | None) -> Markup:
        """HTML; the stretch has the colour of a source.

        >>> Passage.of("abcdef", 2, 4, margin=1).marked(rank=1)
        Markup('… b<span class="run s1 o5">cd</span>e …')
        """
        return Markup('{}{}<span class="run {} o5">{}</span>{}{}').format(
            "" if self.starts else "… ",
            visible(self.before),
            _colour(rank),
            visible(self.copied),
            visible(self.after),
            "" if self.ends else " …",
        )


def _colour(rank: int | None) -> str:
    return "sx" if rank is None else f"s{rank}"
