"""Tables of docs/metrics.md are what the metrics say of their scores; make golden writes them."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from imagegram.metrics.shipped import shipped_metrics, shipped_scores
from imagegram.records import ScoreInfo
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "metrics.md"
#: ``<!-- scores of copying, aligned -->`` and the table below it.
TABLE = re.compile(r"(<!-- scores of ([a-z_, ]+) -->\n)(?:\n\|[^\n]*)*\n*")
METRICS: dict[str, Any] = {metric.name: metric for metric in shipped_metrics()}


def line(metric: str, info: ScoreInfo) -> str:
    name = re.sub(r"\{(\w+)(?::d)?\}", r"<\1>", info.name)
    title, words = (
        re.sub(r"\{(\w+)\}", r"<\1>", text).replace("<", "&lt;")
        for text in (info.title, info.words)
    )
    size = "yes" if info.moves_with_n else ""
    return (
        f"| {metric} | `{name}` | {title} | {info.unit} | {info.better or ''} | {size} | {words} |"
    )


def table(names: str) -> str:
    heads = ("metric", "score", "in reports", "unit", "better", "equal N only", "meaning")
    lines = ["", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in names.split(", "):
        for number, info in enumerate(METRICS[name].SCORES):
            lines.append(line("" if number else f"`{name}`", info))
    return "\n".join([*lines, "", ""])


def test_the_tables_are_what_the_metrics_say() -> None:
    page = PAGE.read_text()
    written = TABLE.sub(lambda found: found[1] + table(found[2]), page)
    if os.environ.get("IMAGEGRAM_WRITE_GOLDEN"):
        PAGE.write_text(written)
        return
    assert page == written, "type: make golden"


def test_every_metric_is_in_one_table() -> None:
    told = [name for found in TABLE.finditer(PAGE.read_text()) for name in found[2].split(", ")]
    assert sorted(told) == sorted(METRICS)


@pytest.mark.parametrize("short", [info.short for info in shipped_scores() if info.short])
def test_short_names_are_told(short: str) -> None:
    assert re.search(rf"`(eval/)?{short}`", (REPOSITORY / "docs" / "sweeps.md").read_text())
