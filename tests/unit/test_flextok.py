"""FlexTok without its package: preprocessing, identities, refusals, configurations."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from imagegram import schema
from imagegram.errors import ConfigError, MissingDependencyError, TokenError
from imagegram.records import Images
from imagegram.store.fingerprint import canonical_json, identity
from imagegram.tokenizers.fetch import FetchWeights
from imagegram.tokenizers.flextok.config import check_targets, linked_vae, read_config
from imagegram.tokenizers.flextok.tokenizer import PUBLISHED, FlexTokTokenizer, shorter_side
from tests import flextok_models
from tests.conftest import compose
from tests.pictures import noise

NAMES = sorted(path.stem for path in schema.CONF.glob("tokenizer/flextok_*.yaml"))
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def checkpoint(folder: Path, config: dict[str, Any], *, name: str = "model.safetensors") -> Path:
    """A file with the header that the package writes, and with no weights to speak of."""
    header = {key: str(value) for key, value in config.items()}
    save_file({"weight": np.zeros(3, np.float32)}, folder / name, header)
    return folder / name


def small(folder: Path, **fields: Any) -> FlexTokTokenizer:
    path = checkpoint(folder, flextok_models.config())
    return FlexTokTokenizer(checkpoint=str(path), num_tokens=16, image_size=32, **fields)


# --------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize("name", NAMES)
def test_configurations_need_no_weights_to_be_planned(name: str, tmp_path: Path) -> None:
    node = compose(f"tokenizer={name}", f"paths.outputs={tmp_path}").tokenizer
    tokenizer = instantiate(node, _convert_="all")
    assert tokenizer.batch_size == 16
    assert tokenizer.hub_repo == f"EPFL-VILAB/{name}"
    assert tokenizer.spec.vocab_size == 64_000
    assert tokenizer.spec.length == tokenizer.num_tokens == 256
    assert tokenizer.spec.layout.digits == (8, 8, 8, 5, 5, 5)
    assert tokenizer.spec.layout.is_ranked
    assert identity(tokenizer)["weights"] == f"EPFL-VILAB/{name}@main"
    assert isinstance(tokenizer.fit(None), FetchWeights)
    assert pickle.loads(pickle.dumps(tokenizer)) == tokenizer
    with pytest.raises(ConfigError, match=r"no weights yet.*tokenizer\.checkpoint="):
        tokenizer.encode([tokenizer.prepare(noise(0, size=40))])


def test_it_is_imported_without_torch() -> None:
    code = (
        "import sys, imagegram.tokenizers.flextok.tokenizer, imagegram.tokenizers.fetch\n"
        "assert not {'torch', 'huggingface_hub', 'numba'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interpolation": "cubic"}, "did you mean 'bicubic'"),
        ({"posterior": "mean"}, "allowed: mode, sample"),
        ({"dtype": "float16"}, "allowed: bfloat16, float32"),
        ({"attention": "flash"}, "allowed: auto, flex, sdpa"),
        ({"num_tokens": 0}, "at least 1"),
        ({"num_tokens": 257}, "type tokenizer.num_tokens=256"),
        ({"timesteps": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"image_size": 100}, "multiple of 8"),
    ],
)
def test_impossible_fields(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FlexTokTokenizer(**fields)


# --------------------------------------------------------------------------------------- identity


def test_identity_is_content_preprocessing_and_decoding(tmp_path: Path) -> None:
    first = small(tmp_path)
    (tmp_path / "moved").mkdir()
    path = tmp_path / "moved" / "renamed.safetensors"
    path.write_bytes((tmp_path / "model.safetensors").read_bytes())
    speed = {"device": "cpu", "dtype": "bfloat16", "batch_size": 3, "compile": True}
    moved = dataclasses.replace(first, checkpoint=str(path), name="x", attention="flex", **speed)
    assert canonical_json(identity(moved)) == canonical_json(identity(first))
    for field, value in {
        "num_tokens": 3,
        "image_size": 64,
        "interpolation": "bilinear",
        "posterior": "sample",
        "timesteps": 3,
        "guidance_scale": 1.0,
        "norm_guidance": False,
        "decode_seed": 1,
    }.items():
        assert identity(dataclasses.replace(first, **{field: value})) != identity(first), field
    save_file({"weight": np.ones(3, np.float32)}, path, {})
    path.with_name("config.json").write_text(json.dumps(flextok_models.config()))
    assert identity(moved)["weights"] != identity(first)["weights"]


def test_a_configuration_beside_the_weights_is_part_of_the_identity(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {})
    tokenizer = FlexTokTokenizer(checkpoint=str(path), num_tokens=16, image_size=32)
    beside = path.with_name("config.json")
    beside.write_text(json.dumps(flextok_models.config()))
    first = identity(tokenizer)
    config = flextok_models.config()
    config["vae"]["scaling_factor"] = 2.0
    beside.write_text(json.dumps(config))
    assert identity(tokenizer)["weights"] == first["weights"]
    assert identity(tokenizer) != first


def test_token_files_serve_every_prefix_and_every_way_of_painting(tmp_path: Path) -> None:
    whole = small(tmp_path)
    short = dataclasses.replace(
        whole, num_tokens=2, timesteps=3, guidance_scale=1.0, norm_guidance=False, decode_seed=5
    )
    assert short.spec.length == 2
    assert short.encoder == whole.encoder == whole
    assert small(tmp_path, posterior="sample").encoder != whole.encoder
    assert FlexTokTokenizer(num_tokens=8).encoder.num_tokens == PUBLISHED.num_registers


def test_numbers_come_from_the_checkpoint(tmp_path: Path) -> None:
    tokenizer = small(tmp_path)
    assert (tokenizer.spec.vocab_size, tokenizer.spec.layout.digits) == (200, (8, 5, 5))
    longer = dataclasses.replace(tokenizer, num_tokens=17)
    with pytest.raises(ConfigError, match=r"type tokenizer\.num_tokens=16"):
        _ = longer.spec
    config = flextok_models.config()
    config["regularizer"]["levels"] = [256, 256]
    path = checkpoint(tmp_path, config, name="other.safetensors")
    with pytest.raises(ConfigError, match=r"65536 ids .* do not fit"):
        _ = dataclasses.replace(tokenizer, checkpoint=str(path)).spec


@pytest.mark.parametrize("levels", [[], [8, 0], [8, "5"], [8, 5.0]])
def test_levels_that_are_no_code(tmp_path: Path, levels: list[Any]) -> None:
    config = flextok_models.config()
    config["regularizer"]["levels"] = levels
    path = checkpoint(tmp_path, config)
    with pytest.raises(ConfigError, match="FSQ"):
        _ = FlexTokTokenizer(checkpoint=str(path), num_tokens=16).spec


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a pickle", b"\xff" * 64])
def test_a_file_that_is_no_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no safetensors file"):
        _ = FlexTokTokenizer(checkpoint=str(path)).spec
    with pytest.raises(ConfigError, match="there is no such file"):
        _ = FlexTokTokenizer(checkpoint=str(tmp_path / "none.safetensors")).spec


def test_a_checkpoint_without_configuration(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"neither its header nor .*config\.json"):
        _ = FlexTokTokenizer(checkpoint=str(path)).spec


# -------------------------------------------------------------------------------- what may be run


def test_the_modules_of_a_model_are_allowed(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, flextok_models.config())
    config = read_config(path)
    assert config["encoder"] == flextok_models.config()["encoder"]
    assert "_target_" not in config  # the parts are what is built


EVIL: list[Any] = [
    {"_target_": "os.system", "command": "touch ran"},
    {"_target_": "flextok.flextok_wrapper.instantiate", "config": {}},
    {"_target_": "flextok.utils.demo.img_from_url", "url": "http://127.0.0.1"},
    {"_target_": "flextok.vae_wrapper.Path", "_args_": ["x"]},
    {"_target_": "torch.nn.SiLU.__init__.__globals__.get"},
    {"_target_": "torch.load", "f": "x"},
    {"_target_": "functools.partial", "_args_": [1]},
    {"_target_": "hydra.utils.instantiate", "config": {"_target_": "os.getcwd"}},
    {"_target_": "hydra.utils.get_method", "path": "os.system"},
    {"_target_": "hydra.utils.get_class", "_args_": ["subprocess.Popen"]},
    {"_target_": "hydra.utils.get_method", "path": ["os.system"]},
    {"_target_": ["torch.nn.SiLU"]},
    {"_target_": None},
    {"_target_": "${oc.env:HOME}"},
    {"value": "${oc.create:'{_target_: os.getcwd}'}"},
    {"${oc.env:HOME}": 1},
    {"value": b"bytes"},
    {"value": {1, 2}},
]


@pytest.mark.parametrize("evil", EVIL, ids=str)
def test_what_may_run_programs_is_refused_wherever_it_stands(evil: Any, tmp_path: Path) -> None:
    for place in ("plain", "list", "deep", "tuple"):
        config = flextok_models.config()
        hidden = {"plain": evil, "list": [evil], "deep": {"a": [{"b": evil}]}, "tuple": (1, evil)}
        config["decoder"]["module_dict"]["dec_head"]["norm_layer"] = hidden[place]
        with pytest.raises(ConfigError):
            check_targets(config, Path("x"))
        path = checkpoint(tmp_path, config)
        with pytest.raises(ConfigError):
            read_config(path)


def test_nothing_is_fetched_from_a_vae_s_own_page(tmp_path: Path) -> None:
    config = flextok_models.config()
    config["vae"] |= {"hf_hub_path": "stabilityai/sdxl-vae", "compile_encode_fn": True}
    path = checkpoint(tmp_path, config)
    assert linked_vae(path) is None
    vae = read_config(path)["vae"]
    assert "hf_hub_path" not in vae
    assert vae["compile_encode_fn"] is False
    assert vae["scaling_factor"] == flextok_models.config()["vae"]["scaling_factor"]


def test_a_scale_that_is_only_on_the_vae_s_page(tmp_path: Path) -> None:
    config = flextok_models.config()
    config["vae"] |= {"hf_hub_path": "EPFL-VILAB/flextok_vae_c4", "scaling_factor": None}
    path = checkpoint(tmp_path, config)
    tokenizer = FlexTokTokenizer(checkpoint=str(path), num_tokens=16)
    assert tokenizer.linked_configs() == {"vae_config.json": "EPFL-VILAB/flextok_vae_c4"}
    with pytest.raises(ConfigError, match=r"put that file there as .*vae_config\.json"):
        read_config(path)
    path.with_name("vae_config.json").write_text('{"scaling_factor": 0.25, "latent_channels": 8}')
    vae = read_config(path)["vae"]
    assert (vae["scaling_factor"], vae["latent_channels"]) == (0.25, 8)


# ---------------------------------------------------------------------------------- preprocessing


def reference(image: Images, size: int, interpolation: str) -> Images:
    """The shorter side to ``size``, rounding down the longer; the middle square. By Pillow."""
    height, width, _ = image.shape
    if height < width:
        new_height, new_width = size, int(size * width / height)
    else:
        new_height, new_width = int(size * height / width), size
    picture = Image.fromarray(image).resize((new_width, new_height), FILTERS[interpolation])
    top = int(round((new_height - size) / 2.0))  # noqa: RUF046
    left = int(round((new_width - size) / 2.0))  # noqa: RUF046
    return np.asarray(picture)[top : top + size, left : left + size]


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.sampled_from([8, 16, 32, 64]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
)
def test_preprocessing(height: int, width: int, size: int, interpolation: str) -> None:
    image = noise(height + width, size=90)[:height, :width]
    tokenizer = FlexTokTokenizer(image_size=size, interpolation=interpolation)
    prepared = tokenizer.prepare(image)
    assert prepared.shape == (size, size, 3)
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared, reference(image, size, interpolation))


def test_an_image_of_the_right_size_is_itself() -> None:
    image = noise(0, size=64)[:40, :40]
    np.testing.assert_array_equal(shorter_side(image, 40, FILTERS["bicubic"]), image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image(image: Any) -> None:
    with pytest.raises(TokenError, match=r"\(H, W, 3\) uint8"):
        FlexTokTokenizer().prepare(image)


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[0, 200]], "id 200 of image 0 at position 1 is not in 0 ... 199; 1 ids"),
        ([[0, 1], [65535, 65535]], "id 65535 of image 1 at position 0 is not in 0 ... 199; 2 ids"),
        ([[-1]], "id -1 of image 0 at position 0"),
        ([list(range(17))], r"decode needs \(B, 1 ... 16\)"),
        ([[]], r"decode needs \(B, 1 ... 16\)"),
        ([0, 1], r"decode needs \(B, 1 ... 16\)"),
        ([[0.0]], r"decode needs \(B, 1 ... 16\)"),
    ],
)
def test_ids_outside_the_code_book_are_refused(tmp_path: Path, ids: Any, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        small(tmp_path).decode(np.array(ids))


def test_no_rows_need_no_network(tmp_path: Path) -> None:
    rows = np.empty((0, 5), np.uint16)
    assert small(tmp_path).decode(rows, output_size=24).shape == (0, 24, 24, 3)
    with pytest.raises(ConfigError, match="output_size must be at least 1"):
        small(tmp_path).decode(rows, output_size=0)


@pytest.mark.skipif(
    importlib.util.find_spec("flextok") is not None, reason="the package flextok is installed"
)
def test_without_the_package_it_says_what_to_type(tmp_path: Path) -> None:
    tokenizer = small(tmp_path, device="cpu")
    with pytest.raises(
        MissingDependencyError, match=r"pip install -e '\.\[flextok\]'.*non-commercial"
    ):
        tokenizer.encode([tokenizer.prepare(noise(0, size=40))])
