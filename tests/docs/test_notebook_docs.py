"""The cells of docs/notebook.md run as they stand, one after the other, beside an event loop."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import imagegram
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "notebook.md").read_text()
CELLS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_cells_of_the_page_run(
    demo_outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("outputs").symlink_to(demo_outputs)
    small = imagegram.run

    def run(*words: str) -> Any:
        return small("debug=tiny", *words)

    monkeypatch.setattr(imagegram, "run", run)
    cells: dict[str, Any] = {}

    async def notebook() -> None:
        for cell in CELLS:
            exec(compile(cell, "docs/notebook.md", "exec"), cells)

    asyncio.run(notebook())
    made = cells["run"]
    assert made.samples.images.shape == (16, 16, 16, 3)
    assert made.samples.trace["suffix_len"].shape == made.samples.tokens.shape == (16, 960)
    assert made.report.is_file()
    assert set(cells["rates"]) == {3, 12}
    assert "did you mean 'pyramid2'?" in capsys.readouterr().out
    assert len(CELLS) == 6
