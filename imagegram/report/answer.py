"""The answer: what a reader of a report or of the console knows after five seconds.

A copy that was found is a fact and comes first, with an example. Then a verdict in words with its
evidence: do the samples copy more than held-out images do, and by which scores? Then a few numbers,
each beside its floor. Which scores these are is said by their :class:`ScoreInfo`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from imagegram.numerals import at_most, count_text, list_text, number_text
from imagegram.protocols import Modality
from imagegram.report.pairs import Pair
from imagegram.report.provenance import TracedSample
from imagegram.report.readings import (
    AS_HELD_OUT,
    LESS,
    MORE,
    UNDECIDED,
    UNKNOWN,
    Reading,
    beside,
    read_scores,
)
from imagegram.stages.evaluate import Evaluation
from imagegram.texts.highlight import coded

#: Numbers that a report begins with, scores that a verdict quotes, and pairs that it shows.
_NUMBERS: Final = 4
_EVIDENCE: Final = 3
_EXAMPLES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Wording:
    """What a report calls the images or texts that were measured, and what else it has to say.

    Attributes:
        title: title of the page.
        facts: (label, value) pairs: corpus, tokenizer, sampler ...
        one, several: the measured items: ``sample``, ``samples``.
        names: name of every measured item, such as its file; empty: ``sample 0`` ...
        warnings: what is to be known before anything else: too few held-out images.
        doubts: sentences that limit what a count of copies says.
        findings: (label, sentence) pairs, the most important first.
    """

    title: str
    facts: Sequence[tuple[str, str]] = ()
    one: str = "sample"
    several: str = "samples"
    names: Sequence[str] = ()
    warnings: Sequence[str] = ()
    doubts: Sequence[str] = ()
    findings: Sequence[tuple[str, str]] = ()

    def name(self, sample: int) -> str:
        """Return the name of one measured item."""
        return self.names[sample] if self.names else f"{self.one} {sample}"

    def heading(self, sample: int) -> str:
        """Return the name of one measured item as a heading."""
        return self.names[sample] if self.names else f"{self.one.capitalize()} {sample}"


@dataclass(frozen=True, kw_only=True)
class Example:
    """A copy that was found: its name, and that of the training document that it equals."""

    pair: Pair
    name: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Number:
    """One of the numbers that a report begins with, as text.

    Attributes:
        title, words: name and explanation of the score.
        value, interval: of the measured items; a count has ``50 of 1,000`` as its value.
        floor: value and interval of held-out items.
        place: what the two intervals say, such as ``copies more``.
    """

    title: str
    words: str
    value: str
    interval: str
    floor: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was found, in a few sentences and numbers.

    Attributes:
        warnings: said before anything else.
        found: the copies that were counted; empty where no score counts them.
        limit: what the count leaves open, or an example.
        verdict: whether the rest copies more than held-out items do, and by which scores.
        numbers: a few scores beside their floors.
        examples: copies that were found.
        readings: every score, with what its interval and that of held-out items say.
    """

    warnings: tuple[str, ...]
    found: str
    limit: str
    verdict: tuple[str, ...]
    numbers: tuple[Number, ...]
    examples: tuple[Example, ...] = ()
    readings: tuple[Reading, ...] = ()

    @property
    def fact(self) -> str:
        """The copies that were counted, and an example or what the count leaves open."""
        return f"{self.found}{self.limit}."

    @property
    def sentences(self) -> list[str]:
        """What is to be known first, the copies that were counted, and the verdict."""
        return [*self.warnings, *([self.fact] if self.found else []), *self.verdict]

    def table(self) -> list[str]:
        """Return the numbers as lines of text, in columns."""
        columns = [
            [number.title, beside(number.value, number.interval), f"held-out {number.floor}"]
            for number in self.numbers
        ]
        widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
        padded = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
            for row in columns
        ]
        places = [number.place for number in self.numbers]
        return [f"{row}  {place}".rstrip() for row, place in zip(padded, places, strict=True)]


def answer_of(
    evaluation: Evaluation,
    *,
    wording: Wording,
    modality: Modality,
    pairs: Sequence[Pair],
    traced: Sequence[TracedSample] = (),
) -> Answer:
    """Return the answer of one evaluation.

    Args:
        evaluation: scores, intervals and sizes of all image sets.
        wording: what the measured items are called.
        modality: what the items of the corpus are called.
        pairs: the samples that copy most, the worst first.
        traced: the first of them with their sources, which name the sources of texts.
    """
    sizes, nouns = evaluation.sizes, modality.nouns
    readings = read_scores(evaluation, sizes)
    examples = _examples(pairs, traced, wording)
    found, limit = _fact(readings, wording, modality, examples)
    return Answer(
        warnings=tuple(wording.warnings),
        found=found,
        limit=limit,
        verdict=(*verdict(readings, sizes, several=wording.several, nouns=nouns), *wording.doubts),
        numbers=tuple(_number(reading) for reading in headline_readings(readings)),
        examples=examples,
        readings=tuple(readings),
    )


# ------------------------------------------------------------------------------------------- facts


def _examples(
    pairs: Sequence[Pair], traced: Sequence[TracedSample], wording: Wording
) -> tuple[Example, ...]:
    """Return the first exact copies with the names of what they equal."""
    sources = {one.sample: one.sources[0].metadata for one in traced if one.sources}
    examples: list[Example] = []
    for pair in pairs:
        metadata = pair.nearest.metadata if pair.nearest else sources.get(pair.sample)
        if pair.exact and metadata is not None and len(examples) < _EXAMPLES:
            name, source = coded(wording.name(pair.sample)), coded(str(metadata["key"]))
            examples.append(Example(pair=pair, name=name, source=source))
    return tuple(examples)


def _fact(
    readings: Sequence[Reading],
    wording: Wording,
    modality: Modality,
    examples: Sequence[Example],
) -> tuple[str, str]:
    """Return how many copies were found, and an example, or what the count leaves open."""
    counted = next((r for r in readings if r.count() is not None), None)
    if counted is None:
        return "", ""
    count, total = counted.count(), counted.sizes["generated"]
    one, several = counted.info.counts
    if count is None or not count:
        found = f"0 of {count_text(total, wording.one, wording.several)} are {several}"
        most = number_text(at_most(total), is_share=True)
        return found, f"; with 95 % confidence at most {most}"
    are = f"is an {one}" if count == 1 else f"are {several}"
    found = f"{count:,} of {count_text(total, wording.one, wording.several)} {are}"
    limit = ""
    if examples:
        limit = f", e.g. {examples[0].name} = training {modality.noun} {examples[0].source}"
    held_out = counted.count("floor")
    if held_out:
        limit += f"; so are {held_out:,} of {counted.sizes['floor']:,} held-out {modality.nouns}"
    return found, limit


# ----------------------------------------------------------------------------------------- verdict


def verdict(
    readings: Sequence[Reading], sizes: Mapping[str, int], *, several: str, nouns: str
) -> tuple[str, ...]:
    """Return one to three sentences: whether the samples copy more than held-out items do.

    Args:
        readings: all scores.
        sizes: number of items by image set.
        several: the measured items, ``samples``.
        nouns: the items of the corpus, ``images``.
    """
    if not sizes.get("floor"):
        return (
            f"There are no held-out {nouns} to compare with: how much real {nouns} share with the "
            "corpus is not known.",
        )
    judged = [r for r in by_importance(readings) if r.tells_copying]
    more, less = ([r for r in judged if r.place == place] for place in (MORE, LESS))
    same = [r for r in judged if r.place == AS_HELD_OUT and r.show_interval()]
    few = [r for r in judged if r.place in (UNDECIDED, UNKNOWN) and _has_both(r)]
    total = len(more) + len(less) + len(same) + len(few)
    if not total:
        return ()
    size, floor = f"{sizes['generated']:,} {several}", sizes["floor"]
    as_far = f"{size} beside {floor:,} held-out ones" if floor < sizes["generated"] else size
    found = any(r.count() for r in readings)
    they, held_out = ("Otherwise they" if found else "They"), f"held-out {nouns} do"
    if more:
        first = f"They copy more than {held_out}, by {_of(more, total)}: {_evidence(more)}."
        rest = [(same, ("reads", "read"), "as held-out"), (less, ("reads", "read"), "less")]
    elif same:
        first = (
            f"{they} copy no more than {held_out}, as far as {as_far} tell, by "
            f"{_of(same, total)}: {_evidence(same)}."
        )
        rest = [(less, ("reads", "read"), "less")]
    elif less:
        first = f"{they} copy less than {held_out}, by {_of(less, total)}: {_evidence(less)}."
        rest = []
    else:
        first = (
            f"{size} beside {sizes['floor']:,} held-out {nouns} are too "
            f"few to tell whether they copy more than {held_out}: {_evidence(few)}."
        )
        return (first,)
    rest.append((few, ("has", "have"), f"too few {nouns} to tell"))
    others = [f"{count_text(len(some), *verb)} {what}" for some, verb, what in rest if some]
    return (first, f"Of the other scores {list_text(others)}.") if others else (first,)


def by_importance(readings: Sequence[Reading]) -> list[Reading]:
    """Sort scores: those that reports begin with, those that are drawn, then the others."""

    def key(reading: Reading) -> tuple[bool, int, int]:
        info = reading.info
        return not info.is_main, info.headline or 99, info.rank or 99

    return sorted(readings, key=key)


def headline_readings(readings: Sequence[Reading]) -> list[Reading]:
    """Return the scores that a report begins with, as far as they were measured."""
    chosen: dict[int, Reading] = {}
    for reading in readings:
        if reading.info.headline and reading.values["generated"] is not None:
            chosen.setdefault(reading.info.headline, reading)
    return [chosen[place] for place in sorted(chosen)[:_NUMBERS]]


def _has_both(reading: Reading) -> bool:
    return None not in (reading.values.get("generated"), reading.values.get("floor"))


def _of(some: Sequence[Reading], total: int) -> str:
    if len(some) == total:
        return "the only score" if total == 1 else f"all {total:,} scores"
    return f"{len(some):,} of {total:,} scores"


def _evidence(readings: Sequence[Reading]) -> str:
    """Return the most important of some scores, each value beside its floor."""
    told = [
        f"{reading.info.title or reading.score} {reading.show_both()} beside "
        f"{reading.show_both('floor')}"
        for reading in readings[:_EVIDENCE]
    ]
    return ", ".join(told)


def _number(reading: Reading) -> Number:
    count, held_out = reading.count(), reading.count("floor")
    value, interval = reading.show(), reading.show_interval()
    floor = reading.show_both("floor")
    if count is not None:
        value = f"{count:,} of {reading.sizes['generated']:,}"
        interval = reading.show_both() if count else interval
    if held_out is not None:
        floor = f"{held_out:,} of {reading.sizes['floor']:,}"
    return Number(
        title=reading.info.title or reading.score,
        words=reading.info.words,
        value=value,
        interval=interval,
        floor=floor,
        place=reading.place,
    )
