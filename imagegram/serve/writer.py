"""Writer: answers requests from a finished run, in any number of threads.

    writer = Writer(opened=Opened.of(folder, summary))
    writer.write("Once upon a time", Options(max_tokens=40, seed=1)).text

An answer depends on prompt and options alone: no state is kept from one to the next, and no global
random numbers are drawn. One request is computed at a time, so that many need no more memory.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.conditions.captions import GivenCaptions
from imagegram.conditions.prompt import GivenTokens
from imagegram.errors import ConfigError, did_you_mean
from imagegram.layout import TokenLayout
from imagegram.protocols import AnyLength, Paints, ReadsCaptions, Sampler, TextTokenizer
from imagegram.records import EOS_TOKEN_ID, Images, Tokens, Trace, row_sizes
from imagegram.serve.answers import LENGTH, STOP, Answer, Written
from imagegram.serve.opened import Opened
from imagegram.serve.sources import copied_spans
from imagegram.serve.stops import end_of_sentences
from imagegram.stages.decoding import audited_pictures, decoded

#: A prompt of characters, of ids, or none.
Prompt = str | Sequence[int] | NDArray[np.integer[Any]] | None
#: Tokens of prompt and answer, where a model writes rows of any length.
MAX_ROW: Final = 8192
#: Tokens of an answer, where nothing else is asked for.
USUAL_TOKENS: Final = 128
#: Most samples of one request.
MAX_SAMPLES: Final = 64
_MAX_SEED: Final = 2**64 - 1
#: Fields of samplers that a request cannot change: they need files of their own, or a label.
_FIXED: Final = ("name", "matching", "anchor", "label_tokens", "context_digits", "guidance")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a request asks for, besides its prompt.

    Attributes:
        num_samples: answers; answer i depends on ``seed``, i and the prompt.
        seed: 0 ... 2**64 - 1.
        max_tokens: tokens of an answer at most; None: as many as are usual.
        max_sentences: sentences of an answer at most; None: any.
        caption: what the images are to show, of a run whose generator reads captions; None: any.
        knobs: fields of the run's sampler to change: ``temperature``, ``top_p`` ...
    """

    num_samples: int = 1
    seed: int = 0
    max_tokens: int | None = None
    max_sentences: int | None = None
    caption: str | None = None
    knobs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.caption is not None and not (
            isinstance(self.caption, str) and self.caption.strip()
        ):
            raise ConfigError(
                f"caption={self.caption!r} must be a text that says something; give for example "
                "a photo of a bus, or leave it out"
            )
        bounds = {
            "num_samples": (1, MAX_SAMPLES),
            "seed": (0, _MAX_SEED),
            "max_tokens": (1, MAX_ROW),
            "max_sentences": (1, MAX_ROW),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if value is None and name.startswith("max"):
                continue
            is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not is_whole or not least <= value <= most:
                raise ConfigError(
                    f"{name}={value!r} must be a whole number in {least} ... {most}; give for "
                    f"example {name}={max(least, 1)}"
                )


@dataclass(frozen=True, kw_only=True, eq=False)
class Writer:
    """Writes from a finished run; one for all threads.

    Attributes:
        opened: components of the run.
    """

    opened: Opened
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def writes_texts(self) -> bool:
        """Whether answers are texts; else they are images."""
        return isinstance(self.opened.tokenizer, TextTokenizer)

    @property
    def reads_captions(self) -> bool:
        """Whether images are painted of captions."""
        return isinstance(self.opened.exp.generator, ReadsCaptions)

    @cached_property
    def knobs(self) -> tuple[str, ...]:
        """Fields of the run's sampler that a request may change."""
        sampler: Any = self.opened.exp.sampler
        names = (each.name for each in dataclasses.fields(sampler))
        return tuple(name for name in names if name not in _FIXED)

    def sampler(self, knobs: Mapping[str, Any]) -> Sampler:
        """Return the run's sampler with other knobs.

        Raises:
            ConfigError: for a knob that it does not have, or a value that is none of it.
        """
        sampler: Any = self.opened.exp.sampler
        for name, value in knobs.items():
            if name not in self.knobs:
                raise ConfigError(
                    f"{name!r} is no option of this run's sampler {sampler.name}; "
                    f"{did_you_mean(name, self.knobs)}"
                )
            kind = next(each.type for each in dataclasses.fields(sampler) if each.name == name)
            if value is not None or "None" not in str(kind):
                _check_kind(name, value, like=getattr(sampler, name))
        changed: Sampler = dataclasses.replace(sampler, **knobs)
        return changed

    def ids(self, prompt: Prompt) -> list[int]:
        """Return the ids of a prompt.

        Raises:
            ConfigError: for characters where images are written, and ids that there are not.
        """
        tokenizer = self.opened.tokenizer
        if prompt is None or (isinstance(prompt, str) and not prompt):
            return []
        if isinstance(prompt, str):
            if not isinstance(tokenizer, TextTokenizer):
                first = "the ids of the first tokens, or none"
                raise ConfigError(
                    "this run writes images, so that characters are no prompt; give "
                    f"{'a caption' if self.reads_captions else first}"
                )
            (document,) = tokenizer.encode([tokenizer.prepare(prompt)]).documents
            return [int(token) for token in document]
        row = np.asarray(prompt)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise ConfigError(
                f"a prompt of ids is a list of whole numbers, got {row.dtype} of shape {row.shape}"
            )
        ids: list[int] = row.tolist()
        size = tokenizer.spec.vocab_size
        if any(not 0 <= token < size for token in ids):
            raise ConfigError(f"the prompt holds ids out of 0 ... {size - 1}, those of this run")
        return ids

    def warm_up(self) -> None:
        """Load what the first answer would wait for: weights, memory maps, kernels."""
        caption = "a photo" if self.reads_captions else None
        self.write(None, Options(max_tokens=1 if self.writes_texts else None, caption=caption))

    def write(self, prompt: Prompt = None, options: Options | None = None) -> Written:
        """Write behind a prompt.

        Args:
            prompt: characters or ids; None: from the beginning of a document.
            options: what is asked for.

        Raises:
            ConfigError: for what this run cannot do, saying what it can.
            TokenError: for half a character of UTF-16.
        """
        options = options or Options()
        ids = self.ids(prompt)
        if ids and not self.opened.can_continue:
            raise ConfigError(
                f"generator={self.opened.exp.generator.name} cannot continue a prompt: it does not "
                "write one token after the other; leave the prompt out, or give a run with "
                "generator=ngram or generator=ar"
            )
        sampler = self.sampler(options.knobs)
        layout, kept, most = self._room(ids, options)
        caption = self._caption(options.caption)
        condition = GivenTokens(rows=(tuple(kept),)) if kept else caption or self.opened.condition
        samples, seed = np.arange(options.num_samples, dtype=np.uint64), int(options.seed)
        model = self.opened.model
        with self._lock:
            if isinstance(model, Paints):
                painted = model.paint(samples, sampler=sampler, seed=seed, condition=condition)
                answers = self._pictures(painted, options.caption)
            else:
                tokens_BT, trace = model.generate(
                    samples, sampler=sampler, layout=layout, seed=seed, condition=condition
                )
                rows = [(row, _row_of(trace, b)) for b, row in enumerate(tokens_BT)]
                answers = [
                    self._text(row, its_trace, len(kept), most, options.max_sentences)
                    if self.writes_texts
                    else self._image(row, its_trace, options.caption)
                    for row, its_trace in rows
                ]
        return Written(
            answers=tuple(answers),
            prompt_tokens=len(kept),
            dropped_tokens=len(ids) - len(kept),
            seed=int(options.seed),
        )

    def _caption(self, caption: str | None) -> GivenCaptions | None:
        """Return the condition of a caption; None: none is given.

        Raises:
            ConfigError: for a run that reads none, one that cannot do without, and a caption that
                is longer than is read.
        """
        generator = self.opened.exp.generator
        if not isinstance(generator, ReadsCaptions):
            if caption is None:
                return None
            raise ConfigError(
                f"this run reads no captions: generator={generator.name} never learned any; leave "
                "the caption out, or give a run with generator=maskgen or generator=maskgen_kl"
            )
        if caption is None:
            if generator.caption_dropout:
                return None
            raise ConfigError(
                "this run paints nothing without a caption, as it was trained with "
                "generator.caption_dropout=0; give one, such as caption=a photo of a bus"
            )
        generator.check_captions([caption])
        return GivenCaptions(texts=(caption,), key=generator.captions, name="caption")

    def _room(self, ids: list[int], options: Options) -> tuple[TokenLayout, list[int], int]:
        """Return the layout of a row, the last ids of the prompt that fit, and tokens to write.

        Raises:
            ConfigError: when more tokens are asked for than a row can have.
        """
        tokenizer = self.opened.tokenizer
        spec = tokenizer.spec
        if not self.writes_texts:
            GivenTokens(rows=(tuple(ids),)).check(most=spec.length - 1)
            if options.max_tokens is not None or options.max_sentences is not None:
                raise ConfigError(
                    f"an image of this run has {spec.length} tokens, no more and no fewer; leave "
                    "max_tokens and max_sentences out"
                )
            return spec.layout, ids, spec.length
        model = self.opened.model
        is_free = isinstance(model, AnyLength) and model.any_length and spec.codebooks == 1
        longest = MAX_ROW if is_free else spec.length
        usual = USUAL_TOKENS if is_free else max(longest // 2, 1)
        step = spec.codebooks  # a step is never cut
        most = max((options.max_tokens or usual) // step, 1) * step
        room = longest - most
        if room < min(len(ids), 1):
            raise ConfigError(
                f"max_tokens={most}: prompt and answer of this run have at most {longest} tokens "
                f"together; give max_tokens={max(longest // 2, 1)}, or train a generator with "
                f"tokenizer.window={2 * most}"
            )
        kept = ids[max(-(-(len(ids) - room) // step), 0) * step :]
        if not is_free:
            return spec.layout, kept, most
        windowed: Any = dataclasses.replace(tokenizer, window=len(kept) + most)  # type: ignore[type-var]
        return windowed.spec.layout, kept, most

    def _text(
        self, row_T: Tokens, trace: Trace, given: int, most: int, max_sentences: int | None
    ) -> Answer:
        """Return what of a row answers: up to its end, a number of tokens, or of sentences."""
        tokenizer = self.opened.tokenizer
        assert isinstance(tokenizer, TextTokenizer)
        size = int(row_sizes(row_T[None])[0])
        ended = size < len(row_T) and size <= given + most
        row = row_T[: min(size, given + most)]
        (text,) = tokenizer.decode(row[None]) if len(row) else ("",)
        offsets = tokenizer.offsets(row)
        begin, cut = int(offsets[given]), len(text)
        if max_sentences is not None:
            end = end_of_sentences(text, begin, max_sentences, ended=ended)
            cut, ended = (cut, ended) if end is None else (end, True)
        stop = max(int(np.searchsorted(offsets, cut)), given) if cut < len(text) else len(row)
        own = np.minimum(offsets[given : stop + 1], cut) - begin
        tokens = np.array(row[given:stop])
        return Answer(
            text=text[begin:cut],
            image=None,
            tokens=tokens,
            trace={name: values[given:stop] for name, values in trace.items()},
            spans=copied_spans(self.opened.index, tokens, own),
            finish_reason=STOP if ended else LENGTH,
            offsets=own,
        )

    def _pictures(self, painted: Images, caption: str | None) -> list[Answer]:
        """Return pictures that a model painted, with the tokens that the tokenizer gives them."""
        tokenizer, side = self.opened.tokenizer, self.opened.exp.output_size
        tokens_BT, images = audited_pictures(tokenizer, painted, output_size=side)
        pairs = zip(tokens_BT, images, strict=True)
        return [self._shown(row_T, image, {}, caption) for row_T, image in pairs]

    def _image(self, row_T: Tokens, trace: Trace, caption: str | None) -> Answer:
        """Return a row as an image."""
        tokenizer, side = self.opened.tokenizer, self.opened.exp.output_size
        (image,) = decoded(tokenizer, row_T[None], captions=[caption], output_size=side)
        return self._shown(row_T, image, trace, caption)

    def _shown(self, row_T: Tokens, image: Any, trace: Trace, caption: str | None) -> Answer:
        """Return an image with what it copies."""
        row = np.array(row_T[row_T != EOS_TOKEN_ID])
        return Answer(
            text=None,
            image=np.asarray(image),
            caption=caption,
            tokens=row,
            trace=trace,
            spans=copied_spans(self.opened.index, row, None),
            finish_reason=STOP,
        )


def _row_of(trace: Trace, b: int) -> dict[str, NDArray[Any]]:
    return {name: values[b] for name, values in trace.items()}


def _check_kind(name: str, value: Any, *, like: Any) -> None:
    """Refuse a value of another kind than a knob has, before it is compared with numbers.

    Raises:
        ConfigError: naming both.
    """
    if isinstance(like, bool) or isinstance(value, bool):
        fits = isinstance(like, bool) and isinstance(value, bool)
    elif isinstance(like, str):
        fits = isinstance(value, str)
    else:
        fits = isinstance(value, int | float)
    if not fits:
        kind = type(like).__name__ if isinstance(like, bool | str) else "number"
        raise ConfigError(f"{name}={value!r} must be a {kind}, as it is in this run: {like!r}")
