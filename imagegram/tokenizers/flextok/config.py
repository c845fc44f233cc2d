"""The model configuration of a FlexTok checkpoint: read from its header and checked.

A configuration is a tree of class names and arguments that Hydra turns into modules. Hydra calls
any function that a ``_target_`` names, so a downloaded file could run any program: every name is
first checked against a list, and interpolations are refused because they could hide a name.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imagegram.errors import ConfigError, MissingDependencyError, did_you_mean
from imagegram.records import EOS_TOKEN_ID

#: The parts of a model, by the argument names of its constructor.
PARTS: Final = (
    "vae",
    "encoder",
    "decoder",
    "regularizer",
    "flow_matching_noise_module",
    "pipeline",
)
#: Files beside the weights: the configuration if the header has none, and that of the VAE.
CONFIG_FILE: Final = "config.json"
VAE_CONFIG_FILE: Final = "vae_config.json"
_MAX_HEADER_BYTES: Final = 100_000_000  # the limit of safetensors itself
#: Hydra's functions that return the object of a given name.
_LOOKUPS: Final = ("hydra.utils.get_class", "hydra.utils.get_method", "hydra.utils.get_object")
_TARGETS: Final = frozenset(
    {
        *_LOOKUPS,
        *(
            f"flextok.{name}"
            for name in (
                "vae_wrapper.StableDiffusionVAE",
                "regularizers.quantize_fsq.FSQ",
                "flow_matching.noise_modules.MinRFNoiseModule",
                "flow_matching.pipelines.MinRFPipeline",
                "model.layers.mlp.GatedMlp",
                "model.layers.mlp.Mlp",
                "model.layers.norm.Fp32LayerNorm",
                "model.postprocessors.heads.LinearHead",
                "model.postprocessors.heads.MLPHead",
                "model.postprocessors.heads.ToPatchesLinearHead",
                "model.postprocessors.seq_unpacking.SequenceUnpacker",
                "model.preprocessors.flex_seq_packing.BlockWiseSequencePacker",
                "model.preprocessors.linear.LinearLayer",
                "model.preprocessors.mask_tokens.MaskTokenModule",
                "model.preprocessors.nullcond.LearnedNullCond",
                "model.preprocessors.nullcond.ZeroNullCond",
                "model.preprocessors.patching.PatchEmbedder",
                "model.preprocessors.registers.Registers1D",
                "model.preprocessors.time_embedding.TimestepEmbedder",
                "model.preprocessors.token_dropout.MaskedNestedDropout",
                "model.trunks.transformers.FlexTransformer",
                "model.trunks.transformers.FlexTransformerDecoder",
                "model.utils.dict_ops.DictKeyFilter",
                "model.utils.dict_ops.PerSampleOp",
                "model.utils.dict_ops.PerSampleReducer",
                "model.utils.dict_ops.channels_first_to_last",
                "model.utils.dict_ops.channels_last_to_first",
                "model.utils.dict_ops.concat_tensors",
                "model.utils.dict_ops.multiply_tensors",
                "model.utils.dict_ops.sum_tensors",
                "model.utils.posembs.PositionalEmbedding",
                "model.utils.posembs.PositionalEmbeddingAdder",
                "model.utils.wrappers.SequentialModuleDictWrapper",
            )
        ),
        *(
            f"torch.nn.{name}"
            for name in ("GELU", "Identity", "LayerNorm", "Linear", "RMSNorm", "ReLU", "SiLU")
        ),
    }
)


@dataclass(frozen=True)
class Numbers:
    """Numbers of a model that are needed before its weights are loaded.

    Attributes:
        num_registers: tokens of a whole sequence.
        levels: of the FSQ code, the least significant digit first.
    """

    num_registers: int
    levels: tuple[int, ...]

    @property
    def vocab_size(self) -> int:
        """Ids lie in 0 ... vocab_size - 1."""
        return math.prod(self.levels)


def require_package() -> None:
    """Refuse to go on without the packages that the model needs; none is imported.

    Raises:
        MissingDependencyError: with the line that installs them.
    """
    for package in ("flextok", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise missing_package(f"No module named {package!r}")


def missing_package(reason: str) -> MissingDependencyError:
    """Return the error for a package that cannot be imported."""
    return MissingDependencyError(
        f"FlexTok tokenizers need the package flextok and what it imports ({reason}); type: "
        "pip install 'imagegram[flextok]', in the repository: pip install -e '.[flextok]'. Its "
        "licence allows non-commercial use only"
    )


def read_config(checkpoint: Path) -> dict[str, Any]:
    """Read the configuration of a checkpoint's model, one entry for each of :data:`PARTS`.

    Args:
        checkpoint: a safetensors file. Its header holds the configuration (as the package's own
            ``save_safetensors`` writes it), or ``config.json`` beside it does (as the hub has it).

    Raises:
        ConfigError: when there is no whole configuration, or one that names other things than
            FlexTok's modules.
    """
    config = _from_header(checkpoint)
    beside = checkpoint.with_name(CONFIG_FILE)
    if not config and beside.is_file():
        config = _from_json(beside)
    if missing := [part for part in PARTS if not isinstance(config.get(part), Mapping)]:
        raise ConfigError(
            f"{checkpoint}: neither its header nor {beside} is the configuration of a FlexTok "
            f"model ({', '.join(missing)} missing); put the config.json of its page beside it, or "
            "let the weights be fetched: tokenizer.checkpoint=null"
        )
    config = {part: config[part] for part in PARTS}
    check_targets(config, checkpoint)
    return _without_links(config, checkpoint)


def linked_vae(checkpoint: Path) -> str | None:
    """Return the hub page whose ``config.json`` a checkpoint needs; None: it is complete.

    Such a model takes the scale of its VAE's latents from the VAE's own page.
    """
    config = _from_header(checkpoint)
    beside = checkpoint.with_name(CONFIG_FILE)
    vae = (config or (_from_json(beside) if beside.is_file() else {})).get("vae")
    if not isinstance(vae, Mapping) or vae.get("scaling_factor") is not None:
        return None
    page = vae.get("hf_hub_path")
    return page if isinstance(page, str) else None


def read_numbers(config: Mapping[str, Any], checkpoint: Path) -> Numbers:
    """Read the numbers of a configuration.

    Raises:
        ConfigError: when a number is missing, or the ids do not fit 16 bits beside the separator.
    """
    try:
        registers = config["encoder"]["module_dict"]["enc_register_module"]
        number = registers.get("n_eval") or registers["n_max"]
        levels = tuple(config["regularizer"]["levels"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{checkpoint}: the configuration has no {error}, so it is no FlexTok model with "
            "registers and an FSQ code; give another tokenizer.checkpoint"
        ) from error
    if not levels or not all(type(n) is int and n > 0 for n in (number, *levels)):
        raise ConfigError(
            f"{checkpoint}: {number} registers and FSQ levels {list(levels)} are no positive whole "
            "numbers; give another tokenizer.checkpoint"
        )
    numbers = Numbers(number, levels)
    if numbers.vocab_size > EOS_TOKEN_ID:
        raise ConfigError(
            f"{checkpoint}: {numbers.vocab_size} ids (FSQ levels {list(levels)}) do not fit; "
            f"tokens have 16 bits, and {EOS_TOKEN_ID} separates images"
        )
    return numbers


def check_targets(config: Any, where: Path) -> None:
    """Refuse a configuration that names anything but FlexTok's modules and a few of torch.nn.

    Raises:
        ConfigError: naming what it names.
    """
    for node in _nodes(config):
        if isinstance(node, str) and "${" in node:
            raise ConfigError(
                f"{where}: its configuration holds the interpolation {node!r}, which could "
                "stand for anything; it is not loaded"
            )
        if not isinstance(node, Mapping):
            continue
        named = [node["_target_"]] if "_target_" in node else []
        if named and named[0] in _LOOKUPS:
            named = [*named, *(v for key, v in node.items() if not _is_flag(key))]
        for name in named:
            if not isinstance(name, str) or name not in _TARGETS:
                raise ConfigError(
                    f"{where}: its configuration asks for {name!r}, which is no module of "
                    "FlexTok; loading could run any program, so it is not loaded"
                )


def _is_flag(key: str) -> bool:
    return key in ("_target_", "_partial_", "_convert_", "_recursive_")


def _nodes(value: Any) -> Iterator[Any]:
    """Yield all dictionaries, keys and values of a tree.

    Raises:
        ConfigError: for what JSON cannot hold.
    """
    if isinstance(value, Mapping):
        yield value
        for key, item in value.items():
            yield from _nodes(key)
            yield from _nodes(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)
    elif value is None or isinstance(value, str | int | float):
        yield value
    else:
        raise ConfigError(f"a configuration holds no {type(value).__name__}: {value!r}")


def _without_links(config: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """Return the configuration without downloads and compilation.

    The checkpoint contains the VAE's weights too, so ``hf_hub_path`` would download weights that
    are then overwritten; only the latents' numbers of that page are needed.
    """
    vae = {**config["vae"], "compile_encode_fn": False}
    page = vae.pop("hf_hub_path", None)
    if page is not None and vae.get("scaling_factor") is None:
        beside = checkpoint.with_name(VAE_CONFIG_FILE)
        if not beside.is_file():
            raise ConfigError(
                f"{checkpoint}: the scale of its VAE's latents is only in the config.json of the "
                f"hub page {page}; put that file there as {beside}"
            )
        known = _from_json(beside)
        for key in ("scaling_factor", "latent_channels"):
            if known.get(key) is not None:
                vae[key] = known[key]
    if not isinstance(vae.get("scaling_factor"), int | float):
        raise ConfigError(
            f"{checkpoint}: its configuration gives no scaling_factor of the VAE's latents; "
            "give another tokenizer.checkpoint"
        )
    return {**config, "vae": vae}


def _from_header(checkpoint: Path) -> dict[str, Any]:
    """Read the configuration in a safetensors header, or {}; its values are Python literals."""
    try:
        with checkpoint.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            if size > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            metadata = json.loads(stream.read(size)).get("__metadata__") or {}
    except (OSError, ValueError, struct.error, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"tokenizer.checkpoint={checkpoint} is no safetensors file ({error}); give one that "
            "is: tokenizer.checkpoint=FOLDER/model.safetensors"
        ) from error
    return {part: _literal(metadata[part]) for part in PARTS if part in metadata}


def _literal(text: Any) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _from_json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error}); get it again from the hub") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds no object; get it again from the hub")
    inner = config.get("config")
    return inner if isinstance(inner, dict) else config


def require_choice(field: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse an unknown value of a field.

    Raises:
        ConfigError: naming the known values.
    """
    if value not in allowed:
        raise ConfigError(f"tokenizer.{field}={value} is unknown; {did_you_mean(value, allowed)}")
