"""The files of a sweep's report: the page, its figures, pictures, the tool and the callback."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from imagegram import schema
from imagegram.claims import Claims
from imagegram.report.passages import write_copies
from imagegram.sweeps.callback import SweepReport
from imagegram.sweeps.jobs import read_jobs
from imagegram.sweeps.samples import sample_tables
from imagegram.sweeps.styles import Styles, dark_partners, palette
from imagegram.sweeps.sweep import read_sweep
from imagegram.sweeps.write import write_report
from imagegram.texts.samples import write_texts
from imagegram.tools import report as tool
from tests.conftest import compose
from tests.job_folders import make_job, parts

SHARE, DISTANCE = "largest_source_share", "kd_pixels"
EVIL = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """Collects elements, links, scripts and the text beside them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    @property
    def figures(self) -> list[dict[str, Any]]:
        """What plotly is told, one a figure."""
        found = [json.loads(text) for text in self.scripts if text.startswith("{")]
        return [spec for spec in found if "data" in spec]


def make_sweep(sweep: Path, **changes: Any) -> Path:
    """Contexts 3 and 12 x matching free and position x seeds 0 and 1, and a failed job."""
    for number in range(8):
        config = {
            "sampler.max_context": (3, 12)[number // 4],
            "sampler.matching": ("free", "position")[number // 2 % 2],
            "seed": number % 2,
            **changes,
        }
        scores = {
            SHARE: parts(number / 10, floor=0.02, ceiling=1.0, low=0.0, high=0.9),
            DISTANCE: parts(9.0 - number, floor=0.5, ceiling=0.0),
            "my_score": parts(None),
        }
        recipes = {SHARE: {}, DISTANCE: {"N": "4"}, "my_score": {}}
        greys = [10 * number + k for k in range(20)]
        make_job(sweep, number, config=config, scores=scores, recipes=recipes, samples=greys)
    make_job(sweep, 8, status="failed", error=f"ConfigError: {EVIL}")
    return sweep


def test_the_page_holds_everything_and_loads_nothing(tmp_path: Path) -> None:
    path = write_report([make_sweep(tmp_path)], out=tmp_path)
    html = path.read_text()
    page = Page(html)
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    ours = html.replace(max(page.scripts, key=len), "")  # all but the library itself
    assert not re.search(r"https?://|url\(|@import", ours)
    for text in ("8 of 9 completed", "1 of 9 jobs did not finish (1 failed)", "max_context", "2"):
        assert text in page.text
    # a frontier, and one panel a headline score over the contexts
    assert [len(figure["data"]) > 0 for figure in page.figures] == [True] * 3
    for name in ("results.csv", "results.parquet"):
        assert (tmp_path / name).stat().st_size


def test_the_page_begins_with_what_copied_least_and_what_is_best(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    for number, share in ((9, 0.0), (10, 0.25)):
        config = {"sampler.max_context": 20 + number, "sampler.matching": "free"}
        scores = {
            "exact_copy_rate": parts(share, floor=0.0, ceiling=1.0),
            SHARE: parts(number / 10, floor=0.02, ceiling=1.0),
            DISTANCE: parts(9.0 - number, floor=0.5, ceiling=0.0),
        }
        recipes = {name: {"N": "4"} if name == DISTANCE else {} for name in scores}
        make_job(sweep, number, config=config, scores=scores, recipes=recipes)
    text = Page(write_report([sweep], out=tmp_path).read_text()).text
    header = text[: text.index("jobs")].replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "Exact copies in 1 of 2 configurations, most with max_context 30, matching free: 25.0 % "
        "of the samples."
    ) in header
    # Means over two seeds: 0.05 of the first two jobs, in the same order 8.5.
    assert re.search(
        r"Copies least: max_context 3, matching free, with largest source 5\.0 % \[.*\(held-out "
        r"2\.0 %\) and kernel distance 8\.50",
        header,
    )
    assert (
        "Best quality: max_context 30, matching free, with kernel distance -1 (held-out" in header
    )


def test_one_configuration_has_no_best(tmp_path: Path) -> None:
    make_job(tmp_path, 0, scores={SHARE: parts(0.5), DISTANCE: parts(1.0)})
    html = write_report([tmp_path], out=tmp_path).read_text()
    assert 'class="verdict"' not in html


def test_text_of_the_user_is_text_everywhere(tmp_path: Path) -> None:
    changes = {"corpus.name": EVIL, "sampler.name": "<b>bold</b>"}
    sweep = make_sweep(tmp_path, **changes)
    config = {"sampler.matching": EVIL, "sampler.max_context": 7}
    scores = {SHARE: parts(0.5, floor=0.1, ceiling=1.0), DISTANCE: parts(1.0), EVIL: parts(1.0)}
    make_job(sweep, 9, config={**changes, **config}, scores=scores)
    html = write_report([sweep], out=tmp_path).read_text()
    page = Page(html)
    assert "<script>alert(1)" not in html
    assert "<b>bold" not in html
    assert EVIL in page.text
    tags = ("script", "/script", "b>bold")
    for figure in page.figures:
        for label in re.findall(r"<\s*([^>]{1,7})", json.dumps(figure)):
            assert not label.startswith(tags), label


def test_every_colour_of_a_figure_has_a_partner_for_the_dark(tmp_path: Path) -> None:
    page = Page(write_report([make_sweep(tmp_path)], out=tmp_path).read_text())
    (partners,) = (json.loads(s) for s in page.scripts if s.startswith('{"#'))
    assert partners[palette()["paper"]] == palette("dark")["paper"]
    for figure in page.figures:
        assert set(re.findall(r"#[0-9a-f]{6}", json.dumps(figure))) <= set(partners)


def test_colours_of_values_differ_on_paper_and_in_the_dark(tmp_path: Path) -> None:
    axes = read_sweep([make_sweep(tmp_path)]).axes
    styles = Styles.of(axes)
    assert styles.color_axis is not None
    assert styles.shape_axis is not None
    assert styles.shape_axis.key == "sampler.matching"
    colours = styles.colors()
    assert len({light for _, light, _ in colours}) == len({d for *_, d in colours}) == len(colours)
    assert set(dark_partners(axes)) >= {light for _, light, _ in colours}


def test_marks_tell_where_they_are_and_optimal_ones_have_a_ring(tmp_path: Path) -> None:
    page = Page(write_report([make_sweep(tmp_path)], out=tmp_path).read_text())
    traces = page.figures[0]["data"]
    told = [t["customdata"][0] for t in traces if "max_context" in str(t.get("customdata"))]
    assert len(told) == 4
    assert "max_context = 3<br>matching = free" in told[0]
    assert f"{SHARE} <b>5.0 %</b>" in told[0]
    assert "mean of 2 seeds" in told[0]
    symbols = [str(trace.get("marker", {}).get("symbol")) for trace in traces]
    ring = traces[symbols.index("circle-open")]
    assert len(ring["x"]) == 4  # less copying is more distance, in every step
    crosses = [t for t, symbol in zip(traces, symbols, strict=True) if "thin" in symbol]
    assert [(t["x"], t["y"]) for t in crosses] == [([0.02], [0.5]), ([1.0], [0.0])]


def test_the_same_seeds_stand_at_the_same_place(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path)
    axes = read_sweep([sweep]).axes
    (table,) = sample_tables(read_jobs([sweep]), axes)
    assert table.columns == ("free", "position")
    assert [heading for heading, _ in table.rows] == ["3", "12"]
    for row, (_, cells) in enumerate(table.rows):
        for column, cell in enumerate(cells):
            assert cell is not None
            assert cell.seed == 0
            first = 10 * (4 * row + 2 * column)  # the job of seed 0
            assert cell.images is not None
            assert cell.images[:, 0, 0, 0].tolist() == [first + k for k in range(16)]


def test_a_combination_that_nobody_ran_is_an_empty_cell(tmp_path: Path) -> None:
    for number, (context, matching) in enumerate([(3, "free"), (6, "free"), (6, "position")]):
        config = {"sampler.max_context": context, "sampler.matching": matching}
        make_job(tmp_path, number, config=config, samples=[number])
    sweep = read_sweep([tmp_path])
    (table,) = sample_tables(sweep.counted, sweep.axes)
    assert [[cell is None for cell in cells] for _, cells in table.rows] == [
        [False, True],
        [False, False],
    ]
    assert "no job" in Page(write_report([tmp_path], out=tmp_path).read_text()).text


def test_pictures_of_the_page_are_the_samples(tmp_path: Path) -> None:
    make_job(tmp_path, 0, samples=[7, 9])
    page = Page(write_report([tmp_path], out=tmp_path).read_text())
    found = [base64.b64decode(link.partition(",")[2]) for link in page.links]
    greys = [np.asarray(Image.open(io.BytesIO(data)))[0, 0].tolist() for data in found]
    assert greys == [[7, 7, 7], [9, 9, 9]]


def test_texts_of_the_page_are_the_worst_copies_and_the_first_samples(tmp_path: Path) -> None:
    source = {"key": EVIL, "document": 3, "share": 0.5}
    passage = {"before": "a ", "copied": "wolf", "after": " b", "starts": True, "ends": False}
    run = {"start": 4, "end": 8, "length": 2, "rank": 0, "title": "t"}
    record = {"sample": 7, "tokens": 4, "longest": 4, "text": "The wolf <b>.", "runs": [run]}
    for number, context in enumerate((3, 6, 9)):
        folder = make_job(tmp_path, number, config={"sampler.max_context": context})
        (folder / "samples").mkdir()
        write_texts(folder / "samples" / "texts.jsonl", ["one<i>", "x" * 400, "third"])
        if number:
            write_copies(folder, [record | {"sources": [source | {"passage": passage}]}])
    (folder / "copies.jsonl").write_text('{"sample": ')  # a run that was killed
    sweep = read_sweep([tmp_path])
    (table,) = sample_tables(sweep.counted, sweep.axes)
    copies = [cell.copy for _, cells in table.rows for cell in cells if cell is not None]
    assert [copy and copy.sample for copy in copies] == [None, 7, None]
    written = write_report([tmp_path], out=tmp_path).read_text()
    assert 'The <span class="run s0 o3" title="t">wolf</span> &lt;b&gt;.' in written
    assert 'a <span class="run s0 o5">wolf</span> b …' in written
    page = Page(written)
    assert "sample 7: 50.0\N{NO-BREAK SPACE}% from" in page.text
    assert "one<i>" in page.text
    assert "third" not in page.text
    assert "held-out images" not in page.text


def test_a_sweep_of_failures_has_a_report_too(tmp_path: Path) -> None:
    make_job(tmp_path, 0, status="failed", error="CorpusError: gone")
    text = Page(write_report([tmp_path], out=tmp_path).read_text()).text
    assert "0 of 1 completed" in text
    assert "CorpusError: gone" in text
    assert "No frontier is drawn: no job has a copying score" in text


def test_recipes_are_told_and_shown_apart(tmp_path: Path) -> None:
    for number in range(4):
        size = str((16, 64)[number // 2])
        recipes = {SHARE: {}, DISTANCE: {"N": size}}
        scores = {SHARE: parts(0.1 * number), DISTANCE: parts(1.0)}
        config = {"num_samples": int(size), "seed": number % 2}
        make_job(tmp_path, number, config=config, scores=scores, recipes=recipes)
    page = Page(write_report([tmp_path], out=tmp_path).read_text())
    assert "Recipes differ for kd_pixels: N = 16 (2 jobs); N = 64 (2 jobs)." in page.text
    assert "kd_pixels is not drawn over num_samples for N = 16; N = 64" in page.text
    assert len(page.figures) == 3  # a frontier a recipe, and the share over num_samples


def test_the_tool_says_what_to_type_and_where_the_report_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, out = make_sweep(tmp_path / "sweep"), tmp_path / "new" / "folder"
    words = [f"sweep={sweep}", f"out={out}", "x=my_score", f"y={SHARE}"]
    assert tool.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out / "report.html")
    for wrong, message in (
        ([], r"type: python -m imagegram\.tools\.report sweep="),
        ([f"sweep={tmp_path / 'none'}"], "no folder"),
        ([f"sweep={sweep}", "x=exact_copy"], "no job has a score 'exact_copy'"),
    ):
        with pytest.raises(Exception, match=message):
            tool.main(wrong)


def test_the_callback_reports_and_never_harms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(make_sweep(tmp_path / "good"))}}})
    callback = SweepReport()
    callback.on_multirun_start(config)
    callback.on_multirun_end(config)
    assert f"report of the sweep: {tmp_path / 'good' / 'report.html'}" in capsys.readouterr().err
    make_sweep(tmp_path / "bad")
    (tmp_path / "bad" / "report.html").mkdir()  # where nothing can be written
    callback.folder = tmp_path / "bad"
    callback.on_multirun_end(config)
    error = capsys.readouterr().err
    assert "no report of the sweep (IsADirectoryError" in error
    assert f"python -m imagegram.tools.report sweep={tmp_path / 'bad'}" in error


@pytest.mark.parametrize(("choice", "targets"), [("sweep_report", 1), ("none", 0)])
def test_the_callback_is_a_choice_of_the_configuration(choice: str, targets: int) -> None:
    from hydra import compose as compose_all
    from hydra import initialize_config_dir

    compose("debug=tiny")  # registers the schemas
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        words = [f"hydra/callbacks={choice}"]
        nodes = compose_all("config", words, return_hydra_config=True).hydra.callbacks.values()
        assert [type(instantiate(node)) for node in nodes] == [Claims] + [SweepReport] * targets


def test_a_run_does_not_pay_for_reports_of_sweeps() -> None:
    code = (
        "import sys, imagegram.sweeps.callback\n"
        "heavy = {'plotly', 'pyarrow', 'numpy', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
