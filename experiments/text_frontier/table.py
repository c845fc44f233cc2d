"""The table of text_frontier: one row a writer, means over seeds, real and planted sets below them.

    python experiments/text_frontier/table.py outputs/sweeps/FIRST outputs/sweeps/SECOND

Held-out, training and planted sets of other tokens than ``bpe`` have rows of their own: windows of
a planner are sentences.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

#: Columns: title, score, digits; the surface is what the auditor reads.
COLUMNS = (
    ("longest run", "surface_longest_run_tokens", 1),
    ("runs of 50, %", "surface_verbatim_rate_50", 1),
    ("exact copies, %", "surface_exact_copy_rate", 1),
    ("largest source, %", "surface_largest_source_share", 1),
    ("phrases", "surface_num_phrases", 0),
    ("novelty n=8", "surface_novelty_n8", 2),
    ("legal words", "legal_words", 3),
    ("distinct-2", "distinct_2", 3),
    ("judge bits/byte", "judge_bits_per_byte", 2),
)
#: Knobs of samplers that tell writers apart.
KNOBS = ("temperature", "max_context", "min_count", "steps", "noise_scale")


def writer(config: Any) -> str:
    """Return the name of a writer: its generator, and the knobs of its sampler that it has."""
    found = [f"{knob} {config.sampler[knob]:g}" for knob in KNOBS if config.sampler.get(knob)]
    return ", ".join([config.generator.name, *found])


def cells(of_seeds: list[dict[str, float]]) -> list[str]:
    """Return the mean of every column over seeds, with their deviation where there are several."""
    row = []
    for _, score, digits in COLUMNS:
        values = [values[score] for values in of_seeds if values.get(score) is not None]
        scale = 100 if score.endswith(("_rate", "_rate_50", "_share")) else 1
        numbers = [scale * value for value in values]
        text = f"{statistics.mean(numbers):.{digits}f}" if numbers else ""
        if len(numbers) > 1:
            text += f" ± {statistics.stdev(numbers):.{digits}f}"
        row.append(text)
    return row


def main(sweeps: list[str]) -> None:
    """Print the table of some sweeps."""
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in sorted(p for sweep in sweeps for p in Path(sweep).glob("*/scores.json")):
        config = OmegaConf.load(path.parent / ".hydra" / "config.yaml")
        by_set: dict[str, dict[str, float]] = defaultdict(dict)
        for score, values in json.loads(path.read_text())["values"].items():
            for name, value in values.items():
                if score in {column for _, column, _ in COLUMNS}:
                    by_set[name][score] = value
        rows[writer(config)].append(by_set.pop("generated"))
        sentences = "" if config.tokenizer.name == "bpe" else f" ({config.tokenizer.name})"
        for name, scores in by_set.items():  # the same for all writers of a seed
            if scores not in rows[f"*{name}*{sentences}"]:
                rows[f"*{name}*{sentences}"].append(scores)
    titles = ["", *(title for title, _, _ in COLUMNS)]
    lines = [titles, ["---"] * len(titles)]
    ordered = sorted(rows, key=lambda name: name.startswith("*"))
    lines += [[name, *cells(rows[name])] for name in ordered]
    sys.stdout.write("".join(f"| {' | '.join(line)} |\n" for line in lines))


if __name__ == "__main__":
    main(sys.argv[1:])
