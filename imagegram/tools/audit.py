"""Measure images or texts of unknown origin against a corpus, and report what the scores prove.

python -m imagegram.tools.audit images=FOLDER corpus=tiny_imagenet_1 tokenizer=pyramid3
python -m imagegram.tools.audit images=FILE.tar corpus=folder corpus.path=PHOTOS --json
python -m imagegram.tools.audit texts=FILE.jsonl corpus=books_children
python -m imagegram.tools.audit tokens=FILE.npy corpus=tiny_imagenet_1 num_samples=500

Takes the words of imagegram.run, and

  images=   a folder of images, a folder of tars, a tar, a glob, or a pattern {00000..00009}.tar
  texts=    or JSON lines (.jsonl, .jsonl.gz), Parquet, a folder of them or of .txt and .md; brings
            modality=text
  field=    field or column of the texts: text, unless it is given
  tokens=   or an array (N, T) of the tokenizer's ids, as samples/tokens.npy of a run folder
  jpeg=75   quality of the training images that are measured as JPEG copies; auto, the default, is
            that of the audited files (75, if most are no JPEG); null: none are measured

num_samples is how many of the images, or windows of the texts, are measured at most (all, unless
it is given). Tokenizes and
indexes the corpus unless that is cached, and writes a run folder: its path is the output, and what
was found is told on the way (on stderr).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from imagegram import schema
from imagegram import words as typed_words
from imagegram.audit.audited import AUTO, Source
from imagegram.audit.findings import name
from imagegram.audit.flow import AUDIT, Audit, audit_flow
from imagegram.audit.reencoded import check_quality
from imagegram.claims import opened
from imagegram.early_kernels import compiled_early
from imagegram.errors import OF_THE_SYSTEM, ConfigError, ImagegramError, explain_os_error
from imagegram.executors.commands import exit_cleanly, unbroken_pipes
from imagegram.executors.interrupts import interruptions
from imagegram.experiment import build, check_machine
from imagegram.numerals import number_text, plain_text
from imagegram.plan.check import refuse_what_cannot_fit
from imagegram.report.answer import by_importance
from imagegram.report.readings import MORE, Reading
from imagegram.run import flow
from imagegram.run_folder import Run
from imagegram.stages.evaluate import kernels_of
from imagegram.tools.arguments import tool_parser

_OWN: Final = ("images", "texts", "tokens", "jpeg", "field")
_SOURCES: Final = ("images", "texts", "tokens")
_SHOWN_PAIRS: Final = 5
_SHOWN_FINDINGS: Final = 5
#: Image sets that are columns, with their headings.
_COLUMNS: Final = {
    "floor": "held-out",
    "ceiling": "training",
    "recoded": "decoded",
    "recoded_jpeg": "as JPEG",
    "copies_5": "5 % copies",
    "collages": "collages",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run an audit; return the exit status."""
    parser = tool_parser("audit", __doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as for imagegram.run")
    flags = parser.parse_intermixed_args(argv)
    source, words = take_source(flags.words)
    schema.register()
    words = typed_words.as_typed(words)
    with unbroken_pipes():
        return _with_hydra(source, words, as_json=flags.json)


def take_source(words: Sequence[str]) -> tuple[Source, list[str]]:
    """Split the command line into the source to audit and the words of the configuration.

    Raises:
        ConfigError: for anything but one of ``images=``, ``texts=`` and ``tokens=``, or a word that
            an audit does not know.

    >>> source, words = take_source(["images=PHOTOS", "seed=1"])
    >>> source.images, words
    ('PHOTOS', ['seed=1'])
    >>> take_source(["texts=a.jsonl", "field=body", "corpus=jsonl"])[1]
    ['modality=text', 'corpus=jsonl']
    """
    own: dict[str, str] = {}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key in _OWN:
            own[key] = typed_words.text_of(value)
        else:
            rest.append(word)
    given = [f"{key}=" for key in _SOURCES if key in own]
    if len(given) != 1 or not own[given[0][:-1]]:
        received = f"both {' and '.join(given)}" if len(given) > 1 else "nothing to audit"
        raise ConfigError(
            f"received {received}; type one of images=FOLDER, texts=FILE.jsonl and tokens=FILE.npy"
        )
    _refuse_misplaced(own)
    if any(word.startswith("stages=") for word in rest):
        raise ConfigError("an audit has all stages; leave out stages=")
    numbers = [word.partition("=")[2] for word in rest if word.startswith("num_samples=")]
    quality: int | None = AUTO
    if (jpeg := own.get("jpeg", "auto")) != "auto":
        quality = None if jpeg == "null" else _whole("jpeg", jpeg)
        check_quality(quality)
    source = Source(
        images=own.get("images"),
        tokens=own.get("tokens"),
        num_images=_whole("num_samples", numbers[-1]) if numbers else None,
        jpeg_quality=quality,
        texts=own.get("texts"),
        field=own.get("field", "text"),
    )
    if source.texts is not None and not any(word.startswith("modality=") for word in rest):
        rest = ["modality=text", *rest]
    return source, rest


def _refuse_misplaced(own: Mapping[str, str]) -> None:
    """Refuse a word that says nothing of what is audited."""
    for key, of in (("jpeg", "images"), ("field", "texts")):
        if key in own and of not in own and not (key == "jpeg" and "tokens" in own):
            raise ConfigError(f"{key}={own[key]} is of {of}, and there is no {of}=; leave it out")


def _whole(key: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{key}={text} is no whole number; type {key}=75, for example") from None


def run_audit(cfg: DictConfig, source: Source, folder: Path) -> tuple[Audit, Run]:
    """Run an audit in ``folder``, which is that of no other run; return it and its finished run.

    Raises:
        ImagegramError: saying what to type instead.
    """
    with opened(cfg, folder):
        return _run_audit(cfg, source, folder)


def _run_audit(cfg: DictConfig, source: Source, folder: Path) -> tuple[Audit, Run]:
    exp = build(cfg)
    check_machine(exp)
    folder_of, outputs = source.images or source.texts, Path(cfg.paths.outputs)
    if folder_of is not None and outputs.resolve().is_relative_to(Path(folder_of).resolve()):
        key, found = ("images", "pictures") if source.images else ("texts", "texts")
        raise ConfigError(
            f"paths.outputs={outputs} lies inside {key}={folder_of}, so the next audit would take "
            f"the {found} of this one for {key}; give another folder: paths.outputs=FOLDER"
        )
    indexing = dataclasses.replace(exp, stages=("tokenize", "index"))
    forecast = refuse_what_cannot_fit(cfg, indexing, flow)
    kernels = forecast.kernels if forecast else ()
    kernels += kernels_of(exp.metrics) if kernels else ()  # no compiler where all is indexed
    with Run(cfg, exp, folder) as run, compiled_early(kernels, workers=run.context.workers):
        return audit_flow(exp, run, source), run
    raise AssertionError("a run of all stages ends with them")


def _with_hydra(source: Source, words: list[str], *, as_json: bool) -> int:
    """Compose the configuration as ``imagegram.run`` does, and run the audit with it."""
    status, entered = 0, False

    def enter(cfg: DictConfig) -> None:
        nonlocal status, entered
        entered = True
        status = _audit(cfg, source, as_json=as_json)

    decorate = hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name="config")
    before, sys.argv = sys.argv, [sys.argv[0], *words]
    try:
        decorate(enter)()
    except SystemExit as stop:
        if stop.code and not entered:  # Hydra refused to compose: add a suggestion
            for hint in typed_words.explain(words):
                print(f"imagegram: {hint}", file=sys.stderr)
        raise
    finally:
        sys.argv = before
    return status


def _audit(cfg: DictConfig, source: Source, *, as_json: bool) -> int:
    """Run one audit in the run folder that Hydra made."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        audit, run = run_audit(cfg, source, folder)
    except (ImagegramError, OSError) as error:
        if interruptions.error is not None:  # workers were interrupted too, and died first
            raise interruptions.error from error
        if isinstance(error, OSError) and error.errno not in OF_THE_SYSTEM:
            raise  # a defect of imagegram: keep the traceback
        reason = str(error)
        if isinstance(error, OSError):
            reason = explain_os_error(error, outputs=Path(cfg.paths.outputs))
        print(f"\nimagegram: {reason}", file=sys.stderr)
        return 1
    if as_json:
        record = json.loads((folder / AUDIT).read_text())
        print(json.dumps({**record, "folder": str(folder)}, indent=1))
        return 0
    show(audit)
    run.say(is_told=True)
    print(folder, flush=True)
    return 0


def show(audit: Audit) -> None:
    """Print what was found, the main scores, and the images that copy most, on stderr."""
    console = Console(stderr=True, highlight=False)
    whole = not console.is_terminal  # not wrapped in a file, so that lines can be searched
    if whole:
        console.width = 200  # output to a file is not cut at a terminal's width
    for line in ("", *audit.answer.sentences, ""):
        console.print(line, markup=False, soft_wrap=whole)
    for label, sentence in audit.findings[:_SHOWN_FINDINGS]:
        console.print(f"  {label}: {sentence}", markup=False, soft_wrap=whole)
    if (more := len(audit.findings) - _SHOWN_FINDINGS) > 0:
        console.print(f"  ({more} more findings are in the report and in {AUDIT})")
    console.print()
    nouns = audit.record["circumstances"]["nouns"]
    console.print(_table(audit.readings, nouns))
    if audit.nearest and audit.nearest[0]["share"] is not None:
        console.print(f"\nThe {nouns} that copy most, and what they are nearest to", style="bold")
        for line in map(_nearest_line, audit.nearest[:_SHOWN_PAIRS]):
            console.print(f"  {line}", markup=False, soft_wrap=whole)


def _table(readings: Sequence[Reading], nouns: str) -> Table:
    """Return the table of the main scores, and of all that say "copies more"."""
    shown = [which for which in _COLUMNS if any(which in reading.values for reading in readings)]
    rows = [r for r in by_importance(readings) if r.info.is_main or r.place == MORE]
    left = len(readings) - len(rows)
    caption = f"{left} more scores are in the report and in {AUDIT}" if left else None
    table = Table(box=None, caption=caption, caption_justify="left")
    table.add_column("score", no_wrap=True)
    for heading in ("audited", "95 % interval", *(_COLUMNS[which] for which in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column(f"audited {nouns}", no_wrap=True)
    for reading in rows:
        table.add_row(
            name(reading),
            reading.show(),
            reading.show_interval(),
            *(reading.show(which) for which in shown),
            reading.place or "-",
        )
    return table


def _nearest_line(pair: Mapping[str, Any]) -> str:
    share = number_text(pair["share"], is_share=True)
    text = f"{pair['image']}: {share} of its tokens are from one training document"
    if pair["source"] is not None:
        text = f"{pair['image']}: {share} of its tokens are those of training text {pair['source']}"
    if pair["nearest"] is not None:
        distance = plain_text(pair["rms"])
        text = (
            f"{pair['image']}: {share} of its tokens are those of training image {pair['source']}; "
            f"it looks most like {pair['nearest']}, different by {distance} of 255"
        )
    return text + ("; exact copy" if pair["exact"] else "")


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
