"""Every YAML of conf/ composes, instantiates, and is typed by the class that it names."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate

from imagegram import schema
from imagegram.experiment import build
from imagegram.store.fingerprint import identity
from tests.conftest import compose

GROUPS = (
    "corpus",
    "tokenizer",
    "index",
    "generator",
    "sampler",
    "condition",
    "metric",
    "encoder",
    "auditor",
)
NO_COMPONENTS = {schema.CONF / group / "none.yaml" for group in ("condition", "auditor")}
COMPONENTS = sorted(
    {path for group in GROUPS for path in schema.CONF.glob(f"{group}/*.yaml")} - NO_COMPONENTS
)
EXPERIMENTS = sorted(path.stem for path in schema.CONF.glob("experiment/*.yaml"))


def ids(paths: list[Path]) -> list[str]:
    return [f"{path.parent.name}={path.stem}" for path in paths]


def load(path: Path) -> dict[str, object]:
    loaded: dict[str, object] = yaml.safe_load(path.read_text())
    return loaded


@pytest.mark.parametrize("path", COMPONENTS, ids=ids(COMPONENTS))
def test_a_component_yaml_names_its_schema_and_itself(path: Path) -> None:
    document = load(path)
    class_name = str(document["_target_"]).rpartition(".")[2]
    first, second, *chosen = document["defaults"]  # type: ignore[misc]
    assert [first, second] == [f"/schema/{class_name}@_here_", "_self_"]
    brought = [choice for choice in chosen if isinstance(choice, str)]
    groups = {key for choice in chosen if choice not in brought for key in choice}
    if path.parent.name in ("generator", "tokenizer"):  # these choose a sampler
        known = {f"override /{group}@_global_.{group}" for group in ("sampler", "condition")}
        known.add("/tokenizer@conv")  # its codes are learned first
        known.add("/decoder@decoder")  # which writes the text of its codes
        known |= {"/generator@first", "/generator@second"}  # whose probabilities it mixes
        assert groups <= known
    else:
        assert not groups
    if path.parent.name in ("generator", "tokenizer", "sampler"):  # with which it can be measured
        assert all(re.fullmatch(r"/metric/(\w+)@_global_\.metric\.\1", one) for one in brought)
    else:
        assert not brought
    assert document["name"] == path.stem
    cls = schema.component_classes()[path.parent.name, class_name]
    fields = {field.name for field in dataclasses.fields(cls)}
    assert set(document) - {"defaults", "_target_"} <= fields


@pytest.mark.parametrize("path", COMPONENTS, ids=ids(COMPONENTS))
def test_a_component_yaml_composes_and_instantiates(path: Path) -> None:
    group, name = path.parent.name, path.stem
    if group == "metric":
        node = compose(f"metric=[{name}]").metric[name]
    else:
        node = compose(f"{group}={name}")[group]
    if group == "encoder" and name == "module":
        node.target = "torch.nn:Identity"
    component = instantiate(node, _convert_="all")
    assert component.name == name
    if group != "encoder" or name != "module":
        assert identity(component)["class"] == type(component).__name__


#: What else has to be typed under debug: places of four passes, of which pyramid2 has two.
BESIDE_DEBUG = {"break_the_frontier_codes": ["sampler=spatial"]}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_asks_and_runs_under_debug(name: str) -> None:
    text = (schema.CONF / "experiment" / f"{name}.yaml").read_text()
    assert text.startswith("# @package _global_\n# Question:")
    assert re.search(r"^# Command: +python -m imagegram.run -m experiment=" + name, text, re.M)
    assert "mode" not in load(schema.CONF / "experiment" / f"{name}.yaml").get("hydra", {})  # type: ignore[operator]
    debug = "tiny_text" if "override /modality: text" in text else "tiny"
    build(compose(f"experiment={name}", f"debug={debug}", *BESIDE_DEBUG.get(name, [])))


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit", "ray"])
def test_launchers_compose(launcher: str) -> None:
    assert compose(f"launcher={launcher}").seed == 0


@pytest.mark.parametrize(
    ("words", "corpus", "tokenizer", "sampler"),
    [
        ([], "demo", "pyramid3", "balanced"),
        (["modality=text"], "demo_text", "bpe", "text"),
        (["modality=text", "corpus=jsonl"], "jsonl", "bpe", "text"),
        (["modality=text", "tokenizer=hf_tokenizer"], "demo_text", "hf_tokenizer", "text"),
        (["modality=text", "sampler=greedy"], "demo_text", "bpe", "greedy"),
        (["modality=text", "debug=tiny_text"], "demo_text_tiny", "bpe_tiny", "text"),
        (["modality=text", "debug=tiny"], "demo_tiny", "pyramid2", "balanced"),
    ],
)
def test_a_modality_is_one_word_and_others_win(
    words: list[str], corpus: str, tokenizer: str, sampler: str
) -> None:
    cfg = compose(*words)
    assert (cfg.corpus.name, cfg.tokenizer.name, cfg.sampler.name) == (corpus, tokenizer, sampler)


def test_self_comes_before_the_groups() -> None:
    defaults = load(schema.CONF / "config.yaml")["defaults"]
    assert isinstance(defaults, list)
    assert defaults[:2] == ["schema/config@_here_", "_self_"]


GENERATOR = """defaults:
  - /schema/NgramGenerator@_here_
  - _self_
  - override /sampler@_global_.sampler: greedy
_target_: imagegram.generators.ngram.model.NgramGenerator
name: probe
"""
EXPERIMENT = """# @package _global_
defaults: [{overrides}]
{values}
"""


@pytest.mark.parametrize(
    ("words", "sampler", "temperature"),
    [
        (["generator=probe"], "greedy", 0.0),
        (["generator=probe", "sampler=infinigram"], "infinigram", 0.9),
        (["sampler=infinigram", "generator=probe", "sampler.temperature=2"], "infinigram", 2.0),
        (["experiment=alone"], "greedy", 0.5),
        (["experiment=both"], "infinigram", 0.9),
        (["experiment=both", "sampler=balanced", "sampler.temperature=1"], "balanced", 1.0),
        (["experiment=both", "generator=ngram"], "infinigram", 0.9),
    ],
)
def test_a_generator_chooses_a_sampler_and_people_choose_another(
    words: list[str], sampler: str, temperature: float, tmp_path: Path
) -> None:
    files = {
        "generator/probe": GENERATOR,
        "experiment/alone": EXPERIMENT.format(
            overrides="override /generator: probe", values="sampler: {temperature: 0.5}"
        ),
        "experiment/both": EXPERIMENT.format(
            overrides="override /generator: probe, override /sampler: infinigram", values=""
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    cfg = compose(f"hydra.searchpath=[file://{tmp_path}]", *words)
    assert (cfg.sampler.name, cfg.sampler.temperature) == (sampler, temperature)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("sampler.temperature=hot", "sampler.temperature"),
        ("num_samples=many", "num_samples"),
        ("tokenizer.sizes=8", "tokenizer.sizes"),
        ("sampler.temprature=1", "sampler.temprature"),
        ("unknown=1", "unknown"),
    ],
)
def test_a_wrong_value_or_key_fails_when_composed(word: str, key: str) -> None:
    with pytest.raises(ConfigCompositionException, match=re.escape(key)):
        compose(word)


def test_a_mistyped_key_gets_a_hint(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    result = command("imagegram.run", ["sampler.temprature=1", "--cfg", "job"])
    assert result.returncode == 1
    assert "did you mean 'sampler.temperature'?" in result.stderr
