"""The workspace asks for keys that runs log, and its JSON is what W&B's package makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from imagegram.errors import ConfigError
from imagegram.metrics.shipped import shipped_scores
from imagegram.tools import wandb_workspace as tool
from tests.conftest import compose

pytest.importorskip("wandb_workspaces", reason="pip install 'imagegram[workspace]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))


@pytest.fixture
def view(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert tool.main(["entity=me", "--print"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def sections(view: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found = view["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in found}


def accessors(view: dict[str, Any]) -> Iterator[str]:
    """Every place where a panel says which number it shows: ``summary:...`` or ``config:...``."""
    for panels in sections(view).values():
        for panel in panels:
            config = panel["config"]
            yield from (config[axis] for axis in ("xAxis", "yAxis") if axis in config)
            yield from (column["accessor"] for column in config.get("columns", []))
            if "targetKey" in config:
                yield f"summary:{config['targetKey']}"


def test_sections_and_their_panels(view: dict[str, Any]) -> None:
    kinds = {
        name: [panel["viewType"] for panel in panels] for name, panels in sections(view).items()
    }
    assert kinds == {
        "Frontier: copies or chaos": ["Scatter Plot"] * 12,
        "Size of the corpus": ["Scatter Plot"] * 24,
        "Depth of the pyramid": ["Scatter Plot"] * 24,
        "Length of the prefix": ["Scatter Plot"] * 24,
        "All knobs": ["Parallel Coordinates Plot", "Parameter Importance"],
        "Pictures": ["Media Browser", "Media Browser"],
    }


def test_panels_show_short_names_and_knobs_that_exist(view: dict[str, Any]) -> None:
    shown = set(accessors(view))
    scores = {key.removeprefix("summary:eval/") for key in shown if key.startswith("summary:")}
    assert scores == {info.short for info in shipped_scores() if info.short}
    assert {"kid", "max_source_share_p95", "heldout_bits_per_token"} <= scores
    config = OmegaConf.to_container(compose("debug=tiny"))
    assert isinstance(config, dict)
    config["tokenizer"]["num_tokens"] = 16  # ordered tokenizers have it
    logged = config | {"corpus_num_images": 60, "tokenizer_num_levels": 2}
    for key in shown - {f"summary:eval/{name}" for name in scores}:
        name, *rest = key.removeprefix("config:").split(".")
        assert rest[0] == "value"
        node = logged[name]
        for part in rest[1:]:
            node = node[part]
        assert isinstance(node, int | float)


def test_axes_of_the_curves(view: dict[str, Any]) -> None:
    size = [panel["config"] for panel in sections(view)["Size of the corpus"]]
    assert {(panel["xAxis"], panel["xAxisLogScale"]) for panel in size} == {
        ("config:corpus_num_images.value", True)
    }
    depth = [panel["config"] for panel in sections(view)["Depth of the pyramid"]]
    assert {panel["xAxis"] for panel in depth} == {"config:tokenizer_num_levels.value"}
    prefix = [panel["config"] for panel in sections(view)["Length of the prefix"]]
    assert {(panel["xAxis"], panel["xAxisLogScale"]) for panel in prefix} == {
        ("config:tokenizer.value.num_tokens", True)
    }
    media = [panel["config"]["mediaKeys"] for panel in sections(view)["Pictures"]]
    assert media == [["generate/grid"], ["copies/worst"]]


def test_the_package_reads_its_own_json_back(view: dict[str, Any]) -> None:
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    read = WorkspaceViewspec.model_validate(view)
    assert json.loads(read.model_dump_json(by_alias=True, exclude_none=True)) == view


def test_without_a_key_it_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match="wandb login"):
        tool.main(["entity=me"])


def test_without_an_entity_it_says_what_to_type() -> None:
    with pytest.raises(ConfigError, match="entity=YOUR_NAME"):
        tool.main(["--print"])


def test_a_key_saves_the_same_view(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb_workspaces.workspaces as ws

    saved = []

    def save(workspace: Any) -> None:
        saved.append(tool.view_spec(workspace))
        workspace._internal_name = "nw-1-v"

    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setattr(ws.Workspace, "save", save)
    monkeypatch.setattr(ws.Workspace, "url", "https://example.org/view")
    assert tool.main(["entity=me", "project=mine"]) == 0
    assert capsys.readouterr().out == "https://example.org/view\n"
    assert len(saved) == 1
