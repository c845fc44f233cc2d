"""FinishedRun: a run folder as Python objects, for notebooks and scripts.

    import imagegram
    run = imagegram.run("tokenizer=pyramid2", "num_samples=16")
    run = imagegram.open_run("outputs/latest")
    run.scores["exact_copy_rate"]["value"], run.samples.images, run.report
    run.generate("Once upon a time", max_sentences=2).text

In a notebook the last line of a cell shows a run: its main scores and its first samples. Nothing is
computed but what :meth:`FinishedRun.generate` writes: all else is read from the files of the folder
(``docs/formats.md``) when needed.
"""

from __future__ import annotations

import base64
import html
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.records import Images, ScoreInfo, Tokens
from imagegram.serve.answers import Written
from imagegram.serve.opened import Opened
from imagegram.serve.writer import Options, Prompt, Writer
from imagegram.store.run_files import SUMMARY
from imagegram.texts.modality import TEXTS_FILE
from imagegram.texts.samples import read_texts

#: Scores and texts that are shown inline.
_SHOWN_SCORES: Final = 6
_SHOWN_TEXTS: Final = 4
#: Components are opened once, whichever thread asks first.
_OPENING: Final = threading.Lock()


@dataclass(frozen=True)
class Samples:
    """The samples of a run.

    Attributes:
        folder: ``samples`` of the run folder.
    """

    folder: Path

    @cached_property
    def tokens(self) -> Tokens:
        """(N, T) uint16 ids of the tokenizer."""
        return _array(self.folder / "tokens.npy")

    @cached_property
    def images(self) -> Images:
        """(N, S, S, 3) uint8; raises ConfigError for a run of texts."""
        return _array(self.folder / "images.npy")

    @cached_property
    def texts(self) -> list[str]:
        """N texts; raises ConfigError for a run of images."""
        path = self.folder / TEXTS_FILE
        if not path.is_file():
            raise _absent(path)
        return read_texts(path)

    @cached_property
    def trace(self) -> dict[str, NDArray[Any]]:
        """(N, T) arrays that the model wrote with every token, by name."""
        return {path.stem: _array(path) for path in sorted(self.folder.glob("trace/*.npy"))}

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.tokens)


def _array(path: Path) -> NDArray[Any]:
    """Map a file into memory: a copy, so that writing to it never changes the file."""
    if not path.is_file():
        raise _absent(path)
    mapped: NDArray[Any] = np.load(path, mmap_mode="c")
    return mapped


def _absent(path: Path) -> ConfigError:
    return ConfigError(
        f"{path} is not there: this run made none (an early end by stages=, another modality, or a "
        f"failure); {path.parent.parent / SUMMARY} says what it made"
    )


@dataclass(frozen=True)
class FinishedRun:
    """A run folder.

    Attributes:
        folder: its path.
    """

    folder: Path

    @cached_property
    def summary(self) -> dict[str, Any]:
        """``summary.json``: ``status``, ``seed``, ``scores``, ``config``, ``stages``, ``error``."""
        summary: dict[str, Any] = json.loads((self.folder / SUMMARY).read_text())
        return summary

    @property
    def status(self) -> str:
        """``completed``, ``failed`` or, when it was killed or still runs, ``running``."""
        return str(self.summary["status"])

    @property
    def scores(self) -> dict[str, dict[str, float | None]]:
        """Numbers by score: ``value``, held-out ``floor``, training ``ceiling``, ``low`` ..."""
        scores: dict[str, dict[str, float | None]] = self.summary["scores"]
        return scores

    @cached_property
    def samples(self) -> Samples:
        """The samples."""
        return Samples(self.folder / "samples")

    @property
    def report(self) -> Path:
        """Path of ``report.html``."""
        return self.folder / "report.html"

    @property
    def writer(self) -> Writer:
        """What writes from this run; opened once, for all threads."""
        with _OPENING:
            if "_writer" not in vars(self):
                vars(self)["_writer"] = Writer(opened=Opened.of(self.folder, self.summary))
        writer: Writer = vars(self)["_writer"]
        return writer

    def generate(
        self,
        prompt: Prompt = None,
        *,
        num_samples: int = 1,
        seed: int = 0,
        max_tokens: int | None = None,
        max_sentences: int | None = None,
        caption: str | None = None,
        **knobs: Any,
    ) -> Written:
        """Write behind a prompt, as the run's generator does, and find what was copied.

        Answer i depends on the run, ``seed``, i, prompt and knobs alone. May be called from several
        threads.

        Args:
            prompt: characters, or ids of tokens; None: from the beginning.
            num_samples: number of answers.
            seed: 0 ... 2**64 - 1.
            max_tokens: tokens of an answer; None: 128, of a network half of its window.
            max_sentences: end behind so many sentences.
            caption: what images are to show, of a run whose generator reads captions.
            knobs: fields of the run's sampler to change, such as ``temperature=0.5``.

        Raises:
            ConfigError: for what this run cannot do, saying what it can.
        """
        options = Options(
            num_samples=num_samples,
            seed=seed,
            max_tokens=max_tokens,
            max_sentences=max_sentences,
            caption=caption,
            knobs=knobs,
        )
        return self.writer.write(prompt, options)

    @cached_property
    def _infos(self) -> Mapping[str, ScoreInfo]:
        path = self.folder / "scores.json"
        stored = json.loads(path.read_text()).get("infos", {}) if path.is_file() else {}
        return {name: ScoreInfo.of(info) for name, info in stored.items()}

    def headline(self) -> list[tuple[ScoreInfo, dict[str, float | None]]]:
        """Return the numbers that the report begins with, and their descriptions, in its order."""
        known = [info for info in self._infos.values() if info.name in self.scores]
        main = sorted((i for i in known if i.headline), key=lambda info: info.headline)
        if not main:  # a run of an earlier version
            main = sorted((i for i in known if i.rank), key=lambda info: info.rank)
        return [(info, self.scores[info.name]) for info in main[:_SHOWN_SCORES]]

    def __repr__(self) -> str:
        """Return folder, status and main scores in a line each."""
        lines = [f"{self.folder}: {self.status}"]
        for info, score in self.headline():
            floor = f" (held-out: {info.show(score['floor'])})"
            lines.append(f"  {info.title or info.name} {info.show(score['value'])}{floor}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the main scores beside their floors, and the first samples, in a notebook."""
        rows = "".join(_row(info, score) for info, score in self.headline())
        head = "<tr><th>score</th><th>samples</th><th>95 %</th><th>held-out</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else ""
        title = html.escape(f"{self.folder}: {self.status}")
        error = html.escape(str(self.summary.get("error") or ""))
        return f"<p><code>{title}</code> {error}</p>{table}{self._shown_samples()}"

    def _shown_samples(self) -> str:
        grid = self.samples.folder / "grid.png"
        if grid.is_file():
            data = base64.b64encode(grid.read_bytes()).decode()
            style = "image-rendering: pixelated; min-width: 20em; max-width: 100%"
            return f"<img alt='samples' style='{style}' src='data:image/png;base64,{data}'>"
        if (self.samples.folder / TEXTS_FILE).is_file():
            shown = self.samples.texts[:_SHOWN_TEXTS]
            return "".join(f"<blockquote>{html.escape(text)}</blockquote>" for text in shown)
        return ""


def _row(info: ScoreInfo, score: Mapping[str, float | None]) -> str:
    words = html.escape(info.words, quote=True)
    cells = (
        html.escape(info.title or info.name),
        info.show(score["value"]),
        info.show_interval(score["low"], score["high"]),
        info.show(score["floor"]),
    )
    return f"<tr title='{words}'>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def open_run(folder: str | Path) -> FinishedRun:
    """Open a run folder, ``outputs/latest`` for example, also of an audit or of a job of a sweep.

    Raises:
        ConfigError: when it is none, naming one that is.
    """
    path = Path(folder).expanduser().resolve()
    if not (path / SUMMARY).is_file():
        jobs = sorted(path.glob(f"*/{SUMMARY}"))
        hint = f"open one of its jobs, such as {jobs[0].parent}" if jobs else "give a run folder"
        raise ConfigError(f"{path} is no run folder: it has no {SUMMARY}; {hint}")
    return FinishedRun(path)
