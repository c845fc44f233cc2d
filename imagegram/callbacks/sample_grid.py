"""SampleGrid: sends the generated images or texts to every logger that accepts them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagegram.images import grids
from imagegram.images.modality import IMAGES
from imagegram.report.text_pages import list_of, page_of, plain_list
from imagegram.stages.decoding import captions_of_samples, decoded


@dataclass(frozen=True, kw_only=True)
class SampleGrid:
    """Logs ``generate/grid`` and ``generate/samples`` after the generate stage; texts: the latter.

    While a generator is trained, it logs ``train/samples``, a grid at every state that is kept.

    Attributes:
        max_images: single samples to log; the grid shows at most 64.
        max_training_images: samples of a grid while it is trained; 0: none.
    """

    max_images: int = 16
    max_training_images: int = 16

    def on_stage_start(self, run: Any, name: str) -> None:
        """Do nothing: there are no pictures yet."""

    def on_stage_end(self, run: Any, name: str, handle: Any) -> None:
        """Send the pictures, or the texts."""
        if name == "generate" and handle.texts is not None:
            texts = handle.texts[: self.max_images]
            run.mirror.page("generate/samples", page_of(list_of(texts)), plain_list(texts))
        if name != "generate" or handle.images is None:
            return
        images = np.asarray(handle.images[: self.max_images])
        names = [f"sample {i}" for i in range(len(images))]
        if captions := getattr(handle, "captions", None):
            names = [f"{name}: {text}" for name, text in zip(names, captions, strict=False)]
        run.mirror.images("generate/grid", grids.grid(handle.images[:64])[None], ["samples"])
        run.mirror.images("generate/samples", images, names)

    def on_training_state(self, run: Any, opens: Callable[[], Any], step: int) -> None:
        """Send the first samples of a generator as it is after a step."""
        exp = run.exp
        if not self.max_training_images:
            return
        layout = exp.tokenizer.spec.layout
        with opens() as model:
            ready = model.prepared(exp.sampler, run.context, layout, exp.condition)
            samples = np.arange(self.max_training_images, dtype=np.uint64)
            tokens_BT, _ = ready.generate(
                samples,
                sampler=exp.sampler,
                layout=layout,
                seed=exp.seed,
                condition=exp.condition,
                workers=run.context.workers,
            )
        if exp.tokenizer.modality != IMAGES:
            texts = exp.tokenizer.decode(tokens_BT)
            page = page_of(list_of(texts))
            run.mirror.page("train/samples", page, plain_list(texts), step=step)
            return
        captions = captions_of_samples(exp.condition, samples)
        shown = decoded(exp.tokenizer, tokens_BT, captions=captions, output_size=exp.output_size)
        images = np.stack(shown)
        run.mirror.images("train/samples", grids.grid(images)[None], [f"step {step}"], step=step)

    def on_run_end(self, run: Any) -> None:
        """Do nothing: the samples were sent after the generate stage."""
