from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from imagegram.images.modality import IMAGES
from imagegram.layout import TokenLayout
from imagegram.metrics.aligned import AlignedMetric
from imagegram.metrics.copying import CopyingMetric
from imagegram.metrics.novelty import NoveltyMetric
from imagegram.metrics.order import OrderMetric
from imagegram.records import EOS_TOKEN_ID, Measurement, ScoreInfo
from imagegram.report.answer import Answer, Example, Number, Wording
from imagegram.report.charts import HEAT, heat_map, histogram_chart, line_chart, scale_chart
from imagegram.report.copies import small_url
from imagegram.report.figures import chart_sections, heat_sections
from imagegram.report.neighbours import nearest_documents
from imagegram.report.page import ReportInputs, write_report
from imagegram.report.pairs import find_pairs, read_pairs, write_pairs
from imagegram.report.provenance import trace_samples
from imagegram.report.readings import Reading
from imagegram.report.tables import calibration_table, score_groups, stage_rows
from imagegram.stages.evaluate import Score
from imagegram.store.manifest import Artifact, FileEntry, Manifest
from tests.image_sets import (
    LAYOUT,
    TOKENIZER,
    MemoryImages,
    MemoryReference,
    MemoryTokens,
    random_tokens,
)

CORPUS = MemoryTokens(shards=[random_tokens(30, seed=0), random_tokens(20, seed=1)])
SAMPLES = MemoryImages.of(np.concatenate([random_tokens(5, seed=2), CORPUS.all[[7, 41]]]))
ANSWER = Answer(
    warnings=(),
    found="2 of 7 samples are <exact> copies",
    limit="",
    verdict=("They copy.",),
    numbers=(
        Number(
            title="largest source",
            words="How <much>.",
            value="20.0 %",
            interval="[18.0, 22.0] %",
            floor="8.0 %",
            place="copies more",
        ),
    ),
    readings=(
        Reading(
            info=ScoreInfo(name="exact_copy_rate", unit="% of samples"),
            values={"generated": 2 / 7},
            places={"generated": "copies found"},
        ),
    ),
)


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
            for metric in (
                CopyingMetric(),
                AlignedMetric(),
                NoveltyMetric(max_n=16, shown_n=(8,)),
                OrderMetric(),
            )
        ]
        curves[name] = {key: array for part in parts for key, array in part.curves.items()}
    fields = {
        "wording": Wording(title="toy <corpus>", facts=[("corpus", "toy & more")]),
        "answer": ANSWER,
        "config_yaml": "seed: 0 # <script>alert(1)</script>",
        "scores": {
            "exact_copy_rate": Score(value=2 / 7, floor=0.0, ceiling=1.0, low=0.04, high=0.71),
            "fd_pixels": Score(value=None, floor=1234.5, ceiling=None),
            "my_own_score": Score(value=0.25, floor=0.25, ceiling=0.25),
        },
        "infos": {"exact_copy_rate": ScoreInfo(name="exact_copy_rate", unit="% of samples")},
        "curves": curves,
        "generated": SAMPLES,
        "tokenizer": TOKENIZER,
        "stages": {},
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
    if "traced" not in fields:
        fields["traced"] = trace_samples(
            [pair.sample for pair in fields["pairs"][:4]],
            generated=SAMPLES,
            index=CORPUS.index(),
            clusters=reference.clusters(),
            tokens=CORPUS,
            tokenizer=TOKENIZER,
        )
    return ReportInputs(**fields)


def artifact(folder: Path, kind: str, *, size: int, seconds: float, **facts: int) -> Artifact:
    """A folder with one file and a manifest."""
    folder.mkdir(parents=True)
    manifest = Manifest(
        kind=kind,
        digest=folder.name,
        payload={},
        files={"file": FileEntry(size_bytes=size, sha256="")},
        facts=facts,
        created_at="",
        duration_s=seconds,
        made_by={},
    )
    manifest.write(folder)
    return Artifact(path=folder, manifest=manifest)


def test_the_report_holds_everything_and_links_to_nothing(tmp_path: Path) -> None:
    made = artifact(tmp_path / "abc", "index", size=2_500_000, seconds=0.5, num_documents=50)
    stages = {"index": {"hit": True, "digest": "abc", "path": str(made.path)}}
    path = write_report(tmp_path, inputs(stages=stages))
    html = path.read_text()
    page = Page(html)
    assert path == tmp_path / "report.html"
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside
    assert all(link.startswith("data:image/png;base64,") for link in outside)
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(re.findall(r' id="([^"]+)"', html))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert not re.search(r"https?://|url\(|@import", html)
    for text in ("28.6 %", "1,234", "too few", "toy <corpus>", "toy & more", "abc", "2.50 MB"):
        assert text in page.text


def test_every_id_of_the_page_is_there_once(tmp_path: Path) -> None:
    names = re.findall(r' id="([^"]+)"', write_report(tmp_path, inputs()).read_text())
    assert len(names) == len(set(names))


def test_copies_come_first_beside_their_source_at_distance_zero(tmp_path: Path) -> None:
    text = Page(write_report(tmp_path, inputs()).read_text()).text
    assert text.index("Worst copies") < text.index("Sample 5")
    pattern = r"Sample (\d+)( exact copy)?.*?like by ([\d.]+) of 255.*?k(\d+)"
    cards = re.findall(pattern, text, re.DOTALL)
    assert [card[0] for card in cards[:2]] == ["5", "6"]
    assert [card[1].strip() for card in cards[:3]] == ["exact copy", "exact copy", ""]
    assert [(card[2], card[3]) for card in cards[:2]] == [("0", "7"), ("0", "41")]


def test_text_of_the_corpus_and_the_configuration_is_escaped(tmp_path: Path) -> None:
    html = write_report(tmp_path, inputs()).read_text()
    assert "<b>caption" not in html
    assert "&lt;b&gt;caption" in html
    assert "<script>" not in html


def test_a_report_without_curves_or_scores_is_still_one(tmp_path: Path) -> None:
    text = Page(
        write_report(tmp_path, inputs(scores={}, curves={}, notes={}, traced=())).read_text()
    ).text
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


def test_most_of_a_short_text_is_no_larger_copy_than_a_long_passage() -> None:
    rows = np.full((3, 20), EOS_TOKEN_ID, dtype=np.uint16)
    for row, size in enumerate([4, 20, 20]):
        rows[row, :size] = 1
    texts = SimpleNamespace(num_images=3, tokens=rows, images=None)
    curves = {"source_share": np.array([0.75, 0.25, 0.1]), "source_document": np.zeros(3)}
    pairs = find_pairs(curves, generated=texts, tokens=CORPUS, tokenizer=TOKENIZER, max_pairs=3)  # type: ignore[arg-type]
    assert [pair.sample for pair in pairs] == [1, 0, 2]


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


# ------------------------------------------------------------------------------------------ cards


def test_a_card_shows_cells_sources_and_ribbons_of_its_sample(tmp_path: Path) -> None:
    html = write_report(tmp_path, inputs()).read_text()
    cards = re.findall(r'<article class="copy[^"]*">.*?</article>', html, re.DOTALL)
    assert len(cards) == 4
    exact = cards[0]
    assert "exact copy" in exact
    assert "1 source " in exact
    assert exact.count("<title>training image 7 &#x27;k7&#x27;, 15 tokens from row 0 column 0") == 4
    assert exact.count('class="ribbon"') == LAYOUT.num_levels
    assert exact.count('href="data:image/png') == 2  # the sample, in colours and in grey
    assert 'class="s0 o5"' in exact
    assert "others" in cards[2] or "held by none" in cards[2]


def test_without_a_trace_the_pairs_stand_alone(tmp_path: Path) -> None:
    html = write_report(tmp_path, inputs(traced=())).read_text()
    assert "<article" not in html
    assert html.count('alt="nearest training image"') == SAMPLES.num_images


def test_an_ordered_sequence_has_no_places_in_the_picture(tmp_path: Path) -> None:
    tokenizer = SimpleNamespace(
        modality=IMAGES, spec=SimpleNamespace(layout=TokenLayout.sequence(LAYOUT.num_tokens))
    )
    html = write_report(tmp_path, inputs(tokenizer=tokenizer, curves={})).read_text()
    cards = re.findall(r'<article class="copy[^"]*">.*?</article>', html, re.DOTALL)
    assert [card.count('class="ribbon"') for card in cards] == [1] * 4
    assert [card.count('class="plate"') for card in cards] == [1] * 4  # the sample itself
    assert "15 tokens" in cards[0]
    assert re.search(r"from token \d+, (same place|moved by [+-]\d+)<", cards[0])
    assert "row" not in re.findall(r"<title>(.*?)</title>", cards[0])[0]
    assert 'id="colours"' not in html


@pytest.mark.parametrize(("side", "shown"), [(2, 64), (64, 64), (100, 100), (256, 64)])
def test_pictures_of_all_sizes_are_shown_at_a_like_size(side: int, shown: int) -> None:
    png = base64.b64decode(small_url(np.zeros((side, side, 3), np.uint8)).partition(",")[2])
    assert Image.open(io.BytesIO(png)).size == (shown, shown)


# ----------------------------------------------------------------------------------------- scores


def test_a_score_has_its_title_words_unit_and_group_and_an_unknown_one_its_name(
    tmp_path: Path,
) -> None:
    info = ScoreInfo(name="fd_pixels", title="far", words="How far.", unit="m", group="quality")
    html = write_report(tmp_path, inputs(infos={"fd_pixels": info})).read_text()
    tables = re.findall(r'<table class="scores">.*?</table>', html, re.DOTALL)
    quality, other = (Page(table).text for table in tables)
    assert "Quality" in quality
    assert re.search(r"far\s*How far\.\s*fd_pixels, m", quality)
    assert '<summary title="How far.">far</summary>' in tables[0]
    assert "Other" in other
    assert "my_own_score" in other


def test_a_group_shows_its_main_scores_and_folds_the_others() -> None:
    score = Score(value=1.0, floor=None, ceiling=None)
    infos = {
        "a": ScoreInfo(name="a", group="quality"),
        "b": ScoreInfo(name="b", group="quality", rank=1),
        "c": ScoreInfo(name="c", group="tokenizer", title="same"),
        "d": ScoreInfo(name="d", group="tokenizer", title="same"),
    }
    worse = Reading(info=infos["b"], values={"generated": 1.0}, places={"generated": "worse"})
    quality, tokenizer = score_groups(dict.fromkeys(infos, score), infos, {}, {}, [worse])
    assert [row["name"] for row in quality["rows"]] == ["b"]
    assert [row["name"] for row in quality["others"]] == ["a"]
    assert quality["rows"][0]["place"] == "worse"
    assert [row["title"] for row in tokenizer["rows"]] == ["same (c)", "same (d)"]
    assert tokenizer["others"] == []


def test_the_page_begins_with_the_answer(tmp_path: Path) -> None:
    html = write_report(tmp_path, inputs()).read_text()
    header = Page(html.partition("</header>")[0]).text
    places = [
        header.index(text)
        for text in ("2 of 7 samples are <exact> copies.", "They copy.", "20.0\xa0%", "toy & more")
    ]
    assert places == sorted(places)
    assert "held-out 8.0\xa0%" in header
    assert ">copies found</td>" in html
    assert 'class="place copies-more"' in html
    assert 'title="How &lt;much&gt;."' in html
    assert html.index('id="samples"') < html.index('id="copies"') < html.index('id="scores"')
    assert '<dl class="findings">' not in html


def test_copies_are_shown_beside_what_they_equal(tmp_path: Path) -> None:
    given = inputs()
    examples = tuple(
        Example(pair=pair, name=f"file <{pair.sample}>", source="<key>") for pair in given.pairs[:2]
    )
    answer = dataclasses.replace(ANSWER, examples=examples)
    html = write_report(tmp_path, dataclasses.replace(given, answer=answer)).read_text()
    header = html.partition("</header>")[0]
    assert header.count("<figcaption><b>file &lt;") == 2
    pictures = re.findall(r'<img src="(data:[^"]+)"', header)
    assert len(pictures) == 4
    assert pictures[0] == pictures[1]  # an exact copy and its original
    assert pictures[0] != pictures[2]


def test_warnings_stand_above_and_findings_are_folded(tmp_path: Path) -> None:
    findings = [(f"label{n}", f"text{n}") for n in range(30)]
    wording = Wording(
        title="t", several="images", names=[f"n{i}" for i in range(7)], findings=findings
    )
    answer = dataclasses.replace(ANSWER, warnings=("Too few!",))
    html = write_report(tmp_path, inputs(wording=wording, answer=answer)).read_text()
    shown, _, folded = html.partition("<summary>25 more findings</summary>")
    assert shown.index("Too few!") < shown.index("<h1>")
    assert "text4" in shown
    assert "text5" not in shown
    assert "text29" in folded
    assert "<h2>Images</h2>" in html
    assert "<h3>n5 " in html


def test_metrics_that_were_left_out_are_said(tmp_path: Path) -> None:
    html = write_report(tmp_path, inputs(skipped={"order": "order needs <a trace>"})).read_text()
    assert "Left out: order needs <a trace>." in Page(html).text


def test_the_calibration_tells_apart_what_intervals_tell_apart() -> None:
    name = "largest_source_share"
    values = {"generated": 0.2, "floor": 0.1, "shuffled": 0.12, "collages": 0.25, "copies_5": 0.1}
    intervals = {
        "generated": (0.15, 0.25),
        "floor": (0.05, 0.16),
        "shuffled": (0.1, 0.14),
        "collages": (None, None),  # all images alike
        "copies_5": (0.17, 0.2),
    }
    score = Score(value=0.2, floor=0.1, ceiling=None, normalized=0.25)
    table = calibration_table({name: score}, {}, {name: values}, {name: intervals})
    assert table is not None
    assert table["labels"] == {
        "shuffled": "shuffled",
        "collages": "collages",
        "copies_5": "5 % copies",
    }
    ((row,),) = [group["rows"] for group in table["groups"]]
    kinds = {cell["set"]: cell["kind"] for cell in row["planted"]}
    assert kinds == {"shuffled": "like", "collages": "apart", "copies_5": "apart"}
    assert row["generated"]["kind"] == "like"
    assert row["ceiling"]["text"] == "—"
    assert row["normalized"] == "0.25"
    assert table["told"] == {"shuffled": 0, "collages": 1, "copies_5": 1}
    assert (
        calibration_table({name: score}, {}, {name: {"generated": 0.2, "floor": 0.1}}, {}) is None
    )


def test_numbers_without_any_interval_are_not_told_apart() -> None:
    values = {"source_gini": {"generated": 0.2, "floor": 0.1, "collages": 0.9}}
    score = Score(value=0.2, floor=0.1, ceiling=None)
    table = calibration_table({"source_gini": score}, {}, values, {})
    assert table is not None
    assert table["groups"][0]["rows"][0]["planted"][0]["kind"] == ""


def test_the_calibration_is_a_table_of_the_page(tmp_path: Path) -> None:
    values = {"my_own_score": {"generated": 0.25, "floor": 0.125, "collages": 0.5}}
    text = Page(write_report(tmp_path, inputs(values=values)).read_text()).text
    assert "What the scores can see" in text
    assert "0.125" in text
    assert "0 of 1" in text


def test_a_collection_costs_what_its_parts_take(tmp_path: Path) -> None:
    for digest, size in (("one", 1000), ("two", 500)):
        artifact(tmp_path / "token_shard" / digest, "token_shard", size=size, seconds=0.0)
    whole = tmp_path / "tokens" / "all"
    made = artifact(whole, "tokens", size=30, seconds=2.0, num_documents=100)
    made.manifest.files["shards.json"] = FileEntry(size_bytes=70, sha256="")
    made.manifest.write(whole)
    (whole / "shards.json").write_text('{"kind": "token_shard", "digests": ["one", "two"]}')
    (row,) = stage_rows({"tokenize": {"hit": False, "path": str(whole)}}, ())
    assert row["size_bytes"] == 1600
    assert row["images_per_second"] == 50
    assert (row["name"], row["hit"], row["seconds"]) == ("tokenize", False, 2.0)


# ------------------------------------------------------------------------------------------- maps


def test_a_heat_map_runs_from_the_first_colour_to_the_last() -> None:
    colors = heat_map(np.array([[0.0, 1.0, 2.0, 4.0, 9.0]]), top=4.0)[0]
    hexes = ["#" + "".join(f"{part:02x}" for part in color) for color in colors.tolist()]
    assert hexes == [HEAT[0], HEAT[1], HEAT[2], HEAT[4], HEAT[4]]


def test_maps_are_means_over_channels_on_one_scale() -> None:
    bits = {
        "generated": {"entropy_level0": np.array([0.0, 1.0, 2.0]), "entropy_level1": np.zeros(12)},
        "floor": {"entropy_level1": np.repeat([1.0, 2.0, 3.0, 4.0], 3)},
    }
    (section,) = heat_sections(bits, LAYOUT)
    assert [level["label"][:7] for level in section["levels"]] == ["level 0", "level 1"]
    assert section["levels"][0]["maps"][0]["mean"] == 1.0
    ours, theirs = section["levels"][1]["maps"]
    assert (ours["label"], theirs["label"]) == ("samples", "held-out")
    assert theirs["mean"] == 2.5
    np.testing.assert_array_equal(ours["image"], heat_map(np.zeros((2, 2)), section["top"]))
    expected = heat_map(np.array([[1.0, 2.0], [3.0, 4.0]]), section["top"])
    np.testing.assert_array_equal(theirs["image"], expected)


def test_a_code_length_is_cut_into_levels() -> None:
    (section,) = heat_sections({"generated": {"code_length": np.arange(15.0)}}, LAYOUT)
    assert [level["maps"][0]["mean"] for level in section["levels"]] == [1.0, 8.5]
    assert heat_sections({"generated": {"novelty": np.arange(15.0)}}, LAYOUT) == []


# ----------------------------------------------------------------------------------------- ordered


def test_positions_of_ordered_tokens_are_told_by_curves_and_not_by_maps() -> None:
    layout = TokenLayout.sequence(5)
    curves = {"generated": {"code_length": np.arange(5.0), "forced_by_position": np.ones(5)}}
    assert heat_sections(curves, layout) == []
    (section,) = chart_sections(curves, layout)
    assert section["title"] == "By prefix position"
    labels = [chart["label"] for chart in section["charts"]]
    assert labels == ["forced steps", "cost under the n-gram, bits"]
    assert ">4<" in section["charts"][1]["svg"]  # the scale ends at the dearest position
    assert chart_sections(curves, LAYOUT) == []


def test_prefixes_are_drawn_beside_jpeg_with_gaps_where_it_does_not_fit() -> None:
    real = {
        "prefix_lengths": np.array([1.0, 2.0, 4.0, 5.0]),
        "prefix_psnr": np.array([12.5, 13.0, 15.0, 16.0]),
        "prefix_jpeg_psnr": np.array([np.nan, np.nan, 14.0, 17.5]),
    }
    curves = {"generated": {"id_entropy": np.ones(5)}, "floor": real, "ceiling": real}
    section = chart_sections(curves, TokenLayout.sequence(5))[-1]
    assert section["title"] == "Reconstruction by prefix length"
    assert ("jpeg", "JPEG of as many bits") in section["keys"]
    (chart,) = section["charts"]
    svg = str(chart["svg"])
    (jpeg,) = re.findall(r'<path class="jpeg" d="([^"]+)"', svg)
    assert jpeg.count("M") == jpeg.count("L") == 1
    texts = re.findall(r">([\d.]+)</text>", svg)
    assert texts == ["12", "15", "18", "1", "2", "4", "5"]
