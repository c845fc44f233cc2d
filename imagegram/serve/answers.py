"""What a request is answered with: texts or images, their trace, and what they copy."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup
from numpy.typing import NDArray

from imagegram.errors import ConfigError
from imagegram.records import Images, Tokens
from imagegram.serve.sources import CopiedSpan, described, runs
from imagegram.texts.highlight import highlighted

#: Ends of an answer: the document or the wanted sentences ended; or no more tokens were wanted.
STOP, LENGTH = "stop", "length"
#: Colours of the largest sources, as in a report; then of any other.
_TONES: Final = {
    **{"s0": "#d55e00", "s1": "#0072b2", "s2": "#e69f00", "s3": "#009e73", "s4": "#cc79a7"},
    "sx": "#8b8781",
}
_STYLE: Final = "".join(
    f".imagegram .{name} {{ background: color-mix(in srgb, {tone} 34%, transparent); }} "
    for name, tone in _TONES.items()
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """One sample: what was written behind a prompt.

    Attributes:
        text: characters that were written; None for an image.
        image: (H, W, 3) uint8; None for a text.
        tokens: (N,) uint16 ids that were written, the prompt's left out; of an image all.
        trace: (N,) arrays of the model by name, one entry a token.
        spans: runs of tokens that training documents have too.
        finish_reason: ``stop`` or ``length``.
        caption: what an image was to show; None: nothing was asked of it.
        offsets: (N + 1,) characters of ``text`` before each token, and of all; None: unknown.
    """

    text: str | None
    image: Images | None
    tokens: Tokens
    trace: Mapping[str, NDArray[Any]]
    spans: tuple[CopiedSpan, ...]
    finish_reason: str
    caption: str | None = None
    offsets: NDArray[Any] | None = None

    @property
    def copied_share(self) -> float:
        """Share of the tokens that lie in a copied span, 0 ... 1."""
        return sum(span.length for span in self.spans) / max(len(self.tokens), 1)

    def png(self) -> bytes:
        """Return an image as a PNG file, whose text ``imagegram`` says what is copied."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        assert self.image is not None
        buffer, info = io.BytesIO(), PngInfo()
        info.add_text("imagegram", json.dumps(self.provenance()))
        Image.fromarray(self.image).save(buffer, "PNG", pnginfo=info)
        return buffer.getvalue()

    def provenance(self) -> dict[str, Any]:
        """Return what is known of the answer besides itself."""
        asked = {} if self.caption is None else {"caption": self.caption}
        return asked | {
            "finish_reason": self.finish_reason,
            "num_tokens": len(self.tokens),
            "copied_share": round(self.copied_share, 6),
            "spans": [span.json() for span in self.spans],
        }

    def json(self) -> dict[str, Any]:
        """Return the answer as JSON has it, an image as base64 of a PNG."""
        if self.text is not None:
            shown: dict[str, Any] = {"text": self.text}
        else:
            shown = {"png_base64": base64.b64encode(self.png()).decode()}
        return shown | self.provenance()

    def pieces(self) -> Iterator[str]:
        """Yield the text token by token."""
        assert self.text is not None
        if self.offsets is None:
            yield self.text
            return
        bounds = self.offsets.tolist()
        for first, last in itertools.pairwise(bounds):
            if piece := self.text[first:last]:
                yield piece

    def _repr_html_(self) -> str:
        """Show the text with its copied spans coloured, or the image, in a notebook."""
        if self.text is not None:
            longest = max((span.length for span in self.spans), default=1)
            shown = highlighted(self.text, runs(self.spans), longest=longest)
        else:
            data = base64.b64encode(self.png()).decode()
            shown = Markup('<img alt="sample" src="data:image/png;base64,{}">').format(data)
        named = "".join(f"<li>{html.escape(described(span))}</li>" for span in self.spans)
        quoted = f"<blockquote style='white-space: pre-wrap'>{shown}</blockquote>"
        return f"<div class='imagegram'><style>{_STYLE}</style>{quoted}<ul>{named}</ul></div>"


@dataclass(frozen=True, kw_only=True)
class Written(Sequence[Answer]):
    """The answers to one request, sample 0 first.

    Attributes:
        answers: one a sample.
        prompt_tokens: tokens of the prompt that were read.
        dropped_tokens: first tokens of the prompt that did not fit, and were not read.
        seed: of the request.
    """

    answers: tuple[Answer, ...]
    prompt_tokens: int
    dropped_tokens: int
    seed: int

    def __len__(self) -> int:
        """Number of answers."""
        return len(self.answers)

    def __getitem__(self, place: Any) -> Any:
        """One answer, or a slice of them."""
        return self.answers[place]

    @property
    def text(self) -> str:
        """The first text; raises ConfigError for a run of images."""
        return self.texts[0]

    @property
    def texts(self) -> list[str]:
        """All texts; raises ConfigError for a run of images."""
        texts = [answer.text for answer in self.answers if answer.text is not None]
        if not texts:
            raise ConfigError("this run writes images, not texts; take .images")
        return texts

    @property
    def images(self) -> list[Images]:
        """All images; raises ConfigError for a run of texts."""
        images = [answer.image for answer in self.answers if answer.image is not None]
        if not images:
            raise ConfigError("this run writes texts, not images; take .texts")
        return images

    def json(self) -> dict[str, Any]:
        """Return all answers as JSON has them; a single text stands at the top as well."""
        answers = [answer.json() for answer in self.answers]
        first = {"text": answers[0]["text"]} if "text" in answers[0] else {}
        return first | {
            "answers": answers,
            "prompt_tokens": self.prompt_tokens,
            "dropped_tokens": self.dropped_tokens,
            "seed": self.seed,
        }

    def __repr__(self) -> str:
        """Return the first text and its sources, or what there is."""
        first = self.answers[0]
        if first.text is None:
            return f"{len(self)} images; .images, .answers[0].spans"
        return "\n".join([first.text, *(f"  {described(span)}" for span in first.spans)])

    def _repr_html_(self) -> str:
        """Show all answers in a notebook."""
        return "".join(answer._repr_html_() for answer in self.answers)
