"""The renderer of a tokenizer of sentences: what it is, how it is trained, how it writes.

    python -m imagegram.run modality=text tokenizer=sentence_rvq tokenizer.decoder=renderer

A language model over BPE tokens reads the codes of a sentence and the text before it, and writes
the sentence. Both, merges and network, are trained by the run, after the codebooks.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from imagegram.errors import ConfigError, did_you_mean
from imagegram.models.checkpoints import write_weights
from imagegram.protocols import Corpus
from imagegram.samplers.truncation import Truncation
from imagegram.store.fingerprint import NOT_IDENTITY, identity
from imagegram.store.hashing import file_stamp
from imagegram.store.stage import Ready, Stage
from imagegram.store.weights import MODEL
from imagegram.tokenizers.bpe import MERGES, BpeTokenizer
from imagegram.tokenizers.renderer.codes import codebooks_sha256
from imagegram.tokenizers.renderer.objective import Rendering
from imagegram.tokenizers.renderer.rerank import RERANKS
from imagegram.tokenizers.renderer.sizes import NETWORK, RendererSizes, header_of, read_header
from imagegram.tokenizers.sentence_rvq.decoders import SentenceCodes, SentenceDecoder
from imagegram.tokenizers.sentence_rvq.quantizers import Codes
from imagegram.tokenizers.weights import weights_sha256
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions

if TYPE_CHECKING:
    from imagegram.tokenizers.renderer.network import RendererNetwork
    from imagegram.tokenizers.renderer.rendering import Writer
    from imagegram.training.state import TrainingState

#: Rows that were written, by renderer and codes, and how many are remembered.
_WRITTEN: Final[dict[tuple[str, bytes], list[str]]] = {}
_MOST_WRITTEN: Final = 1 << 14
#: Fields that decide how a trained renderer writes.
_WRITING: Final = ("temperature", "top_p", "guidance", "num_candidates", "rerank", "seed")


@dataclass(frozen=True, kw_only=True)
class Renderer(SentenceDecoder):
    """A language model that writes the sentences of codes.

    Attributes:
        name: of the file.
        conditioning: how it reads codes: ``soft``, their vectors, projected; ``special``, one new
            word a code; ``text``, as ``c0=17 c1=4`` in BPE tokens; ``none``, not at all.
        broadcast: of ``soft``: every token of a sentence also reads the sum of the vectors of its
            codes, so that it need not look for them.
        context_tokens: BPE tokens of the text before a sentence that it reads; 0: none.
        sentence_tokens: most BPE tokens of a sentence; longer ones of the corpus are learned up to
            there.
        code_dropout: share of the training sentences that are read without some of their codes, so
            that it can do without, and guidance has something to compare with.
        width, depth, num_heads: sizes of the network.
        bpe: tokenizer of the texts.
        optimization: steps, rates, seed of its training.
        trainer: where it is trained.
        temperature, top_p: how tokens are drawn; see :class:`Truncation`.
        guidance: how much of what the codes change is added to what is written without them; 1:
            as learned, above: the codes are heard more. Takes twice the time.
        num_candidates: sentences that are written for each one that is kept.
        rerank: how that one is chosen: ``codes``, most of its own codes are those that were asked
            for; ``cosine``, its vector is nearest to theirs; ``none``, the most probable one.
        seed: of the random numbers of its sentences.
        device: where it writes (``cpu``, ``cuda``).
        checkpoint: folder of a trained renderer; None: train.
        hash_cache: folder that remembers the checkpoint's sha256.
    """

    VERSION: ClassVar[int] = 1

    name: str = field(default="renderer", metadata=NOT_IDENTITY)
    conditioning: str = "soft"
    broadcast: bool = True
    context_tokens: int = 16
    sentence_tokens: int = 64
    code_dropout: float = 0.1
    width: int = 128
    depth: int = 2
    num_heads: int = 2
    bpe: BpeTokenizer = field(default_factory=BpeTokenizer)
    optimization: Optimization
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    temperature: float = 0.7
    top_p: float = 0.95
    guidance: float = 1.0
    num_candidates: int = 1
    rerank: str = "codes"
    seed: int = 0
    device: str = field(default="cpu", metadata=NOT_IDENTITY)
    checkpoint: str | None = field(default=None, metadata=NOT_IDENTITY)
    hash_cache: str | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        """Take the sizes of a checkpoint; refuse impossible settings."""
        prefix = "tokenizer.decoder."
        if self.checkpoint is not None:
            sizes, _ = read_header(self._folder / MODEL)
            for name in ("conditioning", "broadcast", "context_tokens", "sentence_tokens"):
                object.__setattr__(self, name, getattr(sizes, name))
            for name in ("width", "depth", "num_heads"):
                object.__setattr__(self, name, getattr(sizes, name))
            bpe = replace(self.bpe, checkpoint=str(self._folder / MERGES))
            object.__setattr__(self, "bpe", bpe)
        self.sizes(num_codebooks=1, codebook_size=1, dim=1).check()
        effective = self.trainer.applied_to(self.optimization, prefix=f"{prefix}optimization.")
        object.__setattr__(self, "optimization", effective)
        if not 0.0 <= self.code_dropout < 1.0:
            raise ConfigError(
                f"{prefix}code_dropout={self.code_dropout} must be at least 0 and below 1; type "
                f"{prefix}code_dropout=0.1"
            )
        if self.rerank not in RERANKS:
            raise ConfigError(
                f"{prefix}rerank={self.rerank!r}: {did_you_mean(self.rerank, RERANKS)}"
            )
        if self.num_candidates < 1:
            raise ConfigError(
                f"{prefix}num_candidates={self.num_candidates} must be at least 1; type "
                f"{prefix}num_candidates=1"
            )
        if not 0.0 <= self.guidance < math.inf:
            raise ConfigError(
                f"{prefix}guidance={self.guidance} must be 0 or a positive number; type "
                f"{prefix}guidance=1"
            )
        _ = self.cut

    @property
    def cut(self) -> Truncation:
        """Temperature, and what is cut away of the next token's distribution.

        Raises:
            ConfigError: for impossible numbers.
        """
        try:
            return Truncation(temperature=self.temperature, top_p=self.top_p)
        except ConfigError as error:
            words = str(error).replace("sampler.", "tokenizer.decoder.")
            raise ConfigError(words) from error

    @property
    def _folder(self) -> Path:
        return Path(str(self.checkpoint))

    def identity(self) -> dict[str, Any]:
        """Return the identity: weights, or the recipe of their training, and how it writes."""
        kind = {"class": type(self).__name__, "version": self.VERSION}
        writing = {name: getattr(self, name) for name in _WRITING}
        if self.checkpoint is None:
            return kind | writing | {"recipe": self.recipe()}
        weights = weights_sha256(self._folder / MODEL, memory=self.hash_cache)
        return kind | writing | {"weights": weights, "bpe": identity(self.bpe)}

    def recipe(self) -> dict[str, Any]:
        """Return everything that decides the weights but codes and texts."""
        sizes = self.sizes(num_codebooks=1, codebook_size=1, dim=1).as_dict()
        return {
            "sizes": sizes,
            "code_dropout": self.code_dropout,
            "bpe": self.bpe.recipe(),
            "optimization": identity(self.optimization),
        }

    def sizes(self, *, num_codebooks: int, codebook_size: int, dim: int) -> RendererSizes:
        """Return the sizes of the network for some codebooks."""
        return RendererSizes(
            vocab_size=self.bpe.vocab_size,
            num_codebooks=num_codebooks,
            codebook_size=codebook_size,
            dim=dim,
            conditioning=self.conditioning,
            broadcast=self.broadcast,
            context_tokens=self.context_tokens,
            sentence_tokens=self.sentence_tokens,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
        )

    def objective(self, codes: SentenceCodes, sizes: RendererSizes) -> Rendering:
        """Return what the network learns."""
        return Rendering(sizes=sizes, codes=codes, code_dropout=self.code_dropout)

    def write_trained(
        self, out: Path, state: TrainingState, *, codes: SentenceCodes, sizes: RendererSizes
    ) -> None:
        """Write averaged weights and merges into a folder, which is then a checkpoint."""
        header = header_of(sizes, codebooks_sha256(codes.codebooks))
        write_weights(out / MODEL, state.averages[NETWORK], header)
        shutil.copyfile(str(self.bpe.checkpoint), out / MERGES)

    # -------------------------------------------------------------------------------- writing

    def fit(
        self, recipe: Any, corpus: Corpus, codes: Stage[Any] | Ready[Any]
    ) -> Stage[Any] | Ready[Any]:
        """Return the stage that trains it, after ``codes``; ``codes`` where it has weights."""
        from imagegram.tokenizers.renderer.fit import TrainRenderer

        return codes if self.checkpoint else TrainRenderer.of(self, recipe, corpus, codes)

    def identity_in(self, codes: SentenceCodes) -> Any:
        """Return all that decides the texts besides the codebooks; candidates are embedded."""
        return self.identity()

    def check_machine(self) -> None:
        """Refuse a device that is not there."""
        from imagegram.encoders.preprocessing import require_device

        require_device(self.device, setting="tokenizer.decoder.device")

    def check_codes(self, codes: SentenceCodes) -> None:
        """Refuse codes of other codebooks than those that it was trained on.

        Raises:
            ConfigError: saying how they differ.
        """
        sizes, trained_on = read_header(self._folder / MODEL)
        own = (sizes.num_codebooks, sizes.codebook_size, sizes.dim)
        if own != codes.codebooks.shape:
            raise ConfigError(
                f"tokenizer.decoder.checkpoint={self.checkpoint} was trained on codebooks of "
                f"(codebooks, codes, dimensions) {own}, and these are {codes.codebooks.shape}; "
                "give the codebooks beside it, or type tokenizer.decoder.checkpoint=null to train"
            )
        if trained_on != codebooks_sha256(codes.codebooks):
            raise ConfigError(
                f"tokenizer.decoder.checkpoint={self.checkpoint} was trained on other codebooks "
                "of this size, whose codes say something else; give the codebooks beside it, or "
                "type tokenizer.decoder.checkpoint=null to train"
            )

    def write(self, rows: Sequence[Codes], codes: SentenceCodes) -> list[list[str]]:
        """Return the sentences of rows; see :meth:`Writer.write`.

        A row is written once: metrics and reports ask for the same ones again and again.
        """
        how = repr((self.identity(), codebooks_sha256(codes.codebooks), self._judge(codes)))
        keys = [(how, np.ascontiguousarray(row, dtype="<i4").tobytes()) for row in rows]
        known = {key: row for key in keys if (row := _WRITTEN.get(key)) is not None}
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        if new:
            known |= zip(new, self.writer(codes).write(list(new.values())), strict=True)
            if len(_WRITTEN) > _MOST_WRITTEN:
                _WRITTEN.clear()
            _WRITTEN.update((key, known[key]) for key in new)
        return [list(known[key]) for key in keys]

    def _judge(self, codes: SentenceCodes) -> Any:
        """Return what identifies the encoder that candidates are judged by."""
        return identity(getattr(codes, "embedder", None)) if self.num_candidates > 1 else None

    def measured(
        self,
        codes: SentenceCodes,
        *,
        codes_NK: NDArray[np.int64],
        texts: Sequence[str] | None,
        contexts: Sequence[Sequence[str]],
        num_candidates: int,
        seed: int,
    ) -> dict[str, NDArray[np.float64]]:
        """Return how well it writes some sentences; see ``quality.py``.

        Args:
            codes: tokenizer of the codes.
            codes_NK: (N, K) codes of the sentences.
            texts: the sentences; None: codes alone are known, and no bits are measured.
            contexts: sentences before each of them.
            num_candidates: sentences that are written for each.
            seed: of the random numbers.
        """
        from imagegram.tokenizers.renderer.quality import sentence_bits, what_is_said

        writer = replace(self, num_candidates=num_candidates).writer(codes)
        said = what_is_said(writer, codes_NK, contexts, seed=seed)
        return said if texts is None else said | sentence_bits(writer, codes_NK, texts, contexts)

    def writer(self, codes: SentenceCodes) -> Writer:
        """Return what writes sentences.

        Raises:
            ConfigError: when there are no weights yet, or they are of other codebooks.
        """
        from imagegram.tokenizers.renderer.drawing import Drawing
        from imagegram.tokenizers.renderer.items import Reader
        from imagegram.tokenizers.renderer.rendering import Writer

        network = self.network(codes)
        how = Drawing(cut=self.cut, guidance=self.guidance, vocab_size=self.bpe.vocab_size)
        return Writer(
            network=network,
            reader=Reader(network.sizes, self.bpe),
            bpe=self.bpe,
            codes=codes,
            how=how,
            num_candidates=self.num_candidates,
            rerank=self.rerank,
            seed=self.seed,
        )

    def network(self, codes: SentenceCodes) -> RendererNetwork:
        """Return the network with its weights, loaded once per process.

        Raises:
            ConfigError: when there are no weights yet, or they are of other codebooks.
        """
        if self.checkpoint is None:
            raise ConfigError(
                "the renderer has no weights yet: a run trains them first; from Python, make the "
                "stage that tokenizer.fit(corpus) gives, or type "
                "tokenizer.decoder.checkpoint=FOLDER"
            )
        self.check_codes(codes)
        path = self._folder / MODEL
        return _load(path, file_stamp(path), self.device)


@functools.lru_cache(maxsize=2)
def _load(path: Path, stamp: str, device: str) -> RendererNetwork:
    """Load the weights; ``stamp`` makes a file that was written anew another one."""
    import torch
    from safetensors.torch import load_file

    from imagegram.encoders.preprocessing import require_device
    from imagegram.tokenizers.renderer.network import RendererNetwork

    require_device(device, setting="tokenizer.decoder.device")
    sizes, _ = read_header(path)
    with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
        network = RendererNetwork(sizes)
    network.load_state_dict(load_file(path))
    return network.eval().to(device)
