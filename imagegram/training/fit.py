"""TrainTokenizer: a recipe and a corpus to a tokenizer with weights.

model.safetensors       averaged weights, float32; the sizes of the network in its metadata
history.jsonl           loss, learning rate and validation error, one JSON object a line
reconstructions.png     validation images, then their pictures from 1, 2, 4, ... tokens
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from imagegram.images import grids
from imagegram.layout import prefix_lengths
from imagegram.protocols import Corpus
from imagegram.stages.split import Split
from imagegram.store.fingerprint import identity
from imagegram.store.stage import Context
from imagegram.training.pixels import PackPixels, PixelSet
from imagegram.training.segments import HISTORY, TrainSegment, train_in_segments

if TYPE_CHECKING:
    from imagegram.store.manifest import Artifact
    from imagegram.tokenizers.ordered_fsq.tokenizer import OrderedFsqTokenizer

MODEL: Final = "model.safetensors"
PICTURE: Final = "reconstructions.png"
_NUM_SHOWN: Final = 12


@dataclass(frozen=True, kw_only=True)
class TrainTokenizer:
    """The stage that packs the images of a corpus, trains, and keeps the averaged weights.

    Attributes:
        tokenizer: the recipe.
        corpus: to train on; its held-out images validate, or, when none are held out, some of its
            training images.
    """

    kind: ClassVar[str] = "tokenizer"
    group: ClassVar[str] = "tokenize"
    VERSION: ClassVar[int] = 1
    PARTS: ClassVar[tuple[type, ...]] = (Split, PackPixels, TrainSegment)

    tokenizer: OrderedFsqTokenizer
    corpus: Corpus

    def identity(self) -> dict[str, Any]:
        """The recipe, the content of the shards and how some images are held out."""
        return {
            "class": type(self).__name__,
            "version": self.VERSION,
            "tokenizer": {
                "class": type(self.tokenizer).__name__,
                "version": self.tokenizer.VERSION,
                **self.tokenizer.recipe(),
            },
            "split": identity(Split(corpus=self.corpus)),
            "shards": [shard.identity() for shard in self.corpus.shards],
        }

    def run(self, out: Path, context: Context) -> dict[str, Any]:
        """Write the three files; see the module."""
        from imagegram.tokenizers.ordered_fsq.objective import OrderedReconstruction

        size = self.tokenizer.image_size
        split = context.make(Split(corpus=self.corpus))
        items = context.make(PackPixels(images=split.train, image_size=size))
        validation, part = items, "train"
        if split.holdout:
            validation, part = (
                context.make(PackPixels(images=split.holdout, image_size=size)),
                "holdout",
            )
        optimization = self.tokenizer.optimization
        whole = TrainSegment(
            objective=OrderedReconstruction(
                architecture=self.tokenizer.architecture,
                keep=self.tokenizer.keep,
                flips=self.tokenizer.flips,
            ),
            optimization=optimization,
            items=items,
            validation=validation,
            last_step=optimization.steps,
            hardware=self.tokenizer.hardware,
        )
        last = train_in_segments(
            context,
            whole,
            segment_steps=self.tokenizer.segment_steps,
            description=f"train {self.tokenizer.name}",
        )
        self._write_model(last.state, out / MODEL)
        shutil.copyfile(last.artifact.path / HISTORY, out / HISTORY)
        self._write_picture(out, validation)
        scores = {k: v for k, v in last.history[-1].items() if k.startswith("val/")}
        return {
            "tokenizer": self.tokenizer.name,
            "steps": optimization.steps,
            "num_images": len(items),
            "validated_on": part,
            **scores,
        }

    def _write_model(self, state: Path, path: Path) -> None:
        """The averaged weights, with the sizes of the network and the recipe beside them."""
        from safetensors.torch import save_file

        from imagegram.tokenizers.ordered_fsq.tokenizer import METADATA
        from imagegram.training.state import TrainingState

        sizes = dataclasses.asdict(self.tokenizer.architecture)
        metadata = {METADATA: json.dumps(sizes), "recipe": json.dumps(self.tokenizer.recipe())}
        save_file(TrainingState.read(state).average, path, metadata=metadata)

    def _write_picture(self, out: Path, validation: PixelSet) -> None:
        """Validation images in the first row, their pictures from more and more tokens below."""
        count = min(_NUM_SHOWN, len(validation))
        originals = validation.gather(np.arange(count) * len(validation) // count)
        trained = self._with_weights(out).encoder
        tokens = trained.encode_batch(originals)
        lengths = prefix_lengths(trained.num_registers)
        rows = [originals, *(trained.decode(tokens[:, :length]) for length in lengths)]
        scale = grids.scale_for(self.tokenizer.image_size, target=64)
        sheet = grids.grid(np.concatenate(rows), columns=count, scale=scale)
        grids.save_png(out / PICTURE, sheet)

    def _with_weights(self, folder: Path) -> OrderedFsqTokenizer:
        return replace(self.tokenizer, checkpoint=str(folder / MODEL))

    def load(self, artifact: Artifact) -> OrderedFsqTokenizer:
        """The tokenizer with its weights."""
        return self._with_weights(artifact.path)
