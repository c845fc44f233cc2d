"""The words of a command line, before Hydra reads them: names of folders are taken as they are.

    python -m imagegram.run corpus=folder 'corpus.path=photos (2)'

Hydra reads values in a grammar of its own, in which ``a,b`` is a sweep, ``[x]`` a list and ``Фото``
an error. A value that names a file or a folder is a name and nothing else, so :func:`as_typed`
quotes it. For other words that Hydra refuses, :func:`explain` says what was probably meant.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from imagegram import schema
from imagegram.errors import ConfigError, did_you_mean

#: Last parts of the keys whose values name files or folders.
PLACES: Final = frozenset(
    {
        "path",
        "tars",
        "holdout_tars",
        "files",
        "holdout_files",
        "dataset",
        "write_to",
        "checkpoint",
        "target",
        "data",
        "outputs",
        "dir",
    }
)
#: Launchers and sweepers of Hydra that are extras of this package, with their modules.
_EXTRAS: Final = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
    "optuna": "hydra_plugins.hydra_optuna_sweeper",
}
#: Parts of components that are groups of their own, and how Hydra wants their choice to be typed.
_PARTS: Final = {"tokenizer.decoder": "decoder@tokenizer.decoder"}
#: Words of tools.audit alone.
_OF_AUDITS: Final = ("images", "texts", "tokens", "jpeg", "field")
_MULTIRUN: Final = ("-m", "--multirun")
#: Flags of Hydra that take the next word as their value.
_VALUED: Final = frozenset(
    {
        *("--cfg", "-c", "--package", "-p", "--info", "-i"),
        *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    }
)


def names_place(key: str) -> bool:
    """Whether the value of a key is the name of a file or folder.

    >>> names_place("corpus.path"), names_place("+train_corpus.tars"), names_place("sampler.top_k")
    (True, True, False)
    """
    return "." in key and key.rpartition(".")[2] in PLACES


def as_typed(words: Sequence[str]) -> list[str]:
    """Return the words with names of files and folders quoted for Hydra, where it needs that.

    What is quoted already, holds an interpolation, or is a list or a sweep of names stays as it is;
    ``~`` at the beginning becomes the home folder, which the shell does not do behind a ``=``.

    Raises:
        ConfigError: for an empty name, which would mean the current folder, or ``/``.

    >>> as_typed(["corpus.path=photos (2)", "corpus.path=Фото", "seed=1", "paths.outputs=out"])
    ["corpus.path='photos (2)'", "corpus.path='Фото'", 'seed=1', 'paths.outputs=out']

    A part of a component that is a group of its own is chosen like a value.

    >>> as_typed(["tokenizer.decoder=renderer", "tokenizer.decoder.temperature=1"])
    ['decoder@tokenizer.decoder=renderer', 'tokenizer.decoder.temperature=1']
    """
    sweep = any(word in _MULTIRUN for word in words)
    return [_typed(word, sweep=sweep) for word in words]


def _typed(word: str, *, sweep: bool) -> str:
    key, _, value = word.partition("=")
    if key in _PARTS and value != "null":
        return f"{_PARTS[key]}={value}"
    if word.startswith(("-", "~")) or "=" not in word or not names_place(key):
        return word
    if not text_of(value).strip():
        raise ConfigError(
            f"{key}= is empty, which would mean a folder that nobody named; type {key}=FOLDER, or "
            f"leave {key}= out"
        )
    if value[0] == "~" and value[:2] in ("~", "~/") and not os.path.lexists(value):
        value = str(Path(value).expanduser())
    read = _read(f"{key}={value}")
    if "${" in value:
        return word
    if os.path.lexists(value):
        names = value.split(",")
        literal = not (sweep and len(names) > 1 and all(map(os.path.lexists, names)))
    else:  # what Hydra makes of it may be meant: a sweep, a list, escapes, null
        literal = read is None or not _may_be_meant(read)
    return f"{key}={quoted(value)}" if literal and not _is_plain(value, read) else f"{key}={value}"


def _may_be_meant(read: Override) -> bool:
    return read.is_sweep_override() or isinstance(read.value(), str | list | dict | None)


def _is_plain(value: str, read: Override | None) -> bool:
    """Whether Hydra reads a value as the very text that was typed."""
    return read is not None and not read.is_sweep_override() and read.value() == value


def quoted(text: str) -> str:
    r"""Return a text as Hydra takes it literally.

    >>> print(quoted("it's"), quoted("a,b"))
    'it\'s' 'a,b'
    """
    return str(QuotedString(text=text, quote=Quote.single).with_quotes())


def text_of(value: str) -> str:
    """Return the text of a value as it was typed: without its quotes, interpolations resolved.

    >>> text_of("'a b'"), text_of("it's"), text_of('""')
    ('a b', "it's", '')
    """
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1].replace(f"\\{value[0]}", value[0])
    try:
        return str(OmegaConf.create({"value": value})["value"]) if "${" in value else value
    except OmegaConfBaseException:  # of another part of the configuration: known when composed
        return value


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _read(word: str) -> Override | None:
    """Parse a word as Hydra does; None: Hydra refuses it."""
    try:
        return _parser().parse_override(word)
    except HydraException:
        return None


def refuse_empty_places(config: Any) -> None:
    """Refuse empty names of files and folders, wherever in a configuration they come from.

    Raises:
        ConfigError: naming the key.
    """
    for key, _ in _flat(OmegaConf.to_container(config, resolve=False)):
        if names_place(key) and OmegaConf.select(config, key) == "":
            raise ConfigError(f"{key} is empty; type {key}=FOLDER")


# ------------------------------------------------------------------------------------------- hints


def explain(words: Sequence[str]) -> list[str]:
    """Say for every word that Hydra cannot take what was probably meant.

    Called after Hydra refused to compose, so that its message is followed by a hint.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    schema.register()
    words = _without_flags(words)
    hints = [hint for word in words if (hint := _explain_grammar(word) or _explain_extra(word))]
    groups = [word for word in words if re.fullmatch(r"[a-z_]+=[\w\[\],]+", word)]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        known_groups = {path.name for path in schema.CONF.iterdir() if path.is_dir()}
        chosen = [word for word in groups if word.split("=")[0] in known_groups]
        hints += [hint for word in chosen for hint in _explain_choice(word)]
        try:
            config = compose("config", overrides=chosen)
        except Exception:  # noqa: BLE001 - the hint must never hide Hydra's own message
            return hints
        keys = {key for key, _ in _flat(OmegaConf.to_container(config, resolve=False))}
    for word in words:
        key = word.lstrip("+~").split("=")[0]
        plain = "=" in word and not word.startswith(("~", "hydra"))
        if plain and key not in keys | known_groups and _read(word) is not None:
            hints += _explain_key(word, keys | known_groups, config)
    return hints


def _without_flags(words: Sequence[str]) -> list[str]:
    """Return the words that are no flags of Hydra, nor values of such a flag."""
    before = ["", *words[:-1]]
    return [
        word
        for word, flag in zip(words, before, strict=True)
        if not word.startswith("-") and flag not in _VALUED
    ]


def _explain_grammar(word: str) -> str | None:
    """Say how to type a word that Hydra's grammar refuses, ready for the shell."""
    key, equals, value = word.partition("=")
    if not equals and not word.startswith("~"):
        if Path(word).is_dir():
            typed = shlex.join(["corpus=folder", f"corpus.path={word}"])
            return f"{word}: a word is key=value; for the images of that folder type {typed}"
        return f"{word}: a word is key=value, such as seed=1; --help shows the keys"
    if _read(word) is not None:
        return None
    typed = shlex.quote(f"{key}={quoted(text_of(value))}")
    return f"{word}: as a plain text, Hydra takes that value in quotes: type {typed}"


def _explain_extra(word: str) -> str | None:
    """Say how to install the launcher or sweeper of a word, itself or one that its file chooses."""
    key, _, value = word.partition("=")
    names = [value] if key in ("hydra/launcher", "hydra/sweeper") else []
    if (
        re.fullmatch(r"[a-z_]+=\w+", word)
        and (path := schema.CONF / key / f"{value}.yaml").is_file()
    ):
        names += re.findall(r"override /hydra/(?:launcher|sweeper): (\w+)", path.read_text())
    for name in (name.partition("_")[0] for name in names):
        if name in _EXTRAS and not _is_installed(_EXTRAS[name]):
            return f"{word} needs a package that is missing; type: pip install 'imagegram[{name}]'"
    return None


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False


def _explain_key(word: str, keys: Iterable[str], config: Any) -> list[str]:
    """Say which choice of a group has a key that the present one lacks, or which key is near."""
    key = word.lstrip("+").partition("=")[0]
    if key in _OF_AUDITS:
        typed = shlex.join(["python", "-m", "imagegram.tools.audit", word])
        return [f"{key}: a word of audits: type {typed}"]
    group, _, name = key.partition(".")
    folder = "corpus" if group == "train_corpus" else group
    having = _choices_with(folder, name)
    if having and OmegaConf.is_config(config.get(group)):
        present = config[group].get("name", "the present choice")
        shown = " or ".join(f"{group}={choice}" for choice in having[:3])
        typed = shlex.join([f"{group}={having[0]}", word.lstrip("+")])
        return [f"{key}: {group}={present} has no {name}, but {shown} has: type {typed}"]
    if word.startswith("+"):
        return []  # a new key, which may be meant
    prefix = key.rpartition(".")[0]
    near = {known for known in keys if known.rpartition(".")[0] == prefix} or set(keys)
    near = {known for known in near if not known.endswith("_target_")}
    return [f"{key}: unknown; {did_you_mean(key, near)}"]


def _choices_with(group: str, name: str) -> list[str]:
    """Return the choices of a group that have a field; if some need its value, only these."""
    classes = schema.component_classes()
    found: dict[str, bool] = {}
    for path in sorted((schema.CONF / group).glob("*.yaml")) if group else []:
        values = yaml.safe_load(path.read_text()) or {}
        cls = classes.get((group, str(values.get("_target_", "")).rpartition(".")[2]))
        if cls is not None and dataclasses.is_dataclass(cls):
            fields = {field.name: field.default for field in dataclasses.fields(cls)}
            if name in fields:
                found[path.stem] = values.get(name, fields[name]) in (None, dataclasses.MISSING)
    return [choice for choice, needs in found.items() if needs] or list(found)


def _explain_choice(word: str) -> list[str]:
    """Say which choices of a group do not exist: of ``metric=[a,b]`` Hydra does not list what does.

    >>> [hint[:46] for hint in _explain_choice("metric=[copyin,order]")]
    ["metric=copyin: unknown; did you mean 'copying'"]
    """
    group, _, value = word.partition("=")
    known = {path.stem for path in (schema.CONF / group).glob("*.yaml")}
    chosen = [name for name in re.findall(r"\w+", value) if name != "null"]
    return [
        f"{group}={name}: unknown; {did_you_mean(name, known)}"
        for name in chosen
        if name not in known
    ]


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key of a tree with its value, ``group.name``."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield f"{prefix}{name}", value
            yield from _flat(value, f"{prefix}{name}.")
