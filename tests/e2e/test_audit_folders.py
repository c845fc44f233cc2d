"""Audits of small folders made from the demo: known copying is found, and the words are true."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagegram.audit.audited import Source
from imagegram.audit.flow import Audit
from imagegram.errors import ConfigError, CorpusError
from imagegram.experiment import build
from imagegram.records import Record
from imagegram.stages.generate import select_documents
from imagegram.stages.select import tokenize
from imagegram.stages.split import Split
from imagegram.stages.tokens import TokenSet
from imagegram.tools.audit import run_audit
from tests.conftest import REPOSITORY, clean_environment, compose, read_summary
from tests.pictures import context, encode, ids_of

AuditHere = Callable[..., Audit]
Command = Callable[..., subprocess.CompletedProcess[str]]
METRICS = "metric=[copying,novelty]"
#: As many of the 24 held-out crops of the tiny demo as are audited are the floor.
NUM_FLOOR = 12


@pytest.fixture
def audit_here(demo_outputs: Path, tmp_path: Path) -> AuditHere:
    """Audit in this process, against the tiny demo."""
    count = iter(range(100))

    def audit(*words: str, outputs: Path = demo_outputs, **source: Any) -> Audit:
        folder = tmp_path / f"audit{next(count)}"
        folder.mkdir()
        cfg = compose("debug=tiny", f"paths.outputs={outputs}", METRICS, *words)
        return run_audit(cfg, Source(**source), folder)[0]

    return audit


def demo(outputs: Path, part: str) -> list[Record]:
    """Files of the tiny demo: ``train`` or ``holdout``, in the order of their tokens."""
    corpus = build(compose("debug=tiny", f"paths.outputs={outputs}")).corpus
    shards = corpus.shards if part == "train" else corpus.holdout_shards
    return [record for shard in shards for record in shard]


def tokenized(outputs: Path, part: str) -> tuple[TokenSet, Any]:
    exp = build(compose("debug=tiny", f"paths.outputs={outputs}"))
    make = context(outputs).make
    split = make(Split(corpus=exp.corpus))
    train, holdout = tokenize(lambda _, stage: make(stage), split, exp.tokenizer)
    return train if part == "train" else holdout, exp.tokenizer


def write_folder(folder: Path, files: Sequence[bytes]) -> str:
    folder.mkdir()
    for number, data in enumerate(files):
        (folder / f"{number:03}.png").write_bytes(data)
    return str(folder)


def values(audit: Audit, which: str) -> dict[str, float | None]:
    return {reading.score: reading.values[which] for reading in audit.readings}


def read_images(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


def test_held_out_files_read_as_the_floor(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path
) -> None:
    records = demo(demo_outputs, "holdout")
    order = select_documents(len(records), 0)[:NUM_FLOOR]
    audit = audit_here(images=write_folder(tmp_path / "a", [records[i].data for i in order]))
    own, floor = values(audit, "generated"), values(audit, "floor")
    for score in ("exact_copy_rate", "largest_source_share", "num_phrases", "novelty_auc"):
        assert own[score] == pytest.approx(floor[score]), score
    placed = {reading.place for reading in audit.readings}
    assert placed <= {"as held-out", "too few to tell", "none found", ""}
    assert audit.answer.fact.startswith("0 of 12 images are exact copies; with 95 % confidence")
    assert "copy more than held-out images do, by" not in audit.answer.verdict[0]
    assert "held-out" in next(text for label, text in audit.findings if label == "reads like")


@pytest.mark.parametrize("side", [16, 40])
def test_decoded_training_images_read_as_the_recoded_ones(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path, side: int
) -> None:
    tokens, tokenizer = tokenized(demo_outputs, "train")
    order = select_documents(tokens.num_documents, 0)[:20]
    images = tokenizer.decode(tokens.gather(order), output_size=side)
    audit = audit_here(images=write_folder(tmp_path / "a", [encode(image) for image in images]))
    own, recoded = values(audit, "generated"), values(audit, "recoded")
    for score in ("exact_copy_rate", "largest_source_share", "num_phrases", "novelty_auc"):
        assert own[score] == pytest.approx(recoded[score]), score
    # What the tokens keep is what every file keeps of its own.
    again = np.stack([ids_of(tokenizer, image) for image in images])
    kept = float((again == tokens.gather(order)).mean())
    assert audit.record["circumstances"]["agreement"]["recoded"]["all"] == pytest.approx(kept)
    assert kept < 1


def test_a_planted_share_is_recovered_and_files_are_named(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path
) -> None:
    train, holdout = demo(demo_outputs, "train"), demo(demo_outputs, "holdout")
    files = [record.data for record in [*train[:5], *holdout[:15]]]
    audit_here("seed=3", images=write_folder(tmp_path / "a", files))
    folder = tmp_path / "audit0"
    scores = read_summary(folder)["scores"]
    assert scores["exact_copy_rate"]["value"] == 0.25
    assert scores["exact_copy_rate"]["floor"] == 0
    copied = {line["image"] for line in read_images(folder) if line["exact_copy"] == 1}
    assert copied == {f"00{number}.png" for number in range(5)}
    record = json.loads((folder / "audit.json").read_text())
    assert {pair["image"] for pair in record["nearest"][:5]} == copied
    for pair in record["nearest"][:5]:
        assert pair["nearest"] == train[int(pair["image"].removesuffix(".png"))].key
        assert pair["exact"]
        assert pair["rms"] == 0
    assert (folder / "samples" / "images.npy").exists()
    found = record["answer"]["found"]
    assert re.match(
        r"5 of 20 images are exact copies, e\.g\. 00[0-4]\.png = training image 0", found
    )
    html = (folder / "report.html").read_text()
    assert "audit of a: demo_tiny" in html
    assert "<h1>5 of 20 images are exact copies" in html
    assert html.count("<figcaption><b>00") == 4  # the pairs beside the heading
    assert "planted collages" in html
    assert re.search("<summary>[0-9]+ more findings</summary>", html)


def test_unreadable_files_and_repeats_are_counted(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path
) -> None:
    good = [record.data for record in demo(demo_outputs, "holdout")[:6]]
    folder = write_folder(tmp_path / "a", [*good, good[0], b"", good[1][:-40], b"GIF89a"])
    (tmp_path / "a" / "notes.pdf").write_bytes(b"%PDF")
    audit = audit_here(images=folder)
    at = audit.record["circumstances"]
    assert at["skipped"] == {"empty_file": 1, "truncated": 1, "unsupported_format": 1}
    assert at["sizes"]["generated"] == 7
    assert at["num_repeated"] == 1
    assert at["num_others"] == 1
    text = dict(audit.findings)
    assert "skipped: 1 empty file, 1 truncated, 1 unsupported format" in text["images"]


def test_tokens_are_compared_exactly(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path
) -> None:
    tokens, _ = tokenized(demo_outputs, "train")
    np.save(tmp_path / "tokens.npy", tokens.gather(np.arange(15)))
    audit = audit_here("num_samples=9999", tokens=str(tmp_path / "tokens.npy"), num_images=10)
    own = values(audit, "generated")
    assert own["exact_copy_rate"] == own["largest_source_share"] == own["num_phrases"] == 1
    at = audit.record["circumstances"]
    assert at["sizes"]["generated"] == 10
    assert not {"recoded", "recoded_jpeg"} & at["sizes"].keys()
    assert "collages" in at["sizes"]
    rows = {line["image"] for line in read_images(tmp_path / "audit0")}
    assert len(rows) == 10
    assert rows < {f"row {number}" for number in range(15)}
    assert "exact" in dict(audit.findings)["tokens"]


def test_tokens_of_another_tokenizer_are_refused_before_the_corpus_is_read(
    audit_here: AuditHere, tmp_path: Path
) -> None:
    np.save(tmp_path / "tokens.npy", np.zeros((3, 4032), np.uint16))
    with pytest.raises(ConfigError, match=r"\(3, 4032\).*\(N, 960\)"):
        audit_here(tokens=str(tmp_path / "tokens.npy"), outputs=tmp_path / "fresh")
    assert not list((tmp_path / "fresh").glob("artifacts/tokens/*"))


def test_an_audit_again_computes_nothing(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path
) -> None:
    files = [record.data for record in demo(demo_outputs, "holdout")[:10]]
    images = write_folder(tmp_path / "a", files)
    audit_here(images=images)
    again = audit_here("runtime.workers=2", images=images)
    stages = read_summary(tmp_path / "audit1")["stages"]
    assert all(stage["hit"] for stage in stages.values()), stages
    assert {"audited", "recoded", "recoded_jpeg", "collages", "ceiling", "floor"} <= set(stages)
    first = json.loads((tmp_path / "audit0" / "audit.json").read_text())
    assert json.loads(json.dumps(again.record)) == first


def test_jpeg_copies_have_the_quality_of_the_files(
    audit_here: AuditHere, demo_outputs: Path, tmp_path: Path
) -> None:
    from imagegram.images.decode import decode_image

    folder = tmp_path / "a"
    folder.mkdir()
    for number, record in enumerate(demo(demo_outputs, "train")[:10]):
        data = encode(decode_image(record.data), "JPEG", quality=60)
        (folder / f"{number}.jpg").write_bytes(data)
    at = audit_here(images=str(folder)).record["circumstances"]
    assert (at["jpeg_quality"], at["jpeg_share"]) == (60, 1)
    other = audit_here(images=str(folder), jpeg_quality=None)
    assert "recoded_jpeg" not in other.record["circumstances"]["sizes"]


def test_what_cannot_be_audited_is_refused(audit_here: AuditHere, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "a", [b"", b"GIF89a"])
    with pytest.raises(CorpusError, match=r"no image can be read \(empty_file: 1, unsupp"):
        audit_here(images=images)
    with pytest.raises(CorpusError, match="type images=FOLDER"):
        audit_here(images=str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="lies inside images="):
        audit_here(images=images, outputs=tmp_path / "a" / "outputs")
    assert read_summary(tmp_path / "audit0")["status"] == "failed"


# ------------------------------------------------------------------------------- the command line


def test_the_command_prints_the_table_and_the_folder(
    command: Command, demo_outputs: Path, tmp_path: Path
) -> None:
    files = [record.data for record in demo(demo_outputs, "train")[:12]]
    words = [f"images={write_folder(tmp_path / 'a', files)}", "debug=tiny", METRICS]
    words += [f"paths.outputs={demo_outputs}"]
    result = command("imagegram.tools.audit", words)
    assert result.returncode == 0, result.stderr
    (folder,) = map(Path, result.stdout.splitlines())
    assert (folder / "summary.json").exists()
    assert (demo_outputs / "latest").resolve() == folder.resolve()
    lines = result.stderr.splitlines()
    first = lines[lines.index("") + 1]
    assert first.startswith("12 of 12 images are exact copies, e.g. 0")
    row = next(line for line in lines if line.startswith(" exact copies "))
    assert row.split()[2:4] == ["100", "%"]
    assert row.rstrip().endswith("copies more")
    assert "exact copy" in result.stderr
    assert lines[-1] == f"report: {folder / 'report.html'}"
    assert re.search(r"^exact copies +12 of 12, 100 % \[73\.5, 100\]", result.stderr, re.M)
    as_json = command("imagegram.tools.audit", [*words, "--json"])
    record = json.loads(as_json.stdout)
    assert record["scores"]["exact_copy_rate"]["value"] == 1
    assert (Path(record["folder"]) / "audit.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "type one of images=FOLDER, texts=FILE.jsonl and tokens=FILE.npy"),
        (["images=missing"], "type images=FOLDER"),
        (["images=missing", "tokeniser=pyramid2"], "did you mean 'tokenizer'"),
    ],
)
def test_errors_say_what_to_type(
    command: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    result = command("imagegram.tools.audit", [*words, f"paths.outputs={tmp_path}"])
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout


def test_the_help_shows_commands(command: Command) -> None:
    result = command("imagegram.tools.audit", ["--help"])
    assert result.returncode == 0
    assert "images=FOLDER" in result.stdout


PAGE = (REPOSITORY / "docs" / "audit.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line
]


def test_the_commands_of_the_page_run_in_its_order(demo_outputs: Path) -> None:
    assert len(COMMANDS) >= 3
    for line in COMMANDS:
        words = [word.replace("outputs/", f"{demo_outputs}/") for word in shlex.split(line)]
        words = [sys.executable, *words[1:], "debug=tiny", METRICS, f"paths.outputs={demo_outputs}"]
        result = subprocess.run(
            words,
            cwd=REPOSITORY,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, line + result.stdout[-2000:] + result.stderr[-4000:]
