"""A run folder belongs to one run: whoever comes second is refused, and told what to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from imagegram.claims import CLAIMED, Claims, _release, check_writable, claim_sweep, opened
from imagegram.errors import ConfigError
from imagegram.store.run_files import SUMMARY, write_summary
from tests.conftest import compose, read_summary


@pytest.fixture(scope="module")
def cfg() -> Any:
    return compose("debug=tiny", "seed=7")


def test_a_claimed_folder_holds_the_configuration(cfg: Any, tmp_path: Path) -> None:
    with opened(cfg, tmp_path / "run"):
        assert read_summary(tmp_path / "run")["status"] == "running"
    assert OmegaConf.load(tmp_path / "run" / ".hydra" / "config.yaml").seed == 7


def test_the_second_is_refused_with_a_command_that_works(cfg: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    with opened(cfg, folder):
        pass
    (tmp_path / "a run.1").mkdir()  # an earlier one was moved already
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with (
        pytest.raises(ConfigError, match=r"holds another run \(running\)") as caught,
        opened(cfg, folder),
    ):
        pytest.fail("two runs in a folder")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    command = re.search(r"mv .*", str(caught.value))
    assert command is not None
    subprocess.run(shlex.split(command[0]), check=True)
    assert (tmp_path / "a run.2" / SUMMARY).exists()
    with opened(cfg, folder):
        pass


def test_of_four_at_once_one_gets_the_folder(cfg: Any, tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def claim(number: int) -> int:
        together.wait()
        try:
            with opened(OmegaConf.merge(cfg, {"seed": number}), tmp_path / "run"):  # type: ignore[arg-type]
                return 1
        except ConfigError:
            return 0

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(claim, range(4))) == 1
    ours = read_summary(tmp_path / "run")["seed"]
    assert OmegaConf.load(tmp_path / "run" / ".hydra" / "config.yaml").seed == ours


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("no"), "failed"), (KeyboardInterrupt("no"), "interrupted")]
)
def test_what_ends_before_the_run_is_recorded(
    error: BaseException, status: str, cfg: Any, tmp_path: Path
) -> None:
    with pytest.raises(type(error)), opened(cfg, tmp_path):
        raise error
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["error"], summary["seed"]) == (status, "no", 7)


def test_what_the_run_recorded_stays(cfg: Any, tmp_path: Path) -> None:
    def run() -> None:
        with opened(cfg, tmp_path):
            write_summary(tmp_path, status="completed", error=None)
            raise ConfigError("after the run")

    with pytest.raises(ConfigError):
        run()
    assert read_summary(tmp_path) == {"status": "completed", "error": None}


def test_a_sweep_has_its_folder_alone(tmp_path: Path) -> None:
    claim_sweep(tmp_path)
    with pytest.raises(ConfigError, match="another sweep"):
        claim_sweep(tmp_path)
    _release(tmp_path)  # no job began, so the mended command may take it
    claim_sweep(tmp_path)
    job = tmp_path / "0_seed=1"
    job.mkdir()
    (job / SUMMARY).write_text("{}")
    _release(tmp_path)
    with pytest.raises(ConfigError, match=r"\(1 jobs\).*mv "):
        claim_sweep(tmp_path)
    (tmp_path / CLAIMED).unlink()  # jobs of an earlier version
    with pytest.raises(ConfigError, match=r"\(1 jobs\)"):
        claim_sweep(tmp_path)


def test_a_place_that_cannot_be_written_is_named_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/out: Not a directory; .* hydra\.run\.dir=FOLDER"):
        check_writable(tmp_path / "file" / "out", "hydra.run.dir")


def test_hydra_is_stopped_by_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {
        "paths": {"outputs": str(tmp_path)},
        "hydra": {"job": {"chdir": True}, "run": {"dir": str(tmp_path)}},
    }
    with pytest.raises(SystemExit):
        Claims().on_run_start(OmegaConf.create(values))
    assert "leave it out" in capsys.readouterr().err
    values["hydra"]["job"] = {"chdir": False}
    Claims().on_run_start(OmegaConf.create(values))
