"""Draw the figures of an experiment from its ``results.csv``: nothing is measured here.

python -m experiments.figures frontier
python -m experiments.figures corpus_depth
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
SAMPLES, FLOOR, CEILING = "#b3401f", "#222222", "#9a9a9a"
Row = dict[str, str]


def read(slug: str) -> list[Row]:
    """The rows of ``results.csv``."""
    with (HERE / slug / "results.csv").open() as stream:
        return list(csv.DictReader(stream))


def curve(axes: Axes, rows: Sequence[Row], x: Sequence[float], score: str, title: str) -> None:
    """One score with its interval over x, between its floor and its ceiling."""
    value = [float(row[f"{score}.value"]) for row in rows]
    low = [float(row[f"{score}.low"] or row[f"{score}.value"]) for row in rows]
    high = [float(row[f"{score}.high"] or row[f"{score}.value"]) for row in rows]
    axes.fill_between(x, low, high, color=SAMPLES, alpha=0.2, linewidth=0)
    axes.plot(x, value, "o-", color=SAMPLES, label="samples")
    axes.plot(
        x, [float(row[f"{score}.floor"]) for row in rows], "--", color=FLOOR, label="held-out"
    )
    ceiling = [float(row[f"{score}.ceiling"]) for row in rows]
    axes.plot(x, ceiling, ":", color=CEILING, label="training")
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def frontier() -> None:
    """Copying and distance over the context length, and one against the other."""
    rows = sorted(read("frontier"), key=lambda row: int(row["sampler.max_context"]))
    contexts = [float(row["sampler.max_context"]) for row in rows]
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.1), layout="constrained")
    curve(panels[0], rows, contexts, "exact_copy_rate", "exact copies")
    curve(panels[1], rows, contexts, "largest_source_share", "largest share of one image")
    curve(
        panels[2], rows, contexts, "fd_efficientnet_lite0", "Frechet distance (EfficientNet-lite0)"
    )
    for axes in panels[:3]:
        axes.set_xscale("log", base=2)
        axes.set_xticks(contexts, [str(int(c)) for c in contexts])
        axes.set_xlabel("context, tokens")
    panels[0].legend(frameon=False, fontsize=8)
    shares = [float(row["largest_source_share.value"]) for row in rows]
    distances = [float(row["fd_efficientnet_lite0.value"]) for row in rows]
    panels[3].plot(shares, distances, "o-", color=SAMPLES)
    for context, share, distance in zip(contexts, shares, distances, strict=True):
        panels[3].annotate(f"{context:.0f}", (share, distance), xytext=(5, 4),
                           textcoords="offset points", fontsize=8)  # fmt: skip
    held_out = rows[0]
    cross = [
        float(held_out[f"{s}.floor"]) for s in ("largest_source_share", "fd_efficientnet_lite0")
    ]
    panels[3].plot(*cross, "+", color=FLOOR, ms=12)
    panels[3].set_title("the frontier; + is held-out", fontsize=10, loc="left")
    panels[3].set_xlabel("largest share of one image")
    panels[3].spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "frontier" / "frontier.png", dpi=120)


def corpus_depth() -> None:
    """Scores over the corpus size, one line a pyramid depth."""
    rows = read("corpus_depth")
    panels_of = {
        "exact_copy_rate": "exact copies",
        "largest_source_share": "largest share of one image",
        "forced_copy_rate": "forced steps",
        "kd_efficientnet_lite0": "kernel distance",
    }
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.1), layout="constrained")
    for axes, (score, title) in zip(panels, panels_of.items(), strict=True):
        for depth, style in zip(
            ("pyramid2", "pyramid3", "pyramid4"), ("o-", "s--", "^:"), strict=True
        ):
            chosen = [row for row in rows if row["tokenizer.name"] == depth]
            x = [int(row["corpus.name"].rpartition("_")[2]) for row in chosen]
            axes.plot(x, [float(row[f"{score}.value"]) for row in chosen], style, label=depth)
        axes.set_xscale("log")
        axes.set_xticks([1, 5, 20], ["1", "5", "20"])
        axes.set_xlabel("thousand images")
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "corpus_depth" / "corpus_depth.png", dpi=120)


def main() -> None:
    """Draw."""
    drawings = {"frontier": frontier, "corpus_depth": corpus_depth}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slug", choices=drawings)
    drawings[parser.parse_args().slug]()


if __name__ == "__main__":
    main()
