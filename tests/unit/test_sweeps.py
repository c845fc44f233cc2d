"""The numbers of a sweep's report: jobs, axes, recipes, means over seeds, tables."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from imagegram.errors import ConfigError
from imagegram.records import ScoreInfo
from imagegram.stages.evaluate import Score
from imagegram.sweeps.aggregate import configurations, estimate, pareto
from imagegram.sweeps.axes import Axis, find_axes
from imagegram.sweeps.drawings import axis_title
from imagegram.sweeps.interactive import frontier_figure
from imagegram.sweeps.jobs import PARTS, Job, Scalar, planned_jobs, read_jobs
from imagegram.sweeps.legends import frontier_legend
from imagegram.sweeps.ranges import axis_range
from imagegram.sweeps.recipes import split_by_recipe
from imagegram.sweeps.samples import sample_tables
from imagegram.sweeps.scales import find_scales
from imagegram.sweeps.sweep import read_sweep
from imagegram.sweeps.tables import read_results, write_tables
from imagegram.sweeps.write import write_report
from tests.job_folders import make_job, parts

SHARE, DISTANCE = "largest_source_share", "kd_pixels"
#: Numbers as scores are; of denormal ones, scipy knows no interval.
MILLIS = st.integers(-(10**6), 10**6).map(lambda n: n / 1000)
RECIPE = {SHARE: {}, DISTANCE: {"N": "4", "D": "12"}}


def two_by_two(sweep: Path) -> list[Path]:
    """Contexts 3 and 12 x matching free and position x seeds 0 and 1; the value is the job's."""
    folders = []
    for number in range(8):
        config = {
            "sampler.max_context": (3, 12)[number // 4],
            "sampler.matching": ("free", "position")[number // 2 % 2],
            "seed": number % 2,
        }
        scores = {
            SHARE: parts(number / 10, floor=0.01 * number, ceiling=1.0, low=0.0, high=0.9),
            DISTANCE: parts(9.0 - number, floor=0.5, ceiling=0.0, normalized=0.25),
        }
        folders.append(make_job(sweep, number, config=config, scores=scores, recipes=RECIPE))
    return folders


def job(value: float | None, *, seed: int = 0, recipe: dict[str, str] | None = None) -> Job:
    return Job(
        folder=Path(f"{seed}"),
        name=str(seed),
        status="completed",
        config={"seed": seed},
        scores={"s": Score(value=value, floor=0.0, ceiling=1.0)},
        recipes={"s": recipe or {}},
    )


def test_axes_are_what_differs_and_neither_seeds_nor_places(tmp_path: Path) -> None:
    for number in range(4):
        config = {
            "sampler.max_context": (3, 12)[number % 2],
            "corpus.name": f"toy_{(1, 20)[number // 2]}",
            "corpus.num_shards": (1, 20)[number // 2],
            "paths.outputs": f"outputs{number}",
            "runtime.workers": number,
            "seed": number,
        }
        make_job(tmp_path, number, config=config)
    axes = find_axes(read_jobs([tmp_path]))
    assert [(axis.key, axis.values, axis.followers) for axis in axes] == [
        ("corpus.name", ("toy_1", "toy_20"), ("corpus.num_shards",)),
        ("sampler.max_context", (3, 12), ()),
    ]
    assert [axis.label for axis in axes] == ["corpus", "max_context"]


def test_what_a_name_decides_follows_the_name_and_what_it_does_not_is_an_axis(
    tmp_path: Path,
) -> None:
    for number in range(6):
        name = ("balanced", "greedy", "infinigram")[number // 2]
        config = {
            "sampler.name": name,
            "sampler.temperature": {"greedy": 0.0}.get(name, 0.9),  # two samplers share it
            "sampler.max_context": (3, 12)[number % 2],
            "generator.device": {"greedy": "cpu"}.get(name, "cuda"),  # of another group
        }
        make_job(tmp_path, number, config=config)
    axes = {axis.key: axis.followers for axis in find_axes(read_jobs([tmp_path]))}
    assert axes == {
        "sampler.name": ("sampler.temperature",),
        "sampler.max_context": (),
        "generator.device": (),
    }


def test_knobs_that_are_drawn_at_random_are_axes_of_their_own(tmp_path: Path) -> None:
    for number in range(6):
        config = {
            "sampler.temperature": 0.5 + 0.1 * number,  # together with top_p in every job
            "sampler.top_p": 1 - 0.07 * number,
            "metric.kernel.name": ("kernel", "other")[number % 2],
            "metric.kernel.degree": 3 + number % 2,
            "encoder.name": ("pixels", "lite")[number % 2],
        }
        scores = {SHARE: parts(0.1 * number), DISTANCE: parts(1.0)}
        make_job(tmp_path, number, config=config, scores=scores, recipes={}, samples=[number])
    sweep = read_sweep([tmp_path])
    assert [(axis.key, axis.followers) for axis in sweep.axes] == [
        ("sampler.temperature", ()),
        ("sampler.top_p", ()),
        ("encoder.name", ("metric.kernel.name", "metric.kernel.degree")),
    ]
    assert [knob.scale.axis.label for knob in sweep.knobs] == ["temperature", "top_p"]
    assert len(sweep.knobs[0].panels[0].curves) == 6
    (table,) = sample_tables(sweep.counted, sweep.axes)
    assert len(table.rows) == 6
    assert table.rows[0][0] == "temperature = 0.5, top_p = 1, encoder = pixels"


@pytest.mark.parametrize(("seeds", "axes"), [([3, 4], []), ([3, 3], ["seed"])])
def test_the_seed_of_a_training_is_an_axis_unless_it_follows_that_of_the_run(
    tmp_path: Path, seeds: list[int], axes: list[str]
) -> None:
    for number, seed in enumerate(seeds):
        config = {"seed": seed, "generator.optimization.seed": 3 + number}
        make_job(tmp_path, number, config=config)
    make_job(tmp_path, 2, config={"seed": 3})  # a generator without a training
    found = [axis.label for axis in find_axes(read_jobs([tmp_path]))]
    assert found == axes


def test_a_metric_that_only_some_jobs_have_is_no_axis_and_its_options_are(tmp_path: Path) -> None:
    for number in range(4):
        config: dict[str, Scalar] = {"generator.name": ("ngram", "ar")[number % 2]}
        if number % 2:
            config["metric.nll.name"] = "nll"
        config["metric.kernel.degree"] = (3, None)[number // 2]
        make_job(tmp_path, number, config=config)
    found = [axis.key for axis in find_axes(read_jobs([tmp_path]))]
    assert found == ["generator.name", "metric.kernel.degree"]


def test_keys_that_some_jobs_lack_are_axes_between_those_that_have_them(tmp_path: Path) -> None:
    """Jobs of several generators, and of a version that knew fewer keys, are read together."""
    for number in range(8):
        config: dict[str, Scalar] = {"generator.name": "ngram", "sampler.max_context": number}
        if number % 2:
            steps = 600 if number < 4 else 2000
            config = {"generator.name": "ar", "generator.width": 128, "generator.steps": steps}
        if number > 5:
            config["tokenizer.colors"] = "rgb"
        make_job(tmp_path, number, config=config)
    found = [axis.key for axis in find_axes(read_jobs([tmp_path]))]
    assert sorted(found) == ["generator.name", "generator.steps", "sampler.max_context"]


def test_a_table_names_components_that_all_jobs_share(tmp_path: Path) -> None:
    for number in range(2):
        config: dict[str, Scalar] = {"tokenizer.name": "titok", "sampler.top_k": number}
        scores = {"exact_copy_rate": parts(0.0)}
        make_job(tmp_path / "one", number, config=config, scores=scores)
    write_report([tmp_path / "one"], out=tmp_path / "out")
    read = read_results(tmp_path / "out" / "results.csv")
    assert {job.config["tokenizer.name"] for job in read} == {"titok"}
    assert [axis.key for axis in find_axes(read)] == ["sampler.top_k"]


def test_axes_of_one_last_word_are_told_apart(tmp_path: Path) -> None:
    for number in range(4):
        config: dict[str, Scalar] = {
            "generator.optimization.steps": (10, 20)[number % 2],
            "sampler.steps": (8, 32)[number // 2],
            "sampler.temperature": number / 4,
        }
        make_job(tmp_path, number, config=config)
    labels = {axis.label for axis in find_axes(read_jobs([tmp_path]))}
    assert labels == {"optimization.steps", "sampler.steps", "temperature"}


def test_names_with_numbers_are_a_family_with_an_order() -> None:
    family = Axis(key="corpus.name", followers=(), values=("tiny_1", "tiny_20"), label="corpus")
    assert (family.is_ordered, family.short("tiny_20")) == (True, "20")
    for values in (("free", "position"), ("tiny_1", "cc_5"), ("demo", "demo_2")):
        axis = Axis(key="corpus.name", followers=(), values=values, label="corpus")
        assert not axis.is_ordered
        assert axis.short(values[0]) == values[0]
    numbers = Axis(key="sampler.temperature", followers=(), values=(0.5, 0.75), label="temperature")
    assert (numbers.is_ordered, numbers.short(0.75)) == (True, "0.75")


def test_values_are_in_their_natural_order_and_null_is_last(tmp_path: Path) -> None:
    for number, value in enumerate([None, 20, 3.5, None, 7]):
        make_job(tmp_path, number, config={"sampler.top_k": value})
    for number, name in enumerate(["pyramid10", "pyramid9", "flat"], start=5):
        make_job(tmp_path, number, config={"sampler.top_k": 1, "tokenizer.name": name})
    by_key = {axis.key: axis for axis in find_axes(read_jobs([tmp_path]))}
    assert by_key["sampler.top_k"].values == (1, 3.5, 7, 20, None)
    assert by_key["tokenizer.name"].values == ("flat", "pyramid2", "pyramid9", "pyramid10")


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10, 11):
        make_job(tmp_path, number)
    assert [job.name for job in read_jobs([tmp_path])] == [f"{n}_job" for n in (0, 1, 2, 10, 11)]


def test_several_sweeps_and_single_runs_are_read_together_and_once(tmp_path: Path) -> None:
    make_job(tmp_path / "a", 0)
    run = make_job(tmp_path / "b", 0)
    make_job(tmp_path / "b", 1)
    (tmp_path / "latest").symlink_to(run)
    jobs = read_jobs([tmp_path / "a", run, tmp_path / "b"])
    assert [job.name for job in jobs] == ["a/0_job", "b/0_job", "b/1_job"]
    with pytest.raises(ConfigError, match="holds no job"):
        read_jobs([tmp_path])


def test_errors_name_the_folder_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder .*nowhere; make a sweep: python -m") as found:
        read_jobs([tmp_path / "nowhere"])
    assert str(tmp_path) in str(found.value)
    sweep = tmp_path / "outputs" / "sweeps" / "2026"
    make_job(sweep, 0, scores={SHARE: parts(0.5)})
    with pytest.raises(ConfigError, match=f"the newest sweep there is: sweep={sweep}"):
        read_jobs([sweep.parent / "2027"])
    with pytest.raises(ConfigError, match=f"did you mean '{SHARE}'"):
        read_sweep([sweep], x="largest_source_shar")


def test_seeds_are_averaged_exactly(tmp_path: Path) -> None:
    two_by_two(tmp_path)
    sweep = read_sweep([tmp_path])
    assert [tuple(found.at.values()) for found in sweep.configurations] == [
        (3, "free"),
        (3, "position"),
        (12, "free"),
        (12, "position"),
    ]
    last = estimate(sweep.configurations[-1].jobs, SHARE)
    assert last is not None
    assert last.value == pytest.approx(0.65, abs=1e-15)
    assert (last.num_seeds, last.ceiling) == (2, 1.0)
    assert last.floor == pytest.approx(0.065, abs=1e-15)
    # Two values 0.1 apart: s = 0.1 / sqrt(2), s / sqrt(2) = 0.05; t_0.975 with 1 degree: 12.7062.
    assert last.high is not None
    assert last.high - last.value == pytest.approx(12.7062047364 * 0.05, rel=1e-9)
    assert last.low == pytest.approx(2 * last.value - last.high)


@given(st.lists(MILLIS, min_size=2, max_size=9))
def test_the_interval_over_seeds_is_that_of_students_t(values: list[float]) -> None:
    found = estimate([job(value, seed=seed) for seed, value in enumerate(values)], "s")
    assert found is not None
    scale = max(map(abs, values)) + 1
    assert found.value == pytest.approx(np.mean(values), abs=1e-9 * scale)
    if len(set(values)) > 1:
        low, high = stats.t.interval(
            0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
        )
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-7 * scale)


def test_one_seed_keeps_its_interval_and_seeds_that_agree_the_widest_of_theirs() -> None:
    own = [
        Job(
            folder=Path(str(seed)),
            name=str(seed),
            status="completed",
            scores={"s": Score(value=0.0, floor=None, ceiling=1.0, low=-0.1 * seed, high=high)},
            recipes={},
        )
        for seed, high in enumerate((0.2, 0.3))
    ]
    one, both = estimate(own[:1], "s"), estimate(own, "s")
    assert one is not None
    assert both is not None
    assert (one.low, one.high, one.num_seeds) == (0.0, 0.2, 1)
    assert (both.low, both.high, both.num_seeds) == (-0.1, 0.3, 2)
    assert both.floor is None


def test_a_seed_without_a_value_does_not_count() -> None:
    found = estimate([job(2.0), job(None, seed=1), job(4.0, seed=2)], "s")
    assert found is not None
    assert (found.value, found.num_seeds) == (3.0, 2)
    assert estimate([job(None)], "s") is None


def test_recipes_are_never_mixed(tmp_path: Path) -> None:
    for number in range(4):
        size = (16, 64)[number // 2]
        scores = {SHARE: parts(0.1 * number), DISTANCE: parts(float(number))}
        recipes = {SHARE: {}, DISTANCE: {"N": str(size), "encoder": "pixels"}}
        config = {"seed": number % 2, "sampler.max_context": 3 + number // 2}
        make_job(tmp_path, number, config=config, scores=scores, recipes=recipes)
    sweep = read_sweep([tmp_path])
    assert list(sweep.mixed) == [DISTANCE]
    groups = split_by_recipe(sweep.counted, [DISTANCE])
    assert [(group.text, len(group.jobs)) for group in groups] == [("N = 16", 2), ("N = 64", 2)]
    with pytest.raises(ValueError, match="recipes of kd_pixels differ"):
        estimate(sweep.counted, DISTANCE)
    assert [frontier.recipe for frontier in sweep.frontiers] == ["N = 16", "N = 64"]
    assert [len(frontier.marks) for frontier in sweep.frontiers] == [1, 1]
    (over_context,) = sweep.knobs
    assert [panel.score.name for panel in over_context.panels] == [SHARE]
    (refusal,) = over_context.refusals
    assert "kd_pixels is not drawn over max_context for N = 16; N = 64" in refusal


def test_a_recipe_that_is_gone_meets_no_known_one_but_scores_without_recipes_do(
    tmp_path: Path,
) -> None:
    scores = {SHARE: parts(0.1), DISTANCE: parts(1.0)}
    make_job(tmp_path, 0, scores=scores, recipes=RECIPE)
    make_job(tmp_path, 1, scores=scores, config={"seed": 1})
    make_job(tmp_path, 2, scores=scores, config={"seed": 2, "num_samples": 8})
    jobs = read_jobs([tmp_path])
    assert len(split_by_recipe(jobs, [SHARE])) == 1
    texts = [group.text for group in split_by_recipe(jobs, [DISTANCE])]
    assert len(texts) == 3
    assert sum("not on record" in text for text in texts) == 2


def test_the_same_configuration_and_seed_again_is_no_second_seed(tmp_path: Path) -> None:
    for number, value in enumerate((1.0, 5.0)):
        make_job(tmp_path, number, scores={SHARE: parts(value)}, recipes={})
    make_job(tmp_path, 2, status="failed", error="ConfigError: no")
    sweep = read_sweep([tmp_path])
    (found,) = sweep.configurations
    assert [job.name for job in found.jobs] == ["1_job"]
    assert [job.name for job in sweep.repeated] == ["0_job"]


def test_failed_unfinished_and_unreadable_jobs_are_kept(tmp_path: Path) -> None:
    make_job(tmp_path, 0, scores={SHARE: parts(0.5)}, recipes={})
    make_job(tmp_path, 1, status="failed", error="ConfigError: no <b>")
    make_job(tmp_path, 2, status="running")
    make_job(tmp_path, 3, status="")
    (make_job(tmp_path, 4) / "summary.json").write_text('{"status": "comp')
    (make_job(tmp_path, 5) / ".hydra" / "config.yaml").write_text("seed: [1")
    jobs = read_jobs([tmp_path])
    expected = ["completed", "failed", "running", "running", "unreadable", "unreadable"]
    assert [job.status for job in jobs] == expected
    assert jobs[1].error == "ConfigError: no <b>"
    sweep = read_sweep([tmp_path])
    assert len(sweep.counted) == 1
    assert len(sweep.unfinished) == 5
    write_tables(tmp_path, jobs, sweep.axes, sweep.infos)
    with (tmp_path / "results.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == expected


def test_csv_parquet_and_summaries_hold_the_same_numbers(tmp_path: Path) -> None:
    folders = two_by_two(tmp_path)
    awkward = {SHARE: parts(0.1 + 0.2, low=1e-300, high=math.pi), "only": parts(None, floor=3.0)}
    folders.append(make_job(tmp_path, 8, config={"sampler.top_k": None}, scores=awkward))
    sweep = read_sweep([tmp_path])
    write_tables(tmp_path, sweep.jobs, sweep.axes, sweep.infos)
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    with (tmp_path / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(table[0])
    assert list(rows[0])[:5] == [
        "job",
        "status",
        "seed",
        "sampler.max_context",
        "sampler.matching",
    ]
    for folder, row, line in zip(folders, table, rows, strict=True):
        summary = json.loads((folder / "summary.json").read_text())
        assert row["job"] == line["job"] == folder.name
        assert row["sampler.max_context"] == int(line["sampler.max_context"])
        for score in (SHARE, DISTANCE, "only"):
            for part in PARTS:
                name, wanted = f"{score}.{part}", summary["scores"].get(score, {}).get(part)
                assert row[name] == wanted
                assert (float(line[name]) if line[name] else None) == wanted
    assert json.loads(table[0][f"{DISTANCE}.recipe"]) == RECIPE[DISTANCE]
    assert f"{SHARE}.recipe" not in table[0]


def test_a_table_is_read_back_as_the_jobs_that_it_was_written_from(tmp_path: Path) -> None:
    two_by_two(tmp_path)
    make_job(tmp_path, 8, status="failed", config={"sampler.top_k": None, "num_samples": 7})
    sweep = read_sweep([tmp_path])
    write_tables(tmp_path, sweep.jobs, sweep.all_axes, sweep.infos)
    again = read_sweep([tmp_path / "results.csv"])
    assert [(j.name, j.status, j.seed) for j in again.jobs] == [
        (j.name, j.status, j.seed) for j in sweep.jobs
    ]
    assert [j.scores for j in again.jobs] == [j.scores for j in sweep.jobs]
    assert [axis.values for axis in again.all_axes] == [axis.values for axis in sweep.all_axes]
    for score in (SHARE, DISTANCE):
        assert [estimate(c.jobs, score) for c in again.configurations] == [
            estimate(c.jobs, score) for c in sweep.configurations
        ]
    (frontier,), (other,) = sweep.frontiers, again.frontiers
    assert [mark.is_optimal for mark in frontier.marks] == [m.is_optimal for m in other.marks]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "s.value\nlow\n"])
def test_a_file_that_is_no_table_of_a_sweep_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"other\.csv"):
        read_sweep([tmp_path / "other.csv"])


POINTS = st.lists(
    st.tuples(*[st.integers(0, 5) | st.floats(-1e9, 1e9)] * 2).map(
        lambda point: (float(point[0]), float(point[1]))
    ),
    max_size=30,
)


@given(POINTS)
def test_the_optimal_points_are_those_of_brute_force(points: list[tuple[float, float]]) -> None:
    slow = [not any(a <= x and b <= y and (a < x or b < y) for a, b in points) for x, y in points]
    assert pareto(points) == slow


def test_a_score_that_is_better_high_turns_the_frontier(tmp_path: Path) -> None:
    for number in range(3):
        scores = {SHARE: parts(0.1 * number), "recall": parts(0.5 - 0.1 * number)}
        config = {"sampler.max_context": number}
        make_job(tmp_path, number, config=config, scores=scores, recipes={})
    (frontier,) = read_sweep([tmp_path], y="recall").frontiers
    assert [mark.is_optimal for mark in frontier.marks] == [True, False, False]


#: Once drawn as "lower is better", all of them.
DIRECTIONS = {
    "psnr": "psnr (dB, higher is better)",
    "prefix_psnr_k8": "prefix_psnr_k8 (dB, higher is better)",
    "exact_reconstruction_rate": "exact_reconstruction_rate (% of images, higher is better)",
    "num_phrases": "num_phrases (phrases, higher is better)",
    "num_effective_sources": "num_effective_sources (sources)",
    "bits_per_dim": "bits_per_dim (bits)",
    "kd_pixels": "kd_pixels (lower is better)",
}


@pytest.mark.parametrize("score", DIRECTIONS)
def test_a_figure_says_the_direction_that_the_metric_says(tmp_path: Path, score: str) -> None:
    for number in range(3):
        scores = {SHARE: parts(0.1 * number), score: parts(1.0 + number)}
        config = {"sampler.max_context": number}
        make_job(tmp_path, number, config=config, scores=scores, recipes={})
    (frontier,) = read_sweep([tmp_path], y=score).frontiers
    figure = frontier_figure(frontier)
    assert figure.layout.yaxis.title.text == DIRECTIONS[score]
    optimal = [mark.is_optimal for mark in frontier.marks]
    if "higher" in DIRECTIONS[score]:
        assert optimal == [True, True, True]  # more copying, a better score: no one wins
    elif "lower" in DIRECTIONS[score]:
        assert optimal == [True, False, False]
    else:
        assert optimal == [False] * 3
        assert "ring" not in str(frontier_legend(frontier))


def test_what_a_run_says_of_its_scores_is_believed_and_kept_in_tables(tmp_path: Path) -> None:
    infos = {"mine": {"name": "mine", "words": "My own.", "unit": "m", "better": "higher"}}
    infos["mine"] |= {"group": "quality", "rank": 1, "of a later version": True}  # type: ignore[dict-item]
    for number in range(2):
        scores = {SHARE: parts(0.1 * number), "mine": parts(0.5)}
        config = {"sampler.max_context": number}
        folder = make_job(tmp_path, number, config=config, scores=scores)
        record = {"recipes": {}, "infos": infos}
        (folder / "scores.json").write_text(json.dumps(record))
    sweep = read_sweep([tmp_path])
    assert (sweep.x, sweep.y and sweep.y.name) == (None, "mine")
    mine = sweep.infos["mine"]
    assert (mine.words, mine.unit, mine.better) == ("My own.", "m", "higher")
    assert sweep.infos[SHARE] == ScoreInfo(name=SHARE)  # the run describes its scores, not this
    write_tables(tmp_path, sweep.jobs, sweep.all_axes, sweep.infos)
    assert read_sweep([tmp_path / "results.csv"]).infos == sweep.infos


def test_runs_without_infos_are_read_and_unknown_scores_have_no_direction(tmp_path: Path) -> None:
    scores = {SHARE: parts(0.1), DISTANCE: parts(1.0), "mine": parts(1.0)}
    make_job(tmp_path, 0, scores=scores, recipes=RECIPE)
    sweep = read_sweep([tmp_path])
    assert (sweep.x and sweep.x.name, sweep.y and sweep.y.name) == (SHARE, DISTANCE)
    assert sweep.infos["mine"] == ScoreInfo(name="mine")
    assert axis_title(sweep.infos["mine"]) == "mine"


def test_frontiers_join_what_differs_in_the_longest_axis_of_numbers(tmp_path: Path) -> None:
    two_by_two(tmp_path)
    (frontier,) = read_sweep([tmp_path]).frontiers
    assert (frontier.x.name, frontier.y.name) == (SHARE, DISTANCE)
    joined = [[tuple(m.configuration.at.values()) for m in path] for path in frontier.paths]
    assert joined == [
        [(3, "free"), (12, "free")],
        [(3, "position"), (12, "position")],
    ]
    assert frontier.ceilings == ((1.0, 0.0),)
    assert len(frontier.floors) == 4


def test_corpora_lie_at_their_images_and_tokenizers_at_their_levels(tmp_path: Path) -> None:
    for number in range(4):
        large, deep = number % 2, number // 2
        config = {
            "corpus.name": ("tiny_1", "tiny_20")[large],
            "tokenizer.name": ("pyramid2", "pyramid3")[deep],
            "tokenizer.sizes": ([8, 16], [8, 16, 32])[deep],
        }
        scores = {SHARE: parts(0.1 * number)}
        images = (987, 19_876)[large]
        make_job(tmp_path, number, config=config, scores=scores, recipes={}, num_images=images)
    corpus, depth = read_sweep([tmp_path]).knobs
    assert (corpus.scale.title, corpus.scale.is_log) == ("Corpus size", True)
    assert sorted(corpus.panels[0].curves[0].xs) == [987, 19_876]
    assert (depth.scale.title, depth.panels[0].curves[0].xs) == ("Pyramid depth", (2, 3))


def test_lengths_anchors_and_digits_of_ordered_tokens_are_told_in_words(tmp_path: Path) -> None:
    for number in range(12):
        config = {
            "tokenizer.name": "ordered",
            "tokenizer.num_tokens": (8, 256)[number % 2],
            "sampler.anchor": (0, 4)[number // 2 % 2],
            "sampler.context_digits": (3, 2, None)[number // 4],
        }
        make_job(tmp_path, number, config=config, scores={SHARE: parts(0.1)}, recipes={})
    sweep = read_sweep([tmp_path])
    scales = {
        scale.axis.label: (scale.title, scale.label, scale.is_log, list(scale.ticks.values()))
        for scale in find_scales(sweep.axes, sweep.jobs)
    }
    assert scales == {
        "num_tokens": (
            "Prefix length",
            "first tokens that are kept of an image",
            True,
            ["8", "256"],
        ),
        "anchor": ("Anchor", "first tokens that a source must share", False, ["0", "4"]),
        "context_digits": (
            "Context digits",
            "digits of a token that contexts compare",
            False,
            ["2", "3", "null"],
        ),
    }


def test_tokenizers_that_are_no_pyramids_have_no_depth(tmp_path: Path) -> None:
    for number, name in enumerate(("flextok_d18_d28", "pyramid3")):
        config = {"tokenizer.name": name, "tokenizer.sizes": (None, [8, 16, 32])[number]}
        make_job(tmp_path, number, config=config, scores={SHARE: parts(0.5)}, recipes={})
    sweep = read_sweep([tmp_path])
    assert [axis.label for axis in sweep.axes] == ["tokenizer"]
    assert find_scales(sweep.axes, sweep.jobs) == ()


def test_corpora_without_their_artifacts_lie_at_the_number_of_their_name(tmp_path: Path) -> None:
    for number, name in enumerate(("tiny_1", "tiny_20", "cc_5", "cc_50")):
        config = {"corpus.name": name}
        make_job(tmp_path, number, config=config, scores={SHARE: parts(0.5)}, recipes={})
    sweep = read_sweep([tmp_path])
    (scale,) = find_scales(sweep.axes, sweep.jobs)
    assert dict(scale.places) == {"tiny_1": 1, "tiny_20": 20, "cc_5": 5, "cc_50": 50}
    curves = sweep.knobs[0].panels[0].curves
    assert sorted(curve.xs for curve in curves) == [(1, 20), (5, 50)]  # one a family


def test_numbers_beside_null_are_steps(tmp_path: Path) -> None:
    for number, value in enumerate((20, 5, None)):
        config = {"sampler.top_k": value}
        make_job(tmp_path, number, config=config, scores={SHARE: parts(0.5)}, recipes={})
    sweep = read_sweep([tmp_path])
    (scale,) = find_scales(sweep.axes, sweep.jobs)
    assert scale.ticks == {0.0: "5", 1.0: "20", 2.0: "null"}
    assert not scale.is_log


def test_planned_jobs_are_the_product_of_the_choices(tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    assert planned_jobs(tmp_path) is None
    sweeper = {"_target_": "x.BasicSweeper", "params": {"corpus": "a,b,c", "seed": "0,1"}}
    task = ["seed=range(5)", "metric=[copying,kernel]", "sampler.top_k=20,null"]
    hydra = {"sweeper": sweeper, "overrides": {"task": task}}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), tmp_path / "multirun.yaml")
    assert planned_jobs(tmp_path) == 3 * 5 * 2
    hydra["sweeper"] = {"_target_": "x.OptunaSweeper"}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), tmp_path / "multirun.yaml")
    assert planned_jobs(tmp_path) is None


@given(st.lists(MILLIS, min_size=1, max_size=6), st.floats(0, 1e9))
def test_every_value_is_inside_the_range_however_long_the_intervals(
    values: list[float], half: float
) -> None:
    jobs = [job(value, seed=seed) for seed, value in enumerate(values)]
    estimates = [found for j in jobs if (found := estimate([j], "s"))]
    wide = [
        type(e)(**{**vars(e), "low": e.value - half, "high": e.value + half}) for e in estimates
    ]
    low, high = axis_range(wide, [0.0], is_share=False)
    span = max(*values, 0.0) - min(*values, 0.0) or 1.0
    assert low < min(*values, 0.0) <= max(*values, 0.0) < high
    assert high - low <= 2.5 * max(span, abs(max(values, key=abs)))


def test_configurations_without_axes_are_one() -> None:
    (found,) = configurations([job(1.0), job(2.0, seed=1)], [])
    assert dict(found.at) == {}
    assert len(found.jobs) == 2
