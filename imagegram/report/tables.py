"""Tables of the report: scores, calibration on planted copies, and the cost of each stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from imagegram.records import ScoreInfo
from imagegram.report.charts import scale_chart
from imagegram.report.readings import SCALES, Reading
from imagegram.stages.evaluate import Score
from imagegram.store.manifest import PARTS_FILE, Artifact, Manifest, read_parts

Values = Mapping[str, Mapping[str, float | None]]
Intervals = Mapping[str, Mapping[str, tuple[float | None, float | None]]]
Infos = Mapping[str, ScoreInfo]

#: Order of the groups; other groups follow.
GROUPS: Final = ("copying", "novelty and choice", "likelihood", "quality", "tokenizer")
#: Facts of a stage that count images.
_COUNTS: Final = ("num_images", "num_documents", "num_scanned")


# ------------------------------------------------------------------------------------------ scores


def by_group(scores: Iterable[str], infos: Infos) -> dict[str, list[ScoreInfo]]:
    """Sort scores into the groups of a table, keeping their order within a group."""
    groups: dict[str, list[ScoreInfo]] = {group: [] for group in GROUPS}
    for score in scores:
        info = infos.get(score, ScoreInfo(name=score))
        groups.setdefault(info.group, []).append(info)
    return {group: members for group, members in groups.items() if members}


def score_groups(
    scores: Mapping[str, Score],
    infos: Infos,
    notes: Mapping[str, str],
    recipes: Mapping[str, Mapping[str, str]],
    readings: Sequence[Reading],
) -> list[dict[str, Any]]:
    """Return the rows of the score table, grouped by question.

    A group shows its main scores, and folds the ``others``; without a main score it shows all.
    """
    groups, by_name = [], {reading.score: reading for reading in readings}
    for title, members in by_group(scores, infos).items():
        titles = score_titles(members)
        rows = [
            _score_row(
                info,
                scores[info.name],
                title=titles[info.name],
                note=notes.get(info.name, ""),
                recipe=recipes.get(info.name, {}),
                reading=by_name.get(info.name),
            )
            for info in members
        ]
        main = [row for row, info in zip(rows, members, strict=True) if info.is_main]
        others = [row for row in rows if row not in main] if main else []
        groups.append({"title": title.capitalize(), "rows": main or rows, "others": others})
    return groups


def score_titles(infos: Sequence[ScoreInfo]) -> dict[str, str]:
    """Return what readers call some scores, by name; two with one title are told apart.

    >>> score_titles([ScoreInfo(name="kd_a", title="distance"), ScoreInfo(name="my_own")])
    {'kd_a': 'distance', 'my_own': 'my_own'}
    """
    count = Counter(info.title for info in infos)
    return {
        info.name: f"{info.title} ({info.name})" if count[info.title] > 1 else info.title
        for info in infos
        if info.title
    } | {info.name: info.name for info in infos if not info.title}


def _score_row(
    info: ScoreInfo,
    score: Score,
    *,
    title: str,
    note: str,
    recipe: Mapping[str, str],
    reading: Reading | None,
) -> dict[str, Any]:
    return {
        "name": info.name,
        "title": title,
        "meaning": info.words,
        "unit": info.unit,
        "value": info.show(score.value),
        "interval": reading.show_interval() if reading else "",
        "floor": info.show(score.floor),
        "ceiling": info.show(score.ceiling),
        "scale": _scale(info, score),
        "place": reading.place if reading else "",
        "recipe": ", ".join(f"{key} {value}" for key, value in recipe.items()),
        "note": note,
    }


def _scale(info: ScoreInfo, score: Score) -> Any:
    """Return a strip from held-out to training images; None where they are not ends of a scale.

    Two sets of real images are equally good, so they are not ends of a scale of quality.
    """
    ends = (score.value, score.floor, score.ceiling)
    if info.group not in SCALES or None in ends or score.floor == score.ceiling:
        return None
    return scale_chart(*ends, (score.low, score.high))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- calibration


def calibration_table(
    scores: Mapping[str, Score], infos: Infos, values: Values, intervals: Intervals
) -> dict[str, Any] | None:
    """Return the table of every score on every image set; None without planted sets.

    A cell is ``apart`` when its 95 % interval and that of the held-out images do not meet, ``like``
    when they do, and neither where no interval is known.
    """
    planted = [
        which
        for which in dict.fromkeys(which for sets in values.values() for which in sets)
        if which not in ("generated", "floor", "ceiling")
    ]
    if not planted:
        return None
    groups = []
    told = dict.fromkeys(planted, 0)
    for title, members in by_group(values, infos).items():
        rows, titles = [], score_titles(members)
        for info in members:
            sets, own = values[info.name], intervals.get(info.name, {})
            cells = [_cell(info, which, sets, own) for which in planted]
            for cell in cells:
                told[cell["set"]] += cell["kind"] == "apart"
            position = scores[info.name].normalized
            row = {
                "name": info.name,
                "title": titles[info.name],
                "meaning": info.words,
                "generated": _cell(info, "generated", sets, own),
                "floor": _cell(info, "floor", sets, own),
                "planted": cells,
                "ceiling": _cell(info, "ceiling", sets, own),
                "normalized": "" if position is None else f"{position:.2f}",
            }
            rows.append(row)
        groups.append({"title": title.capitalize(), "rows": rows})
    labels = {which: planted_label(which) for which in planted}
    return {"groups": groups, "labels": labels, "told": told, "num_scores": len(values)}


def _cell(
    info: ScoreInfo,
    which: str,
    sets: Mapping[str, float | None],
    intervals: Mapping[str, tuple[float | None, float | None]],
) -> dict[str, Any]:
    low, high = intervals.get(which, (None, None))
    return {
        "set": which,
        "text": info.show(sets.get(which)),
        "interval": info.show_interval(low, high),
        "kind": "" if which == "floor" else _kind(which, sets, intervals),
    }


def _kind(
    which: str,
    sets: Mapping[str, float | None],
    intervals: Mapping[str, tuple[float | None, float | None]],
) -> str:
    """Return ``apart``, ``like`` or an empty text.

    A number without an interval (as of equal images) counts as an interval of length zero.
    """
    ends: list[tuple[float, float]] = []
    exact = 0
    for name in (which, "floor"):
        low, high = intervals.get(name, (None, None))
        if low is None or high is None:
            low = high = sets.get(name)
            exact += 1
        if low is None or high is None:
            return ""
        ends.append((low, high))
    if exact == len(ends):
        return ""
    (low, high), (first, last) = ends
    return "apart" if low > last or high < first else "like"


def planted_label(which: str) -> str:
    """Return the name of a planted set in words.

    >>> planted_label("copies_5"), planted_label("collages")
    ('5 % copies', 'collages')
    """
    name, _, percent = which.partition("_")
    return f"{percent} % {name}" if percent.isdigit() else which.replace("_", " ")


# ------------------------------------------------------------------------------------------- costs


def stage_rows(
    records: Mapping[str, Mapping[str, Any]], artifacts: Sequence[Artifact]
) -> list[dict[str, Any]]:
    """Return rows with the cost of the artifacts of a run when they were made.

    Args:
        records: by stage name: ``hit`` and ``path`` of the artifact.
        artifacts: other artifacts, not stages of the run; whether they were found is unknown.
    """
    rows = []
    for name, record in records.items():
        folder = Path(record["path"])
        artifact = Artifact(path=folder, manifest=Manifest.read(folder))
        rows.append(_stage_row(name, artifact, record["hit"]))
    return rows + [_stage_row(artifact.kind, artifact, None) for artifact in artifacts]


def _stage_row(name: str, artifact: Artifact, hit: bool | None) -> dict[str, Any]:
    count = next((artifact.facts[key] for key in _COUNTS if key in artifact.facts), None)
    seconds = artifact.manifest.duration_s
    return {
        "name": name,
        "hit": hit,
        "digest": artifact.digest,
        "path": artifact.path,
        "seconds": seconds,
        "images_per_second": count / seconds if count and seconds else None,
        "memory_bytes": artifact.manifest.memory_bytes,
        "size_bytes": _size(artifact.path, artifact.manifest),
    }


def _size(folder: Path, manifest: Manifest) -> int:
    """Return the bytes of an artifact and of the parts that it lists."""
    total = sum(entry.size_bytes for entry in manifest.files.values())
    if PARTS_FILE in manifest.files:
        kind, digests = read_parts(folder)
        parts = [folder.parent.parent / kind / digest for digest in digests]
        total += sum(_size(part, Manifest.read(part)) for part in parts)
    return total
