"""Words of the command line: names of folders are taken as they are, empty ones are refused."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from imagegram import words
from imagegram.errors import ConfigError
from imagegram.experiment import build
from imagegram.tools import audit, download, plan
from tests.conftest import compose
from tests.pictures import encode, noise

Command = Callable[..., subprocess.CompletedProcess[str]]
#: Names that Hydra's grammar refuses, or reads as something else than a name.
NAMES = (
    *("Фото", "写真", "a,b", "photos (2)", "it's", "a=b", "[x]", "{y}", "$HOME", "my photos"),
    *('say "hi"', "'quoted'", "50%", "C:", "#1", "x&y", "a;b", "~x", "back\\slash", "tail\\"),
    *("2024", "0010", "1e3", "1_000", "true", "nan", "-1", "a\tb", "!", "choice(1,2)", " x "),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_may_have_any_name(
    name: str, exists: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if exists:
        Path(name).mkdir()
    elif name in ("a,b", "[x]", "'quoted'", " x ") or "choice" in name or "\\" in name:
        return  # a sweep, a list, quotes, escapes: Hydra's meaning is as likely
    assert reads(words.as_typed([f"corpus.path={name}"])[0]) == name


def reads(word: str) -> object:
    """The value that Hydra reads."""
    return OverridesParser.create().parse_override(word).value()


def test_a_quoted_name_is_composed(tmp_path: Path) -> None:
    cfg = compose(*words.as_typed(["corpus=folder", "corpus.path=it's, (2)"]))
    assert cfg.corpus.path == "it's, (2)"


@pytest.mark.parametrize("name", NAMES)
def test_the_quoting_that_is_advised_works_in_a_shell(name: str) -> None:
    (typed,) = shlex.split(shlex.quote(f"condition.label={words.quoted(name)}"))
    assert reads(typed) == name


def test_what_hydra_may_be_meant_to_read_stays() -> None:
    listed = ["corpus.tars=[a.tar,b.tar]", "paths.data=${oc.env:HOME}", "tokenizer.checkpoint=null"]
    assert words.as_typed(listed) == listed
    sweep = ["-m", "corpus.path=one,two", "seed=1,2"]
    assert words.as_typed(sweep) == sweep
    others = ["sampler.temperature=(1)", "metric=[copying]", "--help", "~corpus.path", "x"]
    assert words.as_typed(others) == others


def test_a_sweep_over_folders_is_one_unless_the_comma_is_in_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a,b").mkdir()
    assert words.as_typed(["-m", "corpus.path=a,b"])[1] == "corpus.path='a,b'"
    for name in "ab":
        Path(name).mkdir()
    assert words.as_typed(["-m", "corpus.path=a,b"])[1] == "corpus.path=a,b"
    assert words.as_typed(["corpus.path=a,b"]) == ["corpus.path='a,b'"]


def test_a_pattern_of_tars_needs_no_quotes_for_hydra() -> None:
    typed = words.as_typed(["corpus=webdataset", "corpus.tars=tars/{00..09}.tar"])
    assert reads(typed[1]) == "tars/{00..09}.tar"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert words.as_typed(["corpus.path=~/photos"]) == [f"corpus.path={tmp_path}/photos"]
    assert words.as_typed(["corpus.path=~"]) == [f"corpus.path={tmp_path}"]


EMPTY = ("corpus.path=", "corpus.path=''", 'paths.outputs=""', "paths.data= ", "corpus.tars=")


@pytest.mark.parametrize("word", [*EMPTY, "+train_corpus.path=", "paths.outputs=${oc.env:NONE,''}"])
def test_an_empty_name_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"is empty.*=FOLDER"):
        words.as_typed([word])


def test_an_empty_name_from_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", "")
    cfg = compose("corpus=folder", "corpus.path=${oc.env:PHOTOS}")
    with pytest.raises(ConfigError, match=r"corpus.path is empty"):
        build(cfg)


@pytest.mark.parametrize("main", [plan.main, download.main, audit.main])
def test_tools_refuse_empty_names_too(main: Callable[[list[str]], int]) -> None:
    own = ["images=x"] if main is audit.main else []
    with pytest.raises(ConfigError, match="is empty"):
        main([*own, "paths.outputs="])


# ------------------------------------------------------------------------------------------- hints


def test_a_folder_for_the_demo_is_refused_and_nothing_is_written(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "my photos"
    photos.mkdir()
    (photos / "0.png").write_bytes(encode(noise(0)))
    given = [f"corpus.path={photos}", f"paths.outputs={tmp_path / 'out'}"]
    hint = (
        "corpus=demo has no path, but corpus=folder or corpus=text_folder has: type corpus=folder "
        f"'{given[0]}'"
    )
    result = command("imagegram.run", given)
    assert result.returncode == 1
    assert hint in result.stderr
    with pytest.raises(ConfigError, match=re.escape(hint)):
        plan.main(given)
    with pytest.raises(SystemExit):
        audit.main([*given, f"images={photos}"])
    assert hint in capsys.readouterr().err
    assert [path.name for path in photos.iterdir()] == ["0.png"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("corpus.tars=x", "corpus=webdataset has: type corpus=webdataset corpus.tars=x"),
        ("encoder.target=a:b", "encoder=module has: type encoder=module encoder.target=a:b"),
        (
            "corpus.holdout_fraction=0.2",
            "or corpus=books_library or corpus=cc12m_1 has",
        ),
        ("sampler.temprature=1", "did you mean 'sampler.temperature'?"),
        ("condition.label=it's", """type 'condition.label='"'"'it\\'"'"'s'"'"''"""),
        ("seed=(1)", "type 'seed='"),
        ("+corpus.path=x", "type corpus=folder corpus.path=x"),
        ("images=x", "type python -m imagegram.tools.audit images=x"),
        ("texts=x.jsonl", "type python -m imagegram.tools.audit texts=x.jsonl"),
    ],
)
def test_a_word_that_hydra_refuses_gets_a_hint(word: str, hint: str) -> None:
    assert any(hint in line for line in words.explain([word])), words.explain([word])


def test_a_bare_folder_gets_the_words_for_it(tmp_path: Path) -> None:
    (hint,) = words.explain(["--config-dir", "mine", str(tmp_path)])
    assert f"type corpus=folder corpus.path={tmp_path}" in hint


@pytest.mark.parametrize(
    ("word", "extra"),
    [
        ("launcher=joblib", "joblib"),
        ("launcher=submitit", "submitit"),
        ("hydra/launcher=ray", "ray"),
        ("hydra/sweeper=optuna", "optuna"),
        ("experiment=optuna_frontier", "optuna"),
    ],
)
def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    word: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"pip install 'imagegram[{extra}]'"
    with monkeypatch.context() as without:
        without.setattr(words, "_is_installed", lambda module: False)
        assert any(line in hint for hint in words.explain([word]))
    with monkeypatch.context() as there:
        there.setattr(words, "_is_installed", lambda module: True)
        assert not any("pip install" in hint for hint in words.explain([word]))
    assert not words._is_installed("no_such_package.launcher")
