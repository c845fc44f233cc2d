"""Prompts as texts and as ids: what is taken, what is refused, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate

from imagegram.conditions.prompt import GivenTokens, PromptCondition, encoded, without_prompt
from imagegram.errors import ConfigError
from imagegram.tokenizers.bpe import BpeTokenizer, train
from tests.conftest import compose
from tests.documents import documents


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BpeTokenizer:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    train(documents(20), vocab_size=300, path=path)
    return BpeTokenizer(checkpoint=str(path), window=8)


def prompt(**fields: Any) -> PromptCondition:
    return PromptCondition(name="prompt", **fields)


def test_samples_take_prompts_in_turn() -> None:
    given = GivenTokens(rows=((), (1, 2)))
    tokens, sizes = given.of_samples(np.array([3, 0, 2**64 - 1], "u8"), num_tokens=3)
    assert tokens.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 0]]
    assert sizes.tolist() == [2, 0, 2]


def test_rows_are_padded_with_separators() -> None:
    rows = np.array([[7, 8], [7, 65535], [65535, 65535]], np.uint16)
    assert GivenTokens.of(rows).rows == ((7, 8), (7,), ())


def test_texts_are_encoded(tokenizer: BpeTokenizer) -> None:
    given = prompt(texts=("The king", "")).encoded(tokenizer)
    assert given.rows[1] == ()
    assert tokenizer.decode(np.array([given.rows[0]])) == ["The king"]
    assert encoded(prompt(texts=("The king", "")), tokenizer) == given
    assert encoded(None, tokenizer) is None
    assert without_prompt(given) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either texts or tokens"),
        ({"texts": ("a",), "tokens": ((1,),)}, "either texts or tokens"),
        ({"tokens": (1, 2)}, r"holds 1, which is no list of ids; type 'condition\.tokens=\[\["),
        ({"tokens": ("ab",)}, "holds 'ab', which is no list of ids"),
    ],
)
def test_what_is_no_prompt_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        prompt(**fields)


@pytest.mark.parametrize("token", [-1, 65535, 70000])
def test_separators_are_no_tokens(token: int) -> None:
    with pytest.raises(ConfigError, match="prompt 1 of condition=prompt holds an id that is none"):
        _ = prompt(tokens=((token,),)).of_tokens


def test_what_does_not_fit_a_tokenizer_is_refused(tokenizer: BpeTokenizer) -> None:
    with pytest.raises(ConfigError, match=r"has 8 tokens, and at most 7 fit.*tokenizer\.window=16"):
        prompt(tokens=((1,) * 8,)).encoded(tokenizer)
    assert prompt(tokens=((1,) * 7,)).encoded(tokenizer).rows == ((1,) * 7,)
    with pytest.raises(
        ConfigError, match=r"id 300, but the ids of this tokenizer lie in 0 \.\.\. 299"
    ):
        prompt(tokens=((300,),)).encoded(tokenizer)
    pyramid = instantiate(compose("tokenizer=pyramid2").tokenizer, _convert_="all")
    with pytest.raises(ConfigError, match="tokenizer=pyramid2 reads images"):
        prompt(texts=("a",)).encoded(pyramid)


def test_the_shipped_prompt_is_an_example(tmp_path: Path) -> None:
    words = ["condition=prompt", "condition.texts=[Once upon a time,The king]"]
    condition = instantiate(compose(*words).condition, _convert_="all")
    assert condition.texts == ("Once upon a time", "The king")
    assert condition.tokens == ()
