"""A plan must name, count and weigh what a run then makes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagegram.corpora import file_shard
from imagegram.corpora.tar import TarShard
from imagegram.corpora.webdataset import WebDatasetCorpus
from imagegram.errors import CapacityError
from imagegram.experiment import build
from imagegram.generators.ngram.trace import empty_trace
from imagegram.indexes.build.order_stage import BuildOrder
from imagegram.plan import check
from imagegram.plan.corpus import PlannedCorpus, RecordCounter
from imagegram.plan.forecast import Forecast
from imagegram.plan.planner import foresee
from imagegram.plan.rates import Rates
from imagegram.run import flow, run_experiment
from imagegram.stages import image_costs
from imagegram.stages.evaluate import scores_bytes
from imagegram.stages.image_costs import samples_bytes
from imagegram.stages.tokenize import TokenizeShard
from imagegram.store.artifacts import ArtifactStore
from imagegram.store.manifest import Manifest
from imagegram.tools import plan as tool
from tests.conftest import compose, read_summary

METRICS = "metric=[copying,order,kernel]"
WORDS = ("debug=tiny", METRICS, "encoder=pixels", "index.shard_tokens=1")


PLANTED = ("shuffled", "copies_20", "collages")
#: Images of all sets of a run of 20 samples: two thirds of 24 held-out ones are the floor.
MEASURED = 20 + 20 + 16 * (1 + len(PLANTED))


def look(outputs: Path, *words: str, **options: Any) -> Forecast:
    exp = build(compose(*WORDS, f"paths.outputs={outputs}", *words))
    store = ArtifactStore(root=outputs / "artifacts")
    options = {"flow": flow, "workers": 1, "memory_bytes": 10**10, **options}
    return foresee(exp, store=store, **options)


def by_name(forecast: Forecast) -> dict[str, Any]:
    return {stage.name: stage for stage in forecast.stages}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plan of an empty store, the run, and the plan after it."""
    outputs = tmp_path_factory.mktemp("planned")
    # 18,000 tokens of samples outweigh what is the same for every run.
    words = ("num_samples=20", "paths.outputs=" + str(outputs))
    cfg = compose(*WORDS, *words)
    build(cfg).corpus.shards[0].identity()  # one is hashed, the other is not
    before = look(outputs, "num_samples=20")
    exact = look(outputs, "num_samples=20", hashes=True)
    folder = outputs / "run"
    folder.mkdir()
    run_experiment(cfg, folder)
    after = look(outputs, "num_samples=20")
    return {
        "outputs": outputs,
        "folder": folder,
        "before": before,
        "exact": exact,
        "after": after,
        "stages": read_summary(folder)["stages"],
    }


def made_bytes(outputs: Path, *kinds: str) -> int:
    store = ArtifactStore(root=outputs / "artifacts")
    return sum(
        entry.size_bytes
        for artifact in store
        if artifact.kind in kinds
        for name, entry in artifact.manifest.files.items()
        if kinds != ("index_shard",) or (artifact.path / name).stat().st_nlink == 1
    )


def test_digests_are_known_before_anything_is_made(planned: dict[str, Any]) -> None:
    made = {name: record["digest"] for name, record in planned["stages"].items()}
    exact = {stage.name: stage.digest for stage in planned["exact"].stages}
    beside = ("aligned orders", "screens", "copy of samples", "report")
    assert exact == made | dict.fromkeys(beside, "")
    assert planned["before"].num_unknown == 2  # of two training shards and the held-out one
    assert by_name(planned["before"])["index"].digest != made["index"]


def test_counts_are_those_of_the_run(planned: dict[str, Any]) -> None:
    before, after = by_name(planned["before"]), by_name(planned["after"])
    for name in planned["stages"]:
        assert (before[name].images, before[name].tokens, before[name].parts) == (
            after[name].images,
            after[name].tokens,
            after[name].parts,
        )
        assert before[name].cached == 0
        assert after[name].cached == after[name].parts
        assert after[name].disk_bytes == after[name].seconds == 0


def test_expected_facts_are_those_of_the_run(planned: dict[str, Any], tmp_path: Path) -> None:
    """Whatever a later stage reads of an expected artifact, it will read of the finished one."""

    def facts_of(outputs: Path) -> dict[str, dict[str, Any]]:
        facts: dict[str, dict[str, Any]] = {}

        def remember(exp: Any, run: Any) -> None:
            class Remembering(type(run)):  # type: ignore[misc]
                def __call__(self, name: str, stage: Any) -> Any:
                    handle = super().__call__(name, stage)
                    if hasattr(handle, "artifact"):
                        facts[name] = dict(handle.artifact.facts)
                    return handle

            run.__class__ = Remembering
            flow(exp, run)

        look(outputs, "num_samples=20", hashes=True, flow=remember)
        return facts

    expected, counted = facts_of(tmp_path), facts_of(planned["outputs"])
    assert set(expected) == set(counted) >= {"split", "tokenize", "index", "generate", "floor"}
    for name, facts in expected.items():
        facts.pop("skipped", None)  # a plan refuses no image
        assert {key: counted[name][key] for key in facts} == facts, name
    assert expected["tokenize"]["vocab_size"] == 256


def test_bytes_are_those_of_the_run(planned: dict[str, Any]) -> None:
    before, outputs = by_name(planned["before"]), planned["outputs"]
    assert before["index"].disk_bytes == made_bytes(outputs, "index_shard")
    assert before["aligned orders"].disk_bytes == made_bytes(outputs, "order")
    assert before["tokenize"].disk_bytes == pytest.approx(
        made_bytes(outputs, "token_shard"), rel=0.02
    )
    sets = ("generate", "floor", "ceiling", "calibration", *PLANTED)
    images = sum(before[name].disk_bytes for name in sets)
    assert images == pytest.approx(made_bytes(outputs, "samples", "replay", "images"), rel=0.02)
    kinds = ("features", "reference_features", "matches", "clusters", "measurement", "evaluation")
    slack = scores_bytes(MEASURED)  # of which curves take most with many tokens
    assert 0 <= before["evaluate"].disk_bytes - made_bytes(outputs, *kinds) < slack + 1e6


def test_what_is_all_cached_needs_room_for_its_run_folder_alone(planned: dict[str, Any]) -> None:
    before, after = by_name(planned["before"]), planned["after"]
    rows = by_name(after)
    copy, page = rows["copy of samples"].disk_bytes, rows["report"].disk_bytes
    assert after.disk_bytes == copy + page
    report = (planned["folder"] / "report.html").stat().st_size
    assert report / 2 < page < report + 2e6
    samples = (planned["folder"] / "samples").rglob("*")
    assert copy == sum(path.stat().st_size for path in samples if path.is_file())
    assert before["copy of samples"].disk_bytes == pytest.approx(copy, rel=0.02)


def test_a_larger_corpus_pays_for_its_new_shards_only(planned: dict[str, Any]) -> None:
    before = by_name(planned["before"])
    larger = by_name(look(planned["outputs"], "num_samples=20", "corpus.num_shards=3", hashes=True))
    for name, cached in (("tokenize", 3), ("select", 2), ("index", 2)):  # one is held out whole
        assert (larger[name].cached, larger[name].parts) == (cached, cached + 1)
    assert larger["index"].disk_bytes == pytest.approx(before["index"].disk_bytes / 2, rel=0.02)
    assert larger["select_holdout"].cached == larger["select_holdout"].parts == 1
    assert larger["generate"].disk_bytes == before["generate"].disk_bytes


def test_shards_that_are_joined_are_written_anew(planned: dict[str, Any]) -> None:
    outputs = planned["outputs"]
    words = ("num_samples=20", "stages=[tokenize,index]", "index.shard_tokens=1000000")
    joined = by_name(look(outputs, *words))["index"]
    assert (joined.cached, joined.parts) == (0, 1)
    before = made_bytes(outputs, "index_shard")
    folder = outputs / "joined"
    folder.mkdir()
    run_experiment(compose(*WORDS, *words, f"paths.outputs={outputs}"), folder)
    made = made_bytes(outputs, "index_shard") - before
    assert joined.disk_bytes == made  # what the token shards hold is known
    assert read_summary(folder)["stages"]["index"]["digest"] == joined.digest


@pytest.mark.parametrize("matching", ["free", "position"])
def test_orders_are_planned_as_generation_makes_them(
    planned: dict[str, Any], matching: str
) -> None:
    """Of every index shard; several ask for a screen of each besides."""
    outputs = planned["outputs"]
    words = ("num_samples=1", f"sampler.matching={matching}", "index.shard_tokens=1000000")
    words = (*words, "stages=[tokenize,index,generate]")
    name = "suffix orders" if matching == "free" else "aligned orders"
    before = by_name(look(outputs, *words))
    assert (before[name].cached, before[name].parts) == (0, 1)
    held = made_bytes(outputs, "order")
    folder = outputs / matching
    folder.mkdir()
    run_experiment(compose(*WORDS, *words, f"paths.outputs={outputs}"), folder)
    assert before[name].disk_bytes == made_bytes(outputs, "order") - held
    assert before["generate"].digest == read_summary(folder)["stages"]["generate"]["digest"]
    assert name not in by_name(look(outputs, *words, "seed=4"))
    assert name not in by_name(look(outputs, *words, "seed=4", "generator.engine=naive"))
    assert "screens" not in before
    several = by_name(look(outputs, *words, "seed=4", "index.shard_tokens=1"))
    if matching == "free":
        assert several["screens"].parts == several[name].parts == 2
    else:  # the first run made them
        assert not {"screens", name} & several.keys()


def test_files_beyond_the_memory_are_waited_for(
    planned: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def generated(available: int) -> Any:
        monkeypatch.setattr(image_costs, "available_bytes", lambda: available)
        return by_name(look(planned["outputs"], "seed=9", "num_samples=1"))["generate"]

    plenty, none = generated(10**12), generated(0)
    assert plenty.source == none.source.partition(";")[0]
    assert none.source.endswith("; 100% of the index is not in memory")
    assert none.seconds - plenty.seconds > plenty.tokens * 9e-5  # a page a token, and choices
    assert generated(none.memory_bytes).seconds == none.seconds  # its own memory keeps no file


def test_an_order_that_memory_cannot_hold_is_refused(planned: dict[str, Any]) -> None:
    words = ("sampler.matching=free", "corpus.num_shards=1", "stages=[tokenize,index,generate]")
    forecast = look(planned["outputs"], *words, memory_bytes=10**4)
    assert [stage.name for stage in forecast.stages if stage.refusal] == ["suffix orders"]
    assert "runtime.memory_gb=" in forecast.refusals[0]


def test_one_more_metric_costs_only_itself(planned: dict[str, Any]) -> None:
    more = by_name(
        look(planned["outputs"], "num_samples=20", "metric=[copying,order,kernel,frechet]")
    )
    sets = 3 + len(PLANTED)
    assert (more["evaluate"].cached, more["evaluate"].parts) == (3 * sets, 4 * sets)
    assert more["evaluate"].disk_bytes == scores_bytes(MEASURED)  # no features, no matches


def test_stages_that_are_not_asked_for_are_not_planned(planned: dict[str, Any]) -> None:
    names = [s.name for s in look(planned["outputs"], "stages=[tokenize,index]").stages]
    assert names == ["split", "tokenize", "select", "select_holdout", "index"]


def test_a_plan_reads_no_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(compose(*WORDS, f"paths.outputs={tmp_path}")).corpus.shards  # noqa: B018 - written

    def refuse(*_: object) -> str:
        raise AssertionError("a shard was hashed")

    monkeypatch.setattr(file_shard, "file_sha256", refuse)
    forecast = look(tmp_path)
    assert forecast.num_unknown == 3
    assert forecast.disk_bytes > 0


# --------------------------------------------------------------------------------------- the check


def free_space(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(check.shutil, "disk_usage", lambda _: SimpleNamespace(free=size))


def test_a_run_that_cannot_fit_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planned: dict[str, Any]
) -> None:
    need = planned["before"].disk_bytes
    cfg = compose(*WORDS, "num_samples=20", f"paths.outputs={tmp_path}")
    free_space(monkeypatch, need * 0.8)
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(CapacityError) as refusal:
        run_experiment(cfg, folder)
    for words in ("needs", str(tmp_path), "free", "paths.outputs=FOLDER", "tools.gc", "tools.plan"):
        assert words in str(refusal.value)
    summary = read_summary(folder)
    assert (summary["status"], summary["stages"]) == ("failed", {})
    assert not list((tmp_path / "artifacts").glob("[a-z]*"))
    free_space(monkeypatch, need * 1.1)
    check.refuse_what_cannot_fit(cfg, build(cfg), flow)


def test_a_sort_that_memory_cannot_hold_is_refused_before_the_run_begins(tmp_path: Path) -> None:
    words = (*WORDS, f"paths.outputs={tmp_path}", "runtime.memory_gb=0.01")
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(CapacityError, match=r"runtime\.memory_gb=0\.\d\d"):
        run_experiment(compose(*words), folder)
    summary = read_summary(folder)
    assert (summary["status"], summary["stages"]) == ("failed", {})
    assert by_name(look(tmp_path, memory_bytes=10**7))["index"].refusal
    assert not look(tmp_path).refusals


def test_what_is_cached_is_never_refused(
    monkeypatch: pytest.MonkeyPatch, planned: dict[str, Any]
) -> None:
    cfg = compose(*WORDS, "num_samples=20", f"paths.outputs={planned['outputs']}")
    cfg.runtime.memory_gb = 0.01
    free_space(monkeypatch, planned["after"].disk_bytes)
    check.refuse_what_cannot_fit(cfg, build(cfg), flow)


def test_a_forgotten_hash_refuses_nothing(
    monkeypatch: pytest.MonkeyPatch, planned: dict[str, Any]
) -> None:
    outputs = planned["outputs"]
    cfg = compose(*WORDS, "num_samples=20", f"paths.outputs={outputs}")
    for entry in (outputs / "artifacts" / ".hashes").iterdir():
        entry.unlink()
    free_space(monkeypatch, planned["after"].disk_bytes)
    check.refuse_what_cannot_fit(cfg, build(cfg), flow)


def test_a_missing_corpus_is_told_by_the_run(tmp_path: Path) -> None:
    cfg = compose("corpus=folder", f"corpus.path={tmp_path / 'none'}", f"paths.outputs={tmp_path}")
    check.refuse_what_cannot_fit(cfg, build(cfg), flow)


# -------------------------------------------------------------------------------------- the corpus


def write_tar(path: Path, count: int, *, side: int = 8) -> None:
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            stream = io.BytesIO()
            Image.new("RGB", (side, side), (number % 255, 0, 0)).save(stream, "PNG")
            info = tarfile.TarInfo(f"{number:04d}.png")
            info.size = len(stream.getvalue())
            tar.addfile(info, io.BytesIO(stream.getvalue()))


def test_records_are_counted_up_to_a_limit_and_then_estimated(tmp_path: Path) -> None:
    for number, count in enumerate((40, 20, 80)):
        write_tar(tmp_path / f"{number}.tar", count)
    corpus = WebDatasetCorpus(tars=str(tmp_path))
    exact = PlannedCorpus.of(corpus, max_counted=None, hashes=False)
    assert [len(shard) for shard in exact.shards] == [40, 20, 80]
    assert exact.num_estimated == 0
    some = PlannedCorpus.of(corpus, max_counted=50, hashes=False)
    assert [len(shard) for shard in some.shards][:2] == [40, 20]
    assert len(some.shards[2]) == pytest.approx(80, rel=0.15)  # tars are padded to 10 kB
    assert some.num_estimated == 1


def test_a_known_hash_is_recalled_without_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "a.tar", 3)
    shard = TarShard(name="a", path=tmp_path / "a.tar", hash_cache=str(tmp_path / "hashes"))
    counter = RecordCounter(max_counted=None)
    assert shard.known_identity() is None
    assert counter.count(shard) == 3
    known = shard.identity()
    monkeypatch.setattr(file_shard, "file_sha256", None)
    assert shard.known_identity() == known
    write_tar(tmp_path / "a.tar", 4)
    assert shard.known_identity() is None
    assert TarShard(name="a", path=tmp_path / "a.tar").known_identity() is None


# ------------------------------------------------------------------------------- sizes and rates


@given(documents=st.integers(1, 9), num_tokens=st.integers(1, 40), image_size=st.integers(1, 9))
def test_a_sample_set_is_as_large_as_its_arrays(
    documents: int, num_tokens: int, image_size: int
) -> None:
    tokens = np.zeros((documents, num_tokens), np.uint16)
    trace = empty_trace(documents, num_tokens)
    pictures = np.zeros((documents, image_size, image_size, 3), np.uint8)
    total = 0
    for array in (tokens, *trace.values(), pictures):
        stream = io.BytesIO()
        np.save(stream, array)
        total += len(stream.getvalue())
    planned = samples_bytes(documents, num_tokens=num_tokens, image_size=image_size, traced=True)
    assert planned == total + pictures.nbytes  # the grid


def write_manifest(root: Path, kind: str, digest: str, seconds: float, **parts: Any) -> None:
    folder = root / kind / digest
    folder.mkdir(parents=True)
    Manifest(
        kind=kind,
        digest=digest,
        payload=parts.get("payload", {}),
        files={},
        facts=parts["facts"],
        created_at="",
        duration_s=seconds,
        made_by={},
        own_s=parts.get("own_s"),
    ).write(folder)


def test_rates_come_from_what_is_most_alike(tmp_path: Path) -> None:
    three = {"class": "PyramidTokenizer", "sizes": [8, 16, 32]}
    two = {"class": "PyramidTokenizer", "sizes": [8, 16]}
    for digest, tokenizer, seconds in (("a1", three, 4.0), ("b2", three, 8.0), ("c3", two, 1.0)):
        facts = {"num_documents": 10, "num_tokens": 20}
        payload = {"tokenizer": tokenizer, "version": TokenizeShard.VERSION}
        write_manifest(tmp_path, "token_shard", digest, seconds, facts=facts, payload=payload)
    for version, counted in ((0, facts), (TokenizeShard.VERSION, {})):  # of older programs
        payload = {"tokenizer": three, "version": version}
        write_manifest(tmp_path, "token_shard", f"d{version}", 99, facts=counted, payload=payload)
    rates = Rates(ArtifactStore(root=tmp_path))
    assert rates.of(TokenizeShard, three).seconds == pytest.approx(12 / 40)
    assert rates.of(TokenizeShard, two).seconds == pytest.approx(1 / 20)
    other = rates.of(TokenizeShard, {"class": "PyramidTokenizer", "sizes": [4]})
    assert other.seconds == pytest.approx(4 / 20)  # the median
    assert not other.per_core
    strange = rates.of(TokenizeShard, {"class": "Other"})
    assert strange.source == "built in"
    assert strange.per_core
    assert rates.of(BuildOrder).source == "built in"


def test_what_was_made_on_the_way_is_in_no_rate(tmp_path: Path) -> None:
    facts = {"num_documents": 10, "num_tokens": 20}
    payload = {"tokenizer": {"class": "A"}, "version": TokenizeShard.VERSION}
    write_manifest(tmp_path, "token_shard", "a1", 9.0, own_s=2.0, facts=facts, payload=payload)
    rates = Rates(ArtifactStore(root=tmp_path))
    assert rates.of(TokenizeShard, {"class": "A"}).seconds == pytest.approx(2 / 20)
    ten = rates.of(TokenizeShard, {"class": "A"}, units=lambda facts: facts["num_documents"])
    assert ten.seconds == pytest.approx(2 / 10)


def test_what_a_metric_compares_with_all_training_images_grows_with_them(
    planned: dict[str, Any],
) -> None:
    words = ("num_samples=20", "encoder=pixels", "seed=9")

    def seconds(*more: str) -> float:
        return by_name(look(planned["outputs"], *words, *more, rates=Rates(None)))[
            "evaluate"
        ].seconds

    one, two = (
        [seconds(f"metric=[{name}]", f"corpus.num_shards={n}") for n in (1, 2)]
        for name in ("order", "patches")
    )
    assert one[0] == one[1] > 0
    assert two[1] == pytest.approx(2 * two[0], rel=0.2)


# ---------------------------------------------------------------------------------------- the tool


def test_the_tool_prints_a_table_and_json(
    planned: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "num_samples=20", f"paths.outputs={planned['outputs']}"]
    assert tool.main(["--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {stage["name"]: stage["digest"] for stage in told["stages"]} == {
        stage.name: stage.digest for stage in planned["after"].stages
    }
    assert told["free_bytes"] > told["disk_bytes"] == planned["after"].disk_bytes
    assert tool.main([*words, "sampler=greedy"]) == 0
    text = capsys.readouterr().out
    assert tool.main(["--rates", *words]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert set(measured["measurement"]) == {"CopyingMetric", "OrderMetric", "KernelMetric"}
    assert all(seconds > 0 for kind in measured.values() for seconds in kind.values())
    assert "0 of 1" in text
    assert "fits" in text
    assert "made here" in text


def test_the_tool_says_what_does_not_fit(
    planned: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free_space(monkeypatch, 1000)
    words = [*WORDS, "num_samples=20", f"paths.outputs={planned['outputs']}"]
    assert tool.main([*words, "seed=7"]) == 1
    assert "DOES NOT FIT" in capsys.readouterr().out


def test_the_tool_explains_a_typing_mistake(command: Callable[..., Any]) -> None:
    result = command("imagegram.tools.plan", ["tokeniser=pyramid2"])
    assert result.returncode == 1
    assert "tokenizer" in result.stderr
    assert "Traceback" not in result.stderr
