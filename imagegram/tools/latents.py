"""Look at the latents of a finished run of generator=latent_flow, and write from them.

python -m imagegram.tools.latents reconstruct text="It was a dark night." run=outputs/latest
python -m imagegram.tools.latents encode text="It was a dark night." out=latents.npy
python -m imagegram.tools.latents decode latents=latents.npy
python -m imagegram.tools.latents denoise text="It was a dark night." noise=0.5 seed=1
python -m imagegram.tools.latents continue text="It was a dark" num_samples=3
python -m imagegram.tools.latents generate num_samples=3
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.executors.commands import exit_cleanly
from imagegram.finished_run import FinishedRun, open_run
from imagegram.generators.latent_flow.model import LatentFlowModel
from imagegram.protocols import TextTokenizer
from imagegram.records import EOS_TOKEN_ID, Tokens, row_sizes
from imagegram.tools.arguments import parse, tool_parser

_EPILOG: Final = """\
reconstruct  encode a text and decode it: what latents keep of it
encode       write the latents of a text into out, an .npy of float32 (1, chunks, numbers)
decode       write the texts of the latents in a file
denoise      mix noise into the latents of a text (noise=1: nothing else), then follow the flow
continue     write behind a text, as the run does
generate     write from the beginning

run          the folder of a finished run (outputs/latest)
num_samples  of continue and generate (1); seed of the noise (0)
"""
_KEYS: Final = {
    "run": "outputs/latest",
    "text": "",
    "latents": "",
    "out": "latents.npy",
    "noise": "0.5",
    "seed": "0",
    "num_samples": "1",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the verb says; return the exit status."""
    parser = tool_parser("latents", __doc__, epilog=_EPILOG)
    parser.add_argument("verb", choices=sorted(_VERBS), help="see below")
    flags, values = parse(parser, argv, _KEYS)
    run = open_run(values["run"])
    opened = run.writer.opened
    if not isinstance(opened.model, LatentFlowModel):
        raise ConfigError(
            f"{run.folder} has generator={opened.exp.generator.name}, which has no latents; give a "
            "run of generator=latent_flow: run=FOLDER"
        )
    if not isinstance(opened.tokenizer, TextTokenizer):
        raise ConfigError(
            f"{run.folder} writes images; from Python: run.writer.opened.model.encode(tokens)"
        )
    _VERBS[flags.verb](run, values)
    return 0


def _reconstruct(run: FinishedRun, values: Mapping[str, str]) -> None:
    tokens_1T, latents_1ND = _encoded(run, values)
    found_1T = _model(run).decode(latents_1ND)
    size = int(row_sizes(tokens_1T)[0])
    right = int((found_1T[0, :size] == tokens_1T[0, :size]).sum())
    print(_texts(run, found_1T)[0])
    print(f"{right} of {size} tokens are right", file=sys.stderr)


def _encode(run: FinishedRun, values: Mapping[str, str]) -> None:
    out = Path(values["out"])
    if out.suffix != ".npy":
        raise ConfigError(f"out={out} must end in .npy; type out=latents.npy")
    if out.exists():
        raise ConfigError(f"{out} exists already; type another out=FILE.npy, or remove it")
    if not out.parent.is_dir():
        raise ConfigError(f"out={out}: there is no folder {out.parent}; make it, or name another")
    _, latents_1ND = _encoded(run, values)
    np.save(out, latents_1ND)
    print(f"{out}: float32 {latents_1ND.shape}, standardized")


def _decode(run: FinishedRun, values: Mapping[str, str]) -> None:
    path = Path(values["latents"])
    if not path.is_file():
        raise ConfigError(f"latents={path}: there is no such file; type latents=FILE.npy")
    try:
        latents_BND = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ConfigError(f"latents={path} is no array of numbers: {error}") from error
    for text in _texts(run, _model(run).decode(latents_BND)):
        print(text)


def _denoise(run: FinishedRun, values: Mapping[str, str]) -> None:
    model, noise = _model(run), _number(values, "noise")
    if not 0 <= noise <= 1:
        raise ConfigError(f"noise={noise:g} must lie in 0 ... 1; type noise=0.5")
    sampler: Any = run.writer.opened.exp.sampler
    _, latents_1ND = _encoded(run, values)
    seed = _whole(values, "seed", least=0)
    found_1ND = model.denoise(latents_1ND, noise=noise, sampler=sampler, seed=seed)
    print(_texts(run, model.decode(found_1ND))[0])


def _continue(run: FinishedRun, values: Mapping[str, str]) -> None:
    _write(run, values, prompt=_text(values))


def _generate(run: FinishedRun, values: Mapping[str, str]) -> None:
    _write(run, values, prompt=None)


def _write(run: FinishedRun, values: Mapping[str, str], *, prompt: str | None) -> None:
    seed, count = _whole(values, "seed", least=0), _whole(values, "num_samples", least=1)
    for answer in run.generate(prompt, num_samples=count, seed=seed).answers:
        print(f"{prompt or ''}{answer.text}")


#: What each verb does.
_VERBS: Final[Mapping[str, Callable[[FinishedRun, Mapping[str, str]], None]]] = {
    "reconstruct": _reconstruct,
    "encode": _encode,
    "decode": _decode,
    "denoise": _denoise,
    "continue": _continue,
    "generate": _generate,
}


def _model(run: FinishedRun) -> LatentFlowModel:
    model: Any = run.writer.opened.model
    assert isinstance(model, LatentFlowModel)
    return model


def _text(values: Mapping[str, str]) -> str:
    if not values["text"]:
        raise ConfigError('text= is missing; type text="Once upon a time"')
    return values["text"]


def _encoded(run: FinishedRun, values: Mapping[str, str]) -> tuple[Tokens, NDArray[np.float32]]:
    """Return the (1, T) tokens of the text, padded with separators, and its (1, N, D) latents.

    The latents are of the chunks up to the one in which the text ends.

    Raises:
        ConfigError: for a text of more tokens than the run has latents for.
    """
    tokenizer = run.writer.opened.tokenizer
    (ids,) = tokenizer.encode([tokenizer.prepare(_text(values))]).documents
    length = tokenizer.spec.length
    if len(ids) > length:
        raise ConfigError(
            f"the text has {len(ids)} tokens, and this run has latents for {length}; shorten it"
        )
    tokens_1T = np.full((1, length), EOS_TOKEN_ID, dtype=np.uint16)
    tokens_1T[0, : len(ids)] = ids
    model = _model(run)
    num_chunks = model.chunks.num_chunks(min(len(ids) + 1, length))
    return tokens_1T, model.encode(tokens_1T)[:, :num_chunks]


def _texts(run: FinishedRun, tokens_BT: Tokens) -> list[str]:
    texts: list[str] = run.writer.opened.tokenizer.decode(tokens_BT)
    return texts


def _whole(values: Mapping[str, str], name: str, *, least: int) -> int:
    """Return a whole number of at least ``least``."""
    number = _number(values, name)
    if not (number >= least and number.is_integer()):
        raise ConfigError(
            f"{name}={values[name]} must be a whole number of at least {least}; type {name}=1"
        )
    return int(number)


def _number(values: Mapping[str, str], name: str) -> float:
    try:
        return float(values[name])
    except ValueError:
        raise ConfigError(f"{name}={values[name]} is no number; type {name}=1") from None


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
