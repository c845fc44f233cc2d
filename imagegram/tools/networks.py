"""A trained network as a folder of the Hugging Face Hub: found by its weights, told in a card.

What the card says is read from the file, from the manifest beside it, and from the run, if there is
one: nothing is said that was not recorded. Commands and places are left out, as folders have names
of people.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from omegaconf import OmegaConf

from imagegram.errors import ConfigError, StageError
from imagegram.finished_run import FinishedRun
from imagegram.models.checkpoints import read_tensors, shapes_of
from imagegram.store.manifest import MANIFEST, Manifest
from imagegram.store.parts import copy_file
from imagegram.store.weights import CLASSES, MODEL, Source

if TYPE_CHECKING:
    from imagegram.models.hub import HubNetwork

#: Stage of a run that makes a part.
STAGES: Final = {"tokenizer": "fit_tokenizer", "generator": "fit"}
#: Sizes of a generator that are fields of its configuration, which a checkpoint has to meet.
_FIELDS: Final = (
    *("width", "depth", "num_heads", "hidden", "heads", "head_depth", "context"),
    *("chunk_size", "local_depth", "aesthetic_score"),
)
#: Families of networks that are not the first of their generator.
_BACKBONES: Final = ("rar", "chunk", "local", "bert", "uvit", "mmdit")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network on disk.

    Attributes:
        weights: its file.
        manifest: of the artifact that the file is of; None: it was copied.
        run: the run that trained it, or found it trained; None: not known.
    """

    weights: Path
    manifest: Manifest | None
    run: FinishedRun | None = None

    @classmethod
    def at(cls, weights: str) -> Trained:
        """Find the weights in a file or a folder.

        Raises:
            ConfigError: where there are none.
        """
        path = Source.of(weights, setting="weights").path
        if path is None:
            raise ConfigError(
                f"weights={weights}: there is no such file or folder; type "
                f"weights=outputs/artifacts/KIND/DIGEST/{MODEL}"
            )
        return cls(weights=path, manifest=_manifest(path.parent))

    @classmethod
    def of(cls, run: FinishedRun, part: str) -> Trained:
        """Find the tokenizer or the generator of a run.

        Raises:
            ConfigError: when the run trained none.
        """
        record = run.summary["stages"].get(STAGES[part])
        weights = Path(record["path"]) / MODEL if record else None
        if weights is None or not weights.is_file():
            raise ConfigError(
                f"{run.folder}: the run has no trained {part}"
                + (f", as {weights} is not there" if weights else "")
                + f"; give a run that trains one, or weights=FOLDER/{MODEL}"
            )
        return cls(weights=weights, manifest=_manifest(weights.parent), run=run)

    def export(self, out: Path, *, page: str) -> HubNetwork:
        """Write the folder; return the network.

        Args:
            out: a folder that is not there yet.
            page: how the card asks for it: ``OWNER/NAME``, or ``FOLDER``.

        Raises:
            ConfigError: for weights that no training wrote, and a folder that is there.
            StageError: when it cannot be written; nothing half-written is left.
        """
        if out.exists():
            raise ConfigError(f"{out} exists already; type another out=FOLDER, or remove it")
        network = read_network(self.weights)
        partial = out.with_name(f"{out.name}.partial")
        try:
            network.save_pretrained(partial, model_card_kwargs=self.card(network, page=page))
            # A tokenizer is known by the bytes of its weights.
            copy_file(self.weights, partial / MODEL)
            if (labels := self.weights.with_name(CLASSES)).is_file():
                copy_file(labels, partial / CLASSES)
            partial.rename(out)
        except OSError as error:
            raise StageError(
                f"cannot write {out}: {error}; give an out= on a disk with "
                f"{self.weights.stat().st_size / 1e9:.1f} GB of space that you may write"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return network

    @property
    def name(self) -> str:
        """Name of the component, as in its configuration; of a copied file that of the family."""
        return "" if self.manifest is None else str(self.manifest.facts.get("name", ""))

    def card(self, network: HubNetwork, *, page: str) -> dict[str, Any]:
        """Return what the card of the network says."""
        family, part = network.FAMILY, part_of(network)
        count = sum(parameter.numel() for parameter in network.parameters())
        lines = [f"A {part} of imagegram, {type(network).__name__} of {count:,} parameters."]
        lines += [*self._run_lines(part), *self._training_lines()]
        return {
            "title": self.name or family,
            "lines": lines,
            "usage": "\n".join(self._usage(network, page)),
        }

    def _run_lines(self, part: str) -> Iterator[str]:
        if self.run is None:
            return
        config = OmegaConf.load(self.run.folder / ".hydra" / "config.yaml")
        node: Any = config.train_corpus if part == "tokenizer" else None
        corpus: Any = node or config.corpus
        yield f"Corpus: `{corpus.name}`."
        if part == "generator":
            yield f"Its tokens are those of the tokenizer `{config.tokenizer.name}`."

    def _training_lines(self) -> Iterator[str]:
        if self.manifest is None:
            yield "How it was trained was not beside the weights."
            return
        facts, payload = self.manifest.facts, self.manifest.payload
        how: Mapping[str, Any] = payload.get("optimization", {})
        if how:
            yield (
                f"Trained for {facts['steps']:,} steps of {how['batch_size']:,} items, from "
                f"{facts['num_items']:,} training items; learning rate {how['learning_rate']:g}, "
                f"seed {how['seed']}."
            )
        else:
            yield f"Taken over from the file `{facts.get('file', '?')}`, not trained here."
        if "num_classes" in facts:
            yield f"Labels: {facts['num_classes']:,}, in `{CLASSES}` where they are known."
        where = {"holdout": "held-out items", "train": "training items"}
        scores = [f"{k[4:]} {v:.5g}" for k, v in facts.items() if k.startswith("val/")]
        if scores:
            yield f"On {where[facts['validated_on']]}: {', '.join(scores)}."
        made = self.manifest.made_by
        yield (
            f"imagegram {made['imagegram']}, artifact `{self.manifest.kind}/"
            f"{self.manifest.digest}`, {self.manifest.created_at[:10]}."
        )

    def _usage(self, network: HubNetwork, page: str) -> Iterator[str]:
        part, cls = part_of(network), type(network)
        words = [f"{part}={self.name or 'NAME'}", f"{part}.checkpoint={page}"]
        if part == "generator":
            sizes = network.sizes
            words += [f"generator.backbone={cls.FAMILY}"] if cls.FAMILY in _BACKBONES else []
            fields = {name: sizes[name] for name in _FIELDS if name in sizes}
            words += [
                f"generator.{name}={'null' if value is None else value}"
                for name, value in fields.items()
            ]
            data = {} if self.manifest is None else self.manifest.payload.get("data", {})
            words += [f"generator.labels={data['labels']}"] if data.get("labels") else []
        yield f"python -m imagegram.run {' '.join(words)}"
        yield ""
        yield f"from {cls.__module__} import {cls.__name__}"
        yield f'network = {cls.__name__}.from_pretrained("{page}")'


def part_of(network: HubNetwork) -> str:
    """Return ``tokenizer`` or ``generator``."""
    return type(network).__module__.split(".")[1].removesuffix("s")


def read_network(weights: Path) -> HubNetwork:
    """Build the network that a training wrote the weights of, whatever its family.

    Raises:
        ConfigError: for a file without the sizes of a network, or of one that is not known.
    """
    import torch

    tensors = read_tensors(weights, setting="weights")
    shapes = shapes_of(tensors)
    for sizes in _headers(weights):
        for cls in _families():
            try:
                with torch.device("meta"):
                    found = shapes_of(cls(**sizes).state_dict())
            except TypeError:  # sizes of another family
                continue
            if found == shapes:
                with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
                    network = cls(**sizes)
                network.load_state_dict(tensors)
                return network.eval()
    raise ConfigError(
        f"weights={weights}: the file does not say of which network it is, as a {MODEL} does that "
        "a training wrote (in outputs/artifacts/tokenizer or generator); those of others are "
        "taken over by a run with tokenizer.checkpoint= or generator.checkpoint= first"
    )


def _headers(weights: Path) -> Iterator[dict[str, Any]]:
    """Yield what may be sizes, from the header of a safetensors file."""
    from safetensors import safe_open

    if weights.suffix != ".safetensors":
        return
    with safe_open(weights, framework="np") as file:
        entries = (file.metadata() or {}).values()
    for entry in entries:
        try:
            sizes = json.loads(entry)
        except ValueError:
            continue
        if isinstance(sizes, dict):
            yield sizes


def _families() -> tuple[type[HubNetwork], ...]:
    from imagegram.generators.autoregressive.chunked import ChunkTransformer
    from imagegram.generators.autoregressive.network import Autoregressive
    from imagegram.generators.autoregressive.rar import Rar
    from imagegram.generators.maskgen.mmdit import Mmdit
    from imagegram.generators.maskgen.network import MaskGen
    from imagegram.generators.maskgit.backbones import Bert, UVit
    from imagegram.generators.maskgit.network import LocalMaskGit, MaskGit
    from imagegram.generators.planner.network import Planner
    from imagegram.tokenizers.conv_vq.model import ConvVq
    from imagegram.tokenizers.ordered_fsq.model import OrderedFsq
    from imagegram.tokenizers.ta_titok.model import TaTiTok
    from imagegram.tokenizers.titok.model import TiTok

    causal = (Autoregressive, ChunkTransformer, Rar, Planner)
    masked = (MaskGit, LocalMaskGit, MaskGen, Mmdit, Bert, UVit)
    return (OrderedFsq, ConvVq, TiTok, TaTiTok, *causal, *masked)


def _manifest(folder: Path) -> Manifest | None:
    return Manifest.read(folder) if (folder / MANIFEST).is_file() else None
