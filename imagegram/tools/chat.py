"""Chat with a finished run in the terminal; copied spans are coloured by their sources.

    python -m imagegram.tools.chat run=outputs/latest
    python -m imagegram.tools.chat run=outputs/latest seed=1 max_tokens=60 template=plain
    echo "Once upon a time" | python -m imagegram.tools.chat run=outputs/latest

/seed N, /help and /quit are commands. Who says what is kept: the generator reads the conversation
as lines that begin with User: and Assistant:. With template=plain it continues your words alone,
as a generator that never saw a conversation does best.

A run of images whose generator reads captions takes every line as a caption, and writes a PNG.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from imagegram.errors import ConfigError, ImagegramError, did_you_mean
from imagegram.executors.commands import exit_cleanly
from imagegram.finished_run import open_run
from imagegram.serve.answers import Answer
from imagegram.serve.sources import described, ranked
from imagegram.serve.transcript import Message, before_next_turn, transcript
from imagegram.serve.writer import Options, Writer
from imagegram.texts.highlight import coded
from imagegram.tools.arguments import parse, tool_parser

_EPILOG: Final = """\
run            the folder of a finished run, of texts or of images under captions (outputs/latest)
seed           of the answers, 0 ... 2**64 - 1 (0); an answer depends on it and the conversation
max_tokens     tokens of an answer (128, of a network half of its window)
max_sentences  sentences of an answer (any)
temperature    instead of the run's
template       roles, or plain: your last words alone are continued (roles)
out            folder of the PNGs, 0000.png ...; files that are there already stay (.)
"""
_TEMPLATES: Final = ("roles", "plain")
#: Colours of the largest sources, and of the others.
_COLOURS: Final = ("cyan", "magenta", "yellow", "green", "blue")
_OTHER: Final = "bright_black"
#: Spans that are listed below an answer.
_LISTED: Final = 8
_HELP: Final = """\
/seed N   the seed of the next answers
/help     these lines
/quit     end; so does the end of the input"""


def main(argv: Sequence[str] | None = None) -> int:
    """Chat until the input ends; return the exit status."""
    keys = {"run": "outputs/latest", "seed": "0", "max_tokens": "", "max_sentences": ""}
    keys |= {"temperature": "", "template": "roles", "out": "."}
    _, values = parse(tool_parser("chat", __doc__, epilog=_EPILOG), argv, keys)
    if values["template"] not in _TEMPLATES:
        hint = did_you_mean(values["template"], _TEMPLATES)
        raise ConfigError(f"template={values['template']}: {hint}")
    run = open_run(values["run"])
    if not run.writer.writes_texts and not run.writer.reads_captions:
        raise ConfigError(
            f"{run.folder} writes images and reads no captions, so it does not chat; serve it "
            f"instead: python -m imagegram.tools.serve run={values['run']}"
        )
    knobs = {}
    if values["temperature"]:
        knobs["temperature"] = _number("temperature", values["temperature"])
    seed = _whole("seed", values["seed"]) or 0
    chat = Chat(
        writer=run.writer,
        options=Options(
            seed=seed,
            max_tokens=_whole("max_tokens", values["max_tokens"]),
            max_sentences=_whole("max_sentences", values["max_sentences"]),
            knobs=knobs,
        ),
        plain=values["template"] == "plain",
        console=Console(highlight=False, soft_wrap=True),
        out=Path(values["out"]).expanduser(),
    )
    chat.run()
    return 0


@dataclass(kw_only=True)
class Chat:
    """A conversation.

    Attributes:
        writer: writes the answers.
        options: what is asked for each time.
        plain: whether the last words alone are continued.
        console: where answers are shown.
        out: folder of the images.
        messages: what was said so far.
    """

    writer: Writer
    options: Options
    plain: bool
    console: Console
    out: Path = Path()
    messages: list[Message] = field(default_factory=list)

    def run(self) -> None:
        """Answer line by line, until /quit or the end of the input."""
        is_typed = sys.stdin.isatty()
        if is_typed:
            self.console.print(_HELP, markup=False)
        while True:
            try:
                line = input("> " if is_typed else "")
            except EOFError:
                return
            if line.strip() == "/quit":
                return
            try:
                self.take(line)
            except ImagegramError as error:  # a mistake of one line ends no conversation
                self.console.print(f"imagegram: {error}", style="red", markup=False)

    def take(self, line: str) -> None:
        """Obey a command, or answer a line.

        Raises:
            ImagegramError: for a command that is none, and what the writer cannot do.
        """
        command, _, value = line.strip().partition(" ")
        if not line.strip():
            return
        if command == "/help":
            self.console.print(_HELP, markup=False)
        elif command == "/seed":
            self.options = _with_seed(self.options, value)
            self.console.print(f"seed {self.options.seed}", markup=False)
        elif command.startswith("/"):
            raise ConfigError(f"{command}: {did_you_mean(command, ('/seed', '/help', '/quit'))}")
        elif self.writer.writes_texts:
            self.answer(line)
        else:
            self.paint(line)

    def paint(self, caption: str) -> None:
        """Write an image of a caption to a file that was not there, and name its sources."""
        asked = dataclasses.replace(self.options, caption=caption.strip())
        answer: Answer = self.writer.write(None, asked)[0]
        self.out.mkdir(parents=True, exist_ok=True)
        names = (self.out / f"{number:04d}.png" for number in itertools.count())
        path = next(name for name in names if not name.exists())
        path.write_bytes(answer.png())
        share = f"{answer.copied_share:.1%} of its tokens lie in copied runs"
        self.console.print(f"{path}: {share}", markup=False)
        name_sources(self.console, answer)

    def answer(self, line: str) -> None:
        """Write an answer, and show it with its sources."""
        said = [*self.messages, Message("user", line)]
        written = self.writer.write(line if self.plain else transcript(said), self.options)
        answer: Answer = written[0]
        text = answer.text or ""
        spoken = text if self.plain else before_next_turn(text)
        self.messages = [*said, Message("assistant", spoken.strip())]
        show(self.console, answer, size=len(spoken))
        if written.dropped_tokens:
            self.console.print(
                f"the first {written.dropped_tokens} tokens of the conversation did not fit",
                style="dim",
            )


def show(console: Console, answer: Answer, *, size: int) -> None:
    """Print the first characters of an answer, coloured by source, and name the longest spans."""
    text, ranks, at = Text(), ranked(answer.spans), 0
    spans = [span for span in answer.spans if span.last <= size]
    whole = answer.text or ""
    for span in spans:
        rank = ranks.get(span.sources[0].document)
        text.append(_safe(whole[at : span.first]))
        text.append(
            _safe(whole[span.first : span.last]), _OTHER if rank is None else _COLOURS[rank]
        )
        at = span.last
    text.append(_safe(whole[at:size]))
    console.print(text)
    name_sources(console, answer, size=size)


def name_sources(console: Console, answer: Answer, *, size: int = 0) -> None:
    """Print where the longest copied spans are from, of a text those of its first characters."""
    ranks = ranked(answer.spans)
    longest = sorted(
        (span for span in answer.spans if span.last <= size), key=lambda span: -span.length
    )
    for span in longest[:_LISTED]:
        rank = ranks.get(span.sources[0].document)
        style = _OTHER if rank is None else _COLOURS[rank]
        console.print(f"  {coded(described(span))}", style=style, markup=False)
    if len(longest) > _LISTED:
        console.print(f"  and {len(longest) - _LISTED} shorter ones", style="dim")


def _safe(text: str) -> str:
    """Return text without characters that act on a terminal."""
    return "\n".join(coded(line) for line in text.split("\n"))


def _with_seed(options: Options, value: str) -> Options:
    return dataclasses.replace(options, seed=_whole("/seed", value) or 0)


def _whole(key: str, text: str) -> int | None:
    """Return a whole number; None for an empty text.

    Raises:
        ConfigError: for anything else.
    """
    if text and not text.isdecimal():
        raise ConfigError(f"{key} {text}: must be a whole number, such as {key}=1")
    return int(text) if text else None


def _number(key: str, text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{key}={text} must be a number; type {key}=0.8") from None


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
