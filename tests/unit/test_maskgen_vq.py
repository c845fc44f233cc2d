"""The published MaskGen-VQ: names, sizes, logits and samples of its authors; files taken over.

``recorded/maskgen.json`` holds names and shapes of a small ``MaskGen_VQ`` of
bytedance/1d-tokenizer (942a96f), and what it returns and draws when :func:`filled` has filled it
and captions are read as :func:`said`; ``recorded/record_maskgen.py`` wrote it.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagegram.conditions.captions import CaptionCondition, GivenCaptions
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.generators.maskgen.generator import MaskGenGenerator
from imagegram.generators.maskgen.mmdit import Mmdit
from imagegram.generators.maskgen.network import Asked
from imagegram.generators.maskgen.sizes import MmditSizes, make, make_fresh
from imagegram.generators.maskgit.sampling import sample_chunks
from imagegram.models.cores import one_core
from imagegram.run import run_experiment
from imagegram.samplers.guidance import Guidance
from imagegram.samplers.masked import MaskedSampler
from imagegram.stages.captions import embed_asked
from imagegram.store.fingerprint import identity
from imagegram.tools import export
from imagegram.training.captioned_tokens import CaptionedTokens
from imagegram.training.captions import dropped, parted
from imagegram.training.options import TrainerOptions
from tests.captioned import NAMES, text_encoder
from tests.conftest import compose
from tests.e2e.test_caption_runs import words
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard
from tests.toy_training import optimization

PATH = Path(__file__).parents[1] / "recorded/maskgen.json"
RECORDED = json.loads(PATH.read_text()) if PATH.is_file() else {}
CAPTION = CaptionCondition(name="caption", key="label")
LAYOUT: Any = dataclasses.make_dataclass("Layout", ["num_tokens"])(3)
ROWS = {name: (place, place + 1, place + 2) for place, name in enumerate(NAMES)}
#: FakeTokens have 256 ids, 3 a document; the encoder of tests/captioned.py 16 numbers.
SIZES = {"vocab_size": 256, "num_tokens": 3, "width": 16, "depth": 2, "num_heads": 2}
#: Of the published L.
LARGE = {"width": 1024, "depth": 16, "num_heads": 16}


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    with one_core():
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEmbedder:
    plain = text_encoder(tmp_path_factory.mktemp("encoder"), max_tokens=5)
    return dataclasses.replace(plain, padded=True, penultimate=True)


def filled(name: str, shape: list[int]) -> Tensor:
    """Numbers that follow from a name."""
    size = int(np.prod(shape))
    values = 0.4 * np.sin(0.7 * np.arange(size) + zlib.crc32(name.encode()) % 1000)
    return torch.from_numpy(values.reshape(shape).astype(np.float32))


def said(text: str, *, dim: int) -> Tensor:
    """What a text encoder might say of a text: a vector, then four states."""
    return filled(f"text {text}", [5, dim])


def published(kind: str = "with_score") -> dict[str, Tensor]:
    """Weights of the small network under their published names, the tied head among them."""
    found = {name: filled(name, shape) for name, shape in RECORDED[kind]["shapes"].items()}
    found["lm_head.weight"] = found["embeddings.weight"].clone()
    return found


def recorded_network(kind: str = "with_score") -> Any:
    score = RECORDED["score"] if kind == "with_score" else None
    network = make(MmditSizes(**RECORDED["sizes"], aesthetic_score=score)).eval()
    weights = published(kind)
    del weights["lm_head.weight"]
    network.load_state_dict(weights, strict=True)
    return network


@pytest.mark.parametrize("preset", ["maskgen_vq_l", "maskgen_vq_xl"])
def test_presets_have_the_published_number_of_weights(preset: str) -> None:
    found = compose(f"generator={preset}").generator
    sizes = {name: found[name] for name in ("width", "depth", "num_heads", "aesthetic_score")}
    with torch.device("meta"):
        network = make(MmditSizes(vocab_size=8192, num_tokens=128, text_dim=768, **sizes))
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == RECORDED["published"][preset]
    millions = {"maskgen_vq_l": 604.3, "maskgen_vq_xl": 1176.6}
    assert round(count / 1e6, 1) == millions[preset]


@pytest.mark.parametrize("kind", ["with_score", "without_score"])
def test_published_weights_give_the_published_logits(kind: str) -> None:
    network, found = recorded_network(kind), RECORDED[kind]
    states = torch.stack([said(text, dim=5) for text in RECORDED["captions"]])
    with torch.no_grad():
        logits = network(torch.tensor(found["ids"]), states)
    torch.testing.assert_close(logits, torch.tensor(found["logits"]), rtol=0, atol=1e-5)
    assert logits.std() > 0.1


def test_without_noise_samples_are_the_published_ones() -> None:
    """The authors' ``generate``, at temperature 0, four steps and a ``guidance_scale`` of 12."""
    texts = [*RECORDED["captions"], ""]
    states = torch.stack([said(text, dim=5) for text in texts])
    asked = Asked(recorded_network(), states, torch.ones(4, 5, dtype=torch.bool))
    how = MaskedSampler(
        name="greedy",
        steps=4,
        temperature=0.0,
        softmax_temperature=(1.3, 0.5),
        guidance=Guidance(scale=13.0, schedule="added_cosine"),
    )
    samples, numbers = np.arange(3, dtype=np.uint64), np.arange(3)
    (made,) = sample_chunks(asked, [samples], [numbers], sampler=how, seed=0)
    assert made["tokens"].tolist() == RECORDED["with_score"]["greedy"]
    assert len(np.unique(made["tokens"])) > 2


def test_the_preset_of_the_sampler_is_the_published_setting() -> None:
    own = compose("generator=maskgen_vq_l", "sampler=maskgen_vq").sampler
    assert (own.steps, own.temperature, own.schedule) == (16, 2.0, "arccos")
    guidance = Guidance(**{name: own.guidance[name] for name in ("scale", "schedule", "power")})
    added = [11 * (1 - np.cos(np.pi * (step + 1) / 16)) / 2 + 1 for step in range(16)]
    np.testing.assert_allclose([guidance.at(step, 16) for step in range(16)], np.add(added, 1))


def generator(embedder: SentenceEmbedder, **fields: Any) -> MaskGenGenerator:
    sizes = {"width": 16, "depth": 2, "num_heads": 2, "label_smoothing": 0.0, "captions": "label"}
    known = {"backbone": "mmdit", "aesthetic_score": 6.5, "trainer": TrainerOptions()}
    how = optimization(steps=250, learning_rate=1e-2, gradient_clip_val=1.0)
    given = {"optimization": how, "embedder": embedder, **sizes, **known, **fields}
    return MaskGenGenerator(**given)


def tokens_of(root: Path, names: tuple[str | None, ...] = NAMES) -> Any:
    rows = tuple(ROWS[name or NAMES[0]] for name in names)
    shard = FakeTokenShard(rows=rows, labels=names, length=3)
    return context(root).make(FakeTokens(parts=(shard,)))


def file_of(path: Path, *, head: bool, **sizes: Any) -> Path:
    """Random weights under their published names."""
    how = MmditSizes(**{**SIZES, "text_dim": 16, "aesthetic_score": 6.5, **sizes})
    weights = {name: t.clone() for name, t in make_fresh(how, seed=3).state_dict().items()}
    for name, tensor in weights.items():  # modulations are zero at first
        weights[name] = tensor + 0.1 * filled(name, list(tensor.shape))
    if head:
        weights["lm_head.weight"] = weights["embeddings.weight"].clone()
    return written(path, weights)


def written(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


def made_of(root: Path, own: MaskGenGenerator) -> Any:
    own.check_machine()
    return context(root).make(own.fit(tokens_of(root), index=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(("suffix", "head"), [(".bin", True), (".safetensors", False)])
def test_a_published_file_is_taken_over(
    embedder: SentenceEmbedder, tmp_path: Path, suffix: str, head: bool
) -> None:
    path = file_of(tmp_path / f"maskgen{suffix}", head=head)
    model = made_of(tmp_path, generator(embedder, checkpoint=str(path)))
    expected = load_file(path) if not head else torch.load(path, weights_only=True)
    expected.pop("lm_head.weight", None)
    state = model.network.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    samples = np.arange(5, dtype=np.uint64)
    how: dict[str, Any] = {"layout": LAYOUT, "seed": 0}
    how["sampler"] = MaskedSampler(name="m", guidance=Guidance(scale=3.0, schedule="added_cosine"))
    given = GivenCaptions(texts=("red", "blue"), key="label")
    ids, _ = model.generate(samples, condition=given, **how)
    again, _ = model.generate(samples[[3, 1]], condition=given, **how)
    np.testing.assert_array_equal(again, ids[[3, 1]])


def test_samples_of_weights_follow_from_text_encoder_and_score(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "maskgen.bin", head=True)
    tokens = tokens_of(tmp_path)
    other = dataclasses.replace(embedder, max_tokens=6)
    found = [
        json.dumps(identity(generator(reads, checkpoint=str(path), **more).fit(tokens, index=None)))  # type: ignore[arg-type]
        for reads, more in (
            (embedder, {}),
            (embedder, {"optimization": optimization(steps=3)}),
            (other, {}),
            (embedder, {"aesthetic_score": 5.0}),
        )
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def refused(root: Path, own: MaskGenGenerator, said_of_it: str) -> None:
    with pytest.raises(ConfigError, match=said_of_it) as error:
        made_of(root, own)
    assert "\n" not in str(error.value)
    assert list((root / "artifacts").glob("generator/[!.]*")) == []


def test_weights_of_another_network_are_refused(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    whole = torch.load(file_of(tmp_path / "whole.bin", head=True), weights_only=True)
    untied = {**whole, "lm_head.weight": whole["lm_head.weight"] + 1}
    kept = {name: t for name, t in whole.items() if name != "blocks.1.ff.net.2.bias"}
    for tensors, said_of_it in (
        (untied, r"lm_head\.weight is not embeddings\.weight"),
        (kept, r"blocks\.1\.ff\.net\.2\.bias is missing"),
        ({**whole, "more": torch.zeros(1)}, "more is left over"),
        ({"mid_block.attn.qkv.weight": torch.zeros(1)}, "MaskGen-VQ were asked for, .* UViT"),
        ({"decoder_blocks.0.attn.add_q_proj.weight": torch.zeros(1)}, "weights of MaskGen-KL"),
        ({"text.project.weight": torch.zeros(1)}, "weights of maskgen of this package"),
    ):
        path = written(tmp_path / "other.bin", tensors)
        refused(tmp_path, generator(embedder, checkpoint=str(path)), said_of_it)
    plain = dataclasses.replace(embedder, padded=False, penultimate=False)
    own = {"backbone": "transformer", "aesthetic_score": None}
    whole_path = str(tmp_path / "whole.bin")
    words_of_it = "maskgen of this package were asked .* MaskGen-VQ"
    refused(tmp_path, generator(plain, checkpoint=whole_path, **own), words_of_it)


def test_weights_of_other_sizes_are_refused(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    whole = str(file_of(tmp_path / "whole.bin", head=True))
    how: dict[str, Any]
    for sizes, how, said_of_it in (
        ({"width": 8}, {}, r"type generator\.width=8$"),
        ({"depth": 1}, {}, r"type generator\.depth=1$"),
        ({"vocab_size": 9, "num_tokens": 2}, {}, r"write 2 tokens of 9 ids, .* makes 3 of 256"),
        ({"text_dim": 7}, {}, r"vectors of 7 numbers, .* gives 16; .* CLIP ViT-L/14-336"),
        ({"aesthetic_score": None}, {}, r"read no aesthetic score, .*aesthetic_score=null$"),
        ({}, {"aesthetic_score": None}, r"read an aesthetic score, .*aesthetic_score=6\.5$"),
    ):
        path = str(file_of(tmp_path / "other.bin", head=False, **sizes)) if sizes else whole
        refused(tmp_path, generator(embedder, checkpoint=path, **how), said_of_it)
    large = MmditSizes(**{**SIZES, "text_dim": 16, "aesthetic_score": 6.5, **LARGE})  # type: ignore[arg-type]
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in make(large).state_dict().items()}
    tensors = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    path = str(written(tmp_path / "large.bin", tensors))
    own = generator(embedder, checkpoint=path, num_heads=16)
    refused(tmp_path, own, r"width 1024, depth 16, .* type generator=maskgen_vq_l or")


def test_files_that_cannot_be_read_are_refused(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    path = file_of(tmp_path / "maskgen.bin", head=True)
    own = generator(embedder, checkpoint=str(path))
    path.write_bytes(path.read_bytes()[:500])
    refused(tmp_path, own, "cut or damaged")
    path.write_bytes(pickle.dumps({"embeddings.weight": Path("x")}, protocol=2))
    refused(tmp_path, own, "could run programs")
    path.unlink()
    with pytest.raises(ConfigError, match="there is no such file"):
        generator(embedder, checkpoint=str(path))


def test_settings_that_contradict_are_refused(embedder: SentenceEmbedder) -> None:
    plain = dataclasses.replace(embedder, penultimate=False)
    own = {"backbone": "transformer", "aesthetic_score": None}
    for reads, fields, said_of_it in (
        (plain, {}, r"padded=true generator\.embedder\.penultimate=true"),
        (embedder, own, r"penultimate=false, or generator\.backbone=mmdit"),
        (plain, {**own, "aesthetic_score": 5.0}, r"aesthetic_score=null"),
        (embedder, {"aesthetic_score": float("nan")}, r"aesthetic_score=6\.5"),
        (embedder, {"backbone": "mmdt"}, "did you mean 'mmdit'"),
    ):
        with pytest.raises(ConfigError, match=said_of_it):
            generator(reads, **fields)


@pytest.fixture(scope="module")
def trained(embedder: SentenceEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("trained")
    with one_core():
        tokens = tokens_of(root, NAMES * 4)
        return context(root).make(generator(embedder).fit(tokens, index=None))  # type: ignore[arg-type]


def test_it_learns_captions_and_what_no_caption_is(trained: Any) -> None:
    facts = trained.artifact.facts
    assert facts["val/bits_per_token"] < facts["val/bits_other_caption"] - 1
    assert facts["val/bits_per_token"] < facts["val/bits_no_caption"] - 0.1
    how = MaskedSampler(
        name="any", steps=3, confidence="random", temperature=1.0, annealing="constant"
    )
    samples = np.arange(30, dtype=np.uint64)
    given = GivenCaptions(texts=("blue", "black"), key="label")
    made, _ = trained.generate(samples, sampler=how, layout=LAYOUT, seed=1, condition=given)
    assert (made == np.array([ROWS["blue"], ROWS["black"]] * 15)).mean() > 0.5
    plain, _ = trained.generate(samples, sampler=how, layout=LAYOUT, seed=1)
    assert len(np.unique(plain[:, 1])) > 2


def test_it_is_exported_and_read_again(trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "folder"
    assert export.main([f"weights={trained.artifact.path}", f"out={out}"]) == 0
    network = Mmdit.from_pretrained(out)
    ids, states = torch.tensor([[0, 256, 7]]), said("red", dim=16)[None]
    with torch.no_grad():
        assert torch.equal(network(ids, states), trained.network(ids, states))
    card = (out / "README.md").read_text()
    assert "generator.backbone=mmdit" in card
    assert "generator.aesthetic_score=6.5" in card


def test_a_second_training_begins_with_a_published_file(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "maskgen.bin", head=True)
    still = optimization(steps=2, learning_rate=0.0, warmup_steps=0)
    model = made_of(tmp_path, generator(embedder, start=str(path), optimization=still))
    kept = load_file(model.artifact.path / "model.safetensors")
    for name, tensor in torch.load(path, weights_only=True).items():
        if name != "lm_head.weight":
            assert torch.equal(kept[name], tensor), name
    assert "lm_head.weight" not in kept


def test_a_killed_training_goes_on_as_if_undisturbed(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    files = []
    for name, steps in (("whole", 6), ("parts", 2)):
        how = TrainerOptions(accelerator="cpu", segment_steps=steps)
        own = generator(embedder, trainer=how, optimization=optimization(steps=6))
        tokens = tokens_of(tmp_path / name, (*NAMES, None))
        model: Any = context(tmp_path / name).make(own.fit(tokens, index=None))  # type: ignore[arg-type]
        files.append((model.artifact.path / "model.safetensors").read_bytes())
    assert files[0] == files[1]


def test_no_caption_is_the_empty_one_in_training_and_in_sampling(
    embedder: SentenceEmbedder, tmp_path: Path
) -> None:
    tokens = tokens_of(tmp_path, (*NAMES, None))
    data = CaptionedTokens(tokens=tokens, key="label", embedder=embedder)
    items: Any = data.prepare(context(tmp_path)).items
    empty = embed_asked([""], embedder)
    np.testing.assert_array_equal(items.no_caption().states, empty.states)
    _, text = parted(items.gather(np.array([0, len(NAMES)])))
    np.testing.assert_array_equal(text.states[1:], empty.states)
    assert text.there.all()
    assert not dropped(text, 1.0, np.random.default_rng(0)).there.any()
    assert empty.states.shape == (1, 6, 16)


def test_a_run_samples_and_is_audited(tmp_path: Path) -> None:
    more = ["generator.width=16", "generator.depth=1", "generator.num_heads=2", "metric=[copying]"]
    more += ["generator.embedder.max_tokens=8", "generator.optimization.warmup_steps=0"]
    run = tmp_path / "run"
    run.mkdir()
    finished = run_experiment(compose(*words(tmp_path, "maskgen_vq_l", *more)), run)
    assert finished.scores["largest_source_share"]["value"] is not None
