from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from imagegram.charts import histogram_chart, line_chart, scale_chart
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.novelty import NoveltyMetric
from imagegram.metrics.order import OrderMetric
from imagegram.neighbours import nearest_documents
from imagegram.records import Measurement
from imagegram.stages.evaluate import Score
from imagegram.stages.pairs import find_pairs, read_pairs, write_pairs
from imagegram.stages.report import ReportInputs, write_report
from tests.image_sets import (
    TOKENIZER,
    MemoryImages,
    MemoryReference,
    MemoryTokens,
    random_tokens,
)

CORPUS = MemoryTokens(shards=[random_tokens(30, seed=0), random_tokens(20, seed=1)])
SAMPLES = MemoryImages.of(np.concatenate([random_tokens(5, seed=2), CORPUS.all[[7, 41]]]))


class Page(HTMLParser):
    """Collects tags, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def inputs(**changes: object) -> ReportInputs:
    reference = MemoryReference(CORPUS)
    curves = {}
    for name, images in {
        "generated": SAMPLES,
        "floor": MemoryImages.of(random_tokens(7, seed=5)),
    }.items():
        parts: list[Measurement] = [
            metric.measure(generated=images, reference=reference)
            for metric in (CopyingMetric(), NoveltyMetric(max_n=16, shown_n=(8,)), OrderMetric())
        ]
        curves[name] = {key: array for part in parts for key, array in part.curves.items()}
    fields = {
        "title": "toy <corpus>",
        "config_yaml": "seed: 0 # <script>alert(1)</script>",
        "facts": [("corpus", "toy & more")],
        "scores": {
            "exact_copy_rate": Score(value=2 / 7, floor=0.0, ceiling=1.0, low=0.04, high=0.71),
            "fd_pixels": Score(value=None, floor=1234.5, ceiling=None),
            "my_own_score": Score(value=0.25, floor=0.25, ceiling=0.25),
        },
        "curves": curves,
        "generated": SAMPLES,
        "tokenizer": TOKENIZER,
        "stages": [{"name": "index", "hit": True, "digest": "abc", "duration_s": 0.5, "path": "p"}],
        "notes": {"fd_pixels": "generated: too few"},
    }
    fields |= changes
    curves = fields["curves"]
    fields["pairs"] = find_pairs(
        curves.get("generated", {}),
        generated=SAMPLES,
        tokens=CORPUS,
        tokenizer=TOKENIZER,
        max_pairs=64,
    )
    return ReportInputs(**fields)


def test_the_report_holds_everything_and_links_to_nothing(tmp_path: Path) -> None:
    path = write_report(tmp_path, inputs())
    html = path.read_text()
    page = Page(html)
    assert path == tmp_path / "report.html"
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    for text in ("28.6 %", "1,234.5", "too few", "toy <corpus>", "toy & more", "abc", "0.50"):
        assert text in page.text


def test_copies_come_first_beside_their_source_at_distance_zero(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path, inputs()).read_text()).text
    cards = re.findall(r"Sample (\d+)( exact copy)?.*?RMS ([\d.]+).*?k(\d+)", text, re.DOTALL)
    assert [card[0] for card in cards[:2]] == ["5", "6"]
    assert [card[1].strip() for card in cards[:3]] == ["exact copy", "exact copy", ""]
    assert [(card[2], card[3]) for card in cards[:2]] == [("0.0", "7"), ("0.0", "41")]


def test_text_of_the_corpus_and_the_configuration_is_escaped(tmp_path: Path) -> None:
    html = write_report(tmp_path, inputs()).read_text()
    assert "<b>caption" not in html
    assert "&lt;b&gt;caption" in html
    assert "<script>" not in html


def test_a_report_without_curves_or_scores_is_still_one(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path, inputs(scores={}, curves={}, notes={})).read_text()).text
    assert "Sample 0" in text
    assert "from one image" not in text


def test_the_nearest_document_is_that_of_brute_force() -> None:
    # Toy images have 2 x 2 pixels, all of which the 16 x 16 thumbnails show; yet bilinear
    # thumbnails weigh pixels differently, so the nearest eight must hold the nearest by pixels.
    images = SAMPLES.images
    decoded = TOKENIZER.decode(CORPUS.all).astype(float)
    found = nearest_documents(
        images, tokens=CORPUS, tokenizer=TOKENIZER, suspects=[None] * len(images)
    )
    for image, neighbour in zip(images, found, strict=True):
        rms = np.sqrt(((decoded - image) ** 2).mean(axis=(1, 2, 3)))
        assert neighbour.rms == pytest.approx(rms.min())
        assert neighbour.document == int(rms.argmin())
        assert neighbour.metadata["key"] == f"k{neighbour.document}"


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    curves = {
        "source_share": np.array([0.1, 0.5, 0.2, 0.0, 0.0, 0.9, 1.0]),
        "source_document": np.array([3.0, -1.0, 8.0, 1.0, 2.0, 7.0, 41.0]),
        "exact_copy": np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
    }
    context = {"generated": SAMPLES, "tokens": CORPUS, "tokenizer": TOKENIZER}
    pairs = find_pairs(curves, max_pairs=5, **context)  # type: ignore[arg-type]
    assert [pair.sample for pair in pairs] == [6, 5, 1, 2, 0]
    assert [pair.exact for pair in pairs] == [True, True, False, False, False]
    assert any(pair.source is not None for pair in pairs)
    write_pairs(tmp_path, pairs)
    again = read_pairs(tmp_path)
    assert repr(again) == repr(pairs)
    for pair, other in zip(pairs, again, strict=True):
        assert np.array_equal(pair.nearest.image, other.nearest.image)
        assert (pair.source is None) == (other.source is None)


def test_charts_leave_gaps_for_what_is_not_defined() -> None:
    curve = np.array([np.nan, 0.2, 0.4, np.nan, 0.6])
    svg = str(line_chart({"generated": curve}, title='a "title" & more'))
    assert "nan" not in svg
    assert re.search(r'd="M\S+ \S+L\S+ \S+M\S+ \S+"', svg)
    assert "&quot;title&quot; &amp; more" in svg


def test_bars_are_as_high_as_their_shares() -> None:
    shares = {"generated": np.array([0.5, 0.25, 0.25]), "floor": np.array([1.0, 0.0, 0.0])}
    svg = str(histogram_chart(np.array([0, 1, 2]), shares, title="t"))
    heights = [float(h) for h in re.findall(r'class="generated"[^>]*height="([\d.]+)"', svg)]
    assert heights == pytest.approx([2 * heights[1], heights[1], heights[1]], abs=0.2)


def test_a_value_beyond_an_end_is_drawn_at_the_margin() -> None:
    def place(value: float) -> float:
        svg = str(scale_chart(value, 10.0, 0.0, (None, None)))
        return float(re.findall(r'class="generated" cx="([\d.]+)"', svg)[0])

    assert place(10.0) < place(5.0) < place(0.0) < place(-100.0)
    assert place(-100.0) == place(-1e9) <= 132
