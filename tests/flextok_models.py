"""A small FlexTok model of the package's own classes, with random weights.

As the published ones are built: VAE latents and registers through an encoder, an FSQ code, and a
flow that paints latents under nested dropout and guidance; only everything is small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

#: Tokens of an image, values of the digits of an id, side of an image in pixels.
REGISTERS: Final = 16
LEVELS: Final = (8, 5, 5)
IMAGE_SIZE: Final = 32
_CHANNELS: Final = 4
_WIDTH: Final = 32
#: The layers of a VAE are a constant of the package: as many, but narrow.
SMALL_VAE: Final = {"block_out_channels": [8, 8, 8, 8], "norm_num_groups": 4, "sample_size": 32}


def config() -> dict[str, Any]:
    """The configuration of the model, as a checkpoint's header has it."""
    return {
        "_target_": "flextok.flextok_wrapper.FlexTok",
        "vae": {
            "_target_": "flextok.vae_wrapper.StableDiffusionVAE",
            "images_read_key": "rgb",
            "vae_latents_read_key": "latents_painted",
            "vae_latents_write_key": "latents",
            "images_reconst_write_key": "rgb_painted",
            "latent_channels": _CHANNELS,
            "scaling_factor": 0.5,
        },
        "encoder": _sequential(_encoder()),
        "regularizer": {
            "_target_": "flextok.regularizers.quantize_fsq.FSQ",
            "latents_read_key": "codes",
            "quants_write_key": "quants",
            "tokens_write_key": "ids",
            "levels": list(LEVELS),
        },
        "decoder": _sequential(_decoder()),
        "flow_matching_noise_module": {
            "_target_": "flextok.flow_matching.noise_modules.MinRFNoiseModule",
            "clean_images_read_key": "latents",
            "noised_images_write_key": "noised",
            "timesteps_write_key": "times",
            "sigmas_write_key": "sigmas",
        },
        "pipeline": {
            "_target_": "flextok.flow_matching.pipelines.MinRFPipeline",
            "_partial_": True,
            "target_sizes_read_key": "sizes",
            "latents_read_key": "quants",
            "timesteps_read_key": "times",
            "noised_images_read_key": "noised",
            "reconst_write_key": "latents_painted",
            "out_channels": _CHANNELS,
        },
    }


def write(path: Path, *, seed: int = 0, in_header: bool = True) -> Path:
    """Write a checkpoint with the package's own helper; its header holds the configuration.

    Args:
        path: of the safetensors file.
        seed: of the weights.
        in_header: False: a header without configuration, as other programs write it.
    """
    from flextok.utils.checkpoint import save_safetensors

    network = model(seed)
    parameters = {name: value.clone() for name, value in network.state_dict().items()}
    save_safetensors(parameters, str(path), config() if in_header else None)
    return path


def model(seed: int = 0) -> Any:
    """The package's model, instantiated as its README does, with no weight zero.

    Modules are born with zeros where training begins from the identity; those would give the same
    tokens to all images and paint the same picture from any tokens.
    """
    import torch
    from hydra.utils import instantiate

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = instantiate(config()).eval()
        for parameter in (p for p in network.parameters() if not p.any()):
            fan = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.data = torch.randn(parameter.shape) * 2 / fan**0.5
    # An untrained VAE says little of an image: louder, so that images differ in many tokens.
    network.encoder.module_dict["enc_patch_emb"].patch_proj.weight.data *= 30
    return network


def _sequential(modules: dict[str, Any]) -> dict[str, Any]:
    target = "flextok.model.utils.wrappers.SequentialModuleDictWrapper"
    return {"_target_": target, "module_dict": modules}


def _encoder() -> dict[str, Any]:
    side = IMAGE_SIZE // 8
    return {
        "enc_channels": _turn("latents", "enc_latents", "first_to_last"),
        "enc_patch_emb": _patches("enc_latents", "enc_patches", "enc_sizes"),
        "enc_posemb": _places("enc_patches", [side, side], "sincos"),
        "enc_register_module": {
            "_target_": "flextok.model.preprocessors.registers.Registers1D",
            "input_tensor_list_read_key": "enc_patches",
            "register_sizes_read_write_key": "register_sizes",
            "registers_write_key": "enc_registers",
            "dim": _WIDTH,
            "n_min": REGISTERS,
            "n_max": REGISTERS,
        },
        "enc_packer": _packer(["enc_patches", "enc_registers"], "enc", "causal_last"),
        "enc_transformer": _transformer("enc"),
        "enc_unpacker": _unpacker(["enc_patches", "enc_registers"], "enc"),
        "enc_head": {
            "_target_": "flextok.model.postprocessors.heads.LinearHead",
            "read_key": "enc_registers",
            "write_key": "codes",
            "dim": _WIDTH,
            "dim_out": len(LEVELS),
            "use_mup_readout": False,
        },
    }


def _decoder() -> dict[str, Any]:
    side = IMAGE_SIZE // 8
    return {
        "dec_from_codes": {
            "_target_": "flextok.model.preprocessors.linear.LinearLayer",
            "read_key": "quants",
            "write_key": "dec_registers",
            "dim_in": len(LEVELS),
            "dim": _WIDTH,
        },
        "dec_register_posemb": _places("dec_registers", [REGISTERS], "learnable_sum"),
        "dec_nested_dropout": {
            "_target_": "flextok.model.preprocessors.token_dropout.MaskedNestedDropout",
            "read_write_key": "dec_registers",
            "dim": _WIDTH,
        },
        "dec_null": {
            "_target_": "flextok.model.preprocessors.nullcond.LearnedNullCond",
            "read_write_key": "dec_registers",
            "dim": _WIDTH,
        },
        "dec_channels": _turn("noised", "dec_noised", "first_to_last"),
        "dec_patch_emb": _patches("dec_noised", "dec_patches", "dec_sizes"),
        "dec_posemb": _places("dec_patches", [side, side], "sincos"),
        "dec_time": {
            "_target_": "flextok.model.preprocessors.time_embedding.TimestepEmbedder",
            "timesteps_read_key": "times",
            "time_embedding_write_key": "dec_time",
            "dim": _WIDTH,
            "max_timestep": 1.0,
        },
        "dec_packer": {
            **_packer(["dec_patches", "dec_registers"], "dec", "full"),
            "emb_packing_fn_write_key": "dec_spread",
        },
        "dec_transformer": {
            **_transformer("dec"),
            "adaLN_emb_read_key": "dec_time",
            "adaLN_packing_fn_read_key": "dec_spread",
        },
        "dec_unpacker": _unpacker(["dec_patches", "dec_registers"], "dec"),
        "dec_head": {
            "_target_": "flextok.model.postprocessors.heads.ToPatchesLinearHead",
            "read_key": "dec_patches",
            "write_key": "dec_painted",
            "dim": _WIDTH,
            "channels_out": _CHANNELS,
            "patch_sizes": [1, 1],
            "use_mup_readout": False,
            "adaLN_emb_read_key": "dec_time",
        },
        "dec_back": _turn("dec_painted", "latents_painted", "last_to_first"),
    }


def _turn(read: str, write: str, way: str) -> dict[str, Any]:
    function = f"flextok.model.utils.dict_ops.channels_{way}"
    return {
        "_target_": "flextok.model.utils.dict_ops.PerSampleOp",
        "read_key": read,
        "write_key": write,
        "per_sample_op": {"_target_": "hydra.utils.get_method", "path": function},
    }


def _patches(read: str, write: str, sizes: str) -> dict[str, Any]:
    return {
        "_target_": "flextok.model.preprocessors.patching.PatchEmbedder",
        "input_tensor_list_read_key": read,
        "patches_list_write_key": write,
        "n_patches_write_key": sizes,
        "patch_sizes": [1, 1],
        "channels_in": _CHANNELS,
        "dim": _WIDTH,
        "flatten_patches": False,
    }


def _places(key: str, sizes: list[int], kind: str) -> dict[str, Any]:
    return {
        "_target_": "flextok.model.utils.posembs.PositionalEmbeddingAdder",
        "read_key": key,
        "write_key": key,
        "dim": _WIDTH,
        "max_sizes": sizes,
        "posemb_type": kind,
    }


def _packer(keys: list[str], name: str, mask: str) -> dict[str, Any]:
    return {
        "_target_": "flextok.model.preprocessors.flex_seq_packing.BlockWiseSequencePacker",
        "input_list_read_keys": keys,
        "packed_seq_write_key": f"{name}_packed",
        "block_mask_write_key": f"{name}_mask",
        "inner_packed_shapes_write_key": f"{name}_inner",
        "outer_packed_shapes_write_key": f"{name}_outer",
        "mask_mode": mask,
        "pad_to_multiple": 128,
    }


def _transformer(name: str) -> dict[str, Any]:
    norm = "flextok.model.layers.norm.Fp32LayerNorm"
    return {
        "_target_": "flextok.model.trunks.transformers.FlexTransformer",
        "input_seq_read_key": f"{name}_packed",
        "output_seq_write_key": f"{name}_packed",
        "dim": _WIDTH,
        "depth": 2,
        "head_dim": 16,
        "act_layer": {"_target_": "hydra.utils.get_class", "path": "torch.nn.SiLU"},
        "norm_layer": {
            "_target_": norm,
            "_partial_": True,
            "bias": False,
            "elementwise_affine": False,
        },
        "block_mask_read_key": f"{name}_mask",
    }


def _unpacker(keys: list[str], name: str) -> dict[str, Any]:
    return {
        "_target_": "flextok.model.postprocessors.seq_unpacking.SequenceUnpacker",
        "packed_seq_read_key": f"{name}_packed",
        "inner_seq_write_keys": keys,
        "inner_packed_shapes_read_key": f"{name}_inner",
        "outer_packed_shapes_read_key": f"{name}_outer",
    }
