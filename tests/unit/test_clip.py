"""The text half of CLIP: states of open_clip's own class, folders of both packages, refusals.

``recorded/open_clip.json`` holds names, shapes and states of open_clip 3.3.0 at a small size, with
weights that follow from their names.
"""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from imagegram.encoders.clip import FILES, text_half
from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.errors import ConfigError
from imagegram.store.fingerprint import identity
from tests.sentence_encoders import write_encoder

#: As a page of open_clip has it; the half that sees images is as small as can be.
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 8, "layers": 1, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 7, "vocab_size": 512, "width": 8, "heads": 2, "layers": 2},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}
IDS = [[3, 20, 21, 22, 4, 0, 0], [3, 23, 4, 0, 0, 0, 0]]
RECORDED = Path(__file__).parents[1] / "recorded/open_clip.json"


def filled(name: str, shape: list[int]) -> Tensor:
    """Weights that follow from a name, of a size that keeps features of deviation one."""
    rng = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    values = rng.normal(size=shape)
    if name.endswith(".weight") and len(shape) == 1:
        values = 1 + 0.1 * values
    elif name.endswith("bias"):
        values = 0.1 * values
    elif len(shape) > 1 and "embedding" not in name:
        values = values / math.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, np.float32))


def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def folder_of(path: Path, *, prefix: str = "", **changes: Any) -> Path:
    """A folder as open_clip saves one; changes are of ``model_cfg``."""
    write_encoder(path / "other", width=8)
    (path / "clip").mkdir()
    (path / "other" / FILES[2]).rename(path / "clip" / FILES[2])
    model = {**CONFIG["model_cfg"], **changes}
    (path / "clip" / FILES[0]).write_text(json.dumps({**CONFIG, "model_cfg": model}))
    names = recorded()["shapes"]
    weights = {
        name if name.startswith(("visual.", "logit")) else prefix + name: filled(name, shape)
        for name, shape in names.items()
    }
    save_file(weights, path / "clip" / FILES[1])
    return path / "clip"


def text_cfg(**changes: Any) -> dict[str, Any]:
    return {"text_cfg": {**CONFIG["model_cfg"]["text_cfg"], **changes}}


@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_states_are_those_of_open_clip(tmp_path: Path, activation: str, prefix: str) -> None:
    folder = folder_of(tmp_path, prefix=prefix, quick_gelu=activation == "quick_gelu")
    network = text_half(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = network(input_ids=torch.tensor(IDS)).last_hidden_state
    torch.testing.assert_close(states, torch.tensor(recorded()[activation]), rtol=0, atol=1e-5)


def test_both_packages_folders_are_one_encoder(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel

    ours = folder_of(tmp_path)
    network = text_half(ours, dtype=torch.float32)
    alone, both = tmp_path / "alone", tmp_path / "both"
    network.save_pretrained(alone)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "image_size": 8}
    vision |= {"patch_size": 8, "num_attention_heads": 2}
    config = CLIPConfig(text_config=network.config.to_dict(), vision_config=vision)
    with torch.random.fork_rng(devices=[]):
        whole = CLIPModel(config)
    whole.text_model.load_state_dict(network.state_dict())
    whole.save_pretrained(both)
    states = []
    for folder in (ours, alone, both):
        (folder / FILES[2]).write_bytes((ours / FILES[2]).read_bytes())
        embedder = SentenceEmbedder(folder=str(folder), max_tokens=7, dtype="float32")
        embedder.check_machine()
        assert embedder.dim == 8
        assert embedder.reads("a dog")
        assert not embedder.reads("word " * 30)
        states.append(embedder.states(["a dog", "the wolf and the lamb", ""])[0])
    for other in states[1:]:
        for one, same in zip(states[0], other, strict=True):
            np.testing.assert_array_equal(one, same)
    assert {len(each) for each in states[0]} == {5, 7, 2}
    assert identity(SentenceEmbedder(folder=str(ours))) != identity(
        SentenceEmbedder(folder=str(alone))
    )


def test_a_padded_text_has_the_states_of_all_its_positions(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    plain, padded = (
        SentenceEmbedder(folder=str(folder), max_tokens=7, dtype="float32", padded=padded)
        for padded in (False, True)
    )
    texts = ["a dog", "the wolf and the lamb", ""]
    whole = np.stack(padded.states(texts)[0])
    assert whole.shape == (3, 7, 8)
    for row, own in zip(whole, plain.states(texts)[0], strict=True):  # attention is causal
        np.testing.assert_allclose(row[: len(own)], own, atol=2e-3)
    ids = plain._network.tokenizer.encode("a dog").ids
    filled_up = torch.tensor([ids + [0] * (7 - len(ids))])
    with torch.no_grad():
        states = text_half(folder, dtype=torch.float32).eval()(input_ids=filled_up)
    np.testing.assert_allclose(whole[0], states.last_hidden_state[0].numpy(), atol=2e-3)
    np.testing.assert_array_equal(padded.encode(texts), plain.encode(texts))
    assert identity(padded) != identity(plain)
    longer = SentenceEmbedder(folder=str(folder), max_tokens=8, padded=True)
    with pytest.raises(ConfigError, match=r"max_tokens=8 .* has 7 positions"):
        longer.states(texts)


@pytest.mark.parametrize("prefix", ["", "text."])
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_states_before_the_last_layer_and_vectors_are_those_of_open_clip(
    tmp_path: Path, activation: str, prefix: str
) -> None:
    """Padded and of the length that the encoder reads, as open_clip does."""
    folder = folder_of(tmp_path, prefix=prefix, quick_gelu=activation == "quick_gelu")
    embedder = SentenceEmbedder(
        folder=str(folder), max_tokens=7, dtype="float32", padded=True, penultimate=True
    )
    ids = [[each for each in row if each] for row in IDS]
    rows = [row + [0] * (7 - len(row)) for row in ids]
    found = np.stack(embedder._network.states(rows, penultimate=True))
    expected = recorded()[f"penultimate_{activation}"]
    np.testing.assert_allclose(found[:, 1:], expected["states"], atol=2e-3)  # float16
    np.testing.assert_allclose(found[:, 0], expected["vectors"], atol=2e-3)
    assert embedder.num_states == len(embedder.states(["a dog"])[0][0]) == 8


def test_both_packages_folders_give_one_vector(tmp_path: Path) -> None:
    from transformers import CLIPTextModelWithProjection

    ours, theirs = folder_of(tmp_path), tmp_path / "theirs"
    network = text_half(ours, dtype=torch.float32)
    config = network.config
    config.projection_dim = 8
    with torch.random.fork_rng(devices=[]):
        whole = CLIPTextModelWithProjection(config)
    whole.text_model.load_state_dict(network.state_dict())
    matrix = filled("text_projection", recorded()["shapes"]["text_projection"])
    whole.text_projection.weight.data = matrix.T.contiguous()
    whole.save_pretrained(theirs)
    (theirs / FILES[2]).write_bytes((ours / FILES[2]).read_bytes())
    first, second = (
        SentenceEmbedder(folder=str(folder), max_tokens=7, dtype="float32", penultimate=True)
        for folder in (ours, theirs)
    )
    found = (each.states(["a dog", ""])[0] for each in (first, second))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
    assert [len(each) for each in first.states(["a dog", ""])[0]] == [6, 3]
    assert identity(first) != identity(SentenceEmbedder(folder=str(ours), max_tokens=7))


@pytest.mark.parametrize("kind", ["longer", "pooled", "missing"])
def test_a_clip_without_a_vector_that_fits_is_refused(tmp_path: Path, kind: str) -> None:
    folder = folder_of(tmp_path, **(text_cfg(pool_type="first") if kind == "pooled" else {}))
    weights = load_file(folder / FILES[1])
    matrix = weights.pop("text_projection")
    if kind != "missing":
        weights["text_projection"] = torch.cat((matrix, matrix), 1) if kind == "longer" else matrix
    save_file(weights, folder / FILES[1])
    own = SentenceEmbedder(folder=str(folder), max_tokens=7, penultimate=True)
    said = "one of 16 numbers" if kind == "longer" else r"none \(text_projection\)"
    with pytest.raises(ConfigError, match=rf"vector of as many, .* {said}; give CLIP"):
        own.states(["a dog"])
    assert len(SentenceEmbedder(folder=str(folder), max_tokens=7).states(["a dog"])[0]) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (text_cfg(hf_model_name="roberta-base"), "its text encoder is roberta-base, one of trans"),
        (text_cfg(no_causal_mask=True), r"differs from that of CLIP by \{'no_causal_mask': True\}"),
        (text_cfg(embed_cls=True), "differs from that of CLIP"),
        ({"text_cfg": None}, "has no model_cfg with a text_cfg"),
        (text_cfg(width=16), "the weights are not those of the network"),
        (text_cfg(layers=3), r"encoder\.layers\.2.* is missing"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, changes: Any, said: str) -> None:
    embedder = SentenceEmbedder(folder=str(folder_of(tmp_path, **changes)), max_tokens=7)
    with pytest.raises(ConfigError, match=said):
        embedder.states(["a dog"])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / FILES[1]).unlink()
    with pytest.raises(ConfigError, match=r"clip has no open_clip_model\.safetensors; give"):
        SentenceEmbedder(folder=str(folder)).check_machine()


def test_a_network_that_does_not_read_texts_is_refused(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTModel(ViTConfig(**sizes, intermediate_size=8, image_size=8, patch_size=8)).save_pretrained(
        tmp_path
    )
    (tmp_path / FILES[2]).write_bytes((folder_of(tmp_path) / FILES[2]).read_bytes())
    with pytest.raises(ConfigError, match="ViTModel does not read texts alone"):
        SentenceEmbedder(folder=str(tmp_path)).encode(["a dog"])
