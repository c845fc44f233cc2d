"""Tokenizers out of files: what comes back is exact, or refused and counted; nothing is cut."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from imagegram.corpora.jsonl import JsonlShard
from imagegram.errors import ConfigError, CorpusError, TokenError
from imagegram.records import EOS_TOKEN_ID
from imagegram.stages.tokenize import TokenizeShard
from imagegram.store.fingerprint import identity
from imagegram.tokenizers.bpe import BpeTokenizer, train
from imagegram.tokenizers.hf_tokenizer import FILE, Changed, HfTokenizer
from tests.documents import STORIES
from tests.pictures import context, ids_of

NASTY = [
    *("", " ", "\n\n\t", "na\u00efve caf\u00e9", "\U0001f469\u200d\U0001f52c", "\u202eabc"),
    *("<|end|> <s>", "\0", "a" * 5000),
]


def byte_level(root: Path) -> Path:
    """Byte-level BPE as GPT-2 has it, with a special token, cutting and padding switched on."""
    path = root / FILE
    train(STORIES, vocab_size=400, path=path)
    loaded = Tokenizer.from_file(str(path))
    loaded.add_special_tokens(["<|end|>"])
    loaded.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", pair="$A $B", special_tokens=[("<|end|>", 400)]
    )
    loaded.enable_truncation(4)
    loaded.enable_padding(pad_id=400, length=64)
    loaded.save(str(path))
    return path


def metaspace(root: Path) -> Path:
    """Pieces with bytes for what has none, as LLaMA-2 has them."""
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", *"abcdefgh", "\u2581a"]
    loaded = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=[("\u2581", "a")],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    loaded.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    loaded.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    loaded.add_special_tokens(["<s>"])
    loaded.save(str(root / FILE))
    return root / FILE


def lower_case(root: Path) -> Path:
    """Words in lower case, as BERT has them."""
    loaded = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    loaded.normalizer = normalizers.Lowercase()
    loaded.pre_tokenizer = pre_tokenizers.Whitespace()
    loaded.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["[UNK]"], show_progress=False
    )
    loaded.train_from_iterator(STORIES, trainer)
    loaded.save(str(root / FILE))
    return root / FILE


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> HfTokenizer:
    root = tmp_path_factory.mktemp("byte_level")
    return HfTokenizer(checkpoint=str(byte_level(root)), window=16)


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_come_back_whole(
    make: Callable[[Path], Path], text: str, tmp_path: Path
) -> None:
    tokenizer = HfTokenizer(checkpoint=str(make(tmp_path)))
    tokens = ids_of(tokenizer, text)
    assert tokens.dtype == np.uint16
    assert tokenizer.decode(tokens[None]) == [text]
    special = 1 if make is metaspace else 400
    assert special not in tokens  # what a text writes like a special token is text
    assert tokenizer.encode([tokenizer.prepare(text)]).counts == {}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(tokenizer: HfTokenizer, text: str) -> None:
    assert tokenizer.decode(ids_of(tokenizer, text)[None]) == [text]


def test_ids_and_places_are_those_of_bpe(tmp_path: Path) -> None:
    train(STORIES, vocab_size=400, path=tmp_path / FILE)
    ours = BpeTokenizer(checkpoint=str(tmp_path / FILE), window=16)
    theirs = HfTokenizer(checkpoint=str(tmp_path / FILE), window=16)
    assert theirs.spec == ours.spec
    for text in (*STORIES, "na\u00efve \U0001f469\u200d\U0001f52c \u05d0"):
        tokens = ids_of(ours, text)
        np.testing.assert_array_equal(ids_of(theirs, text), tokens)
        np.testing.assert_array_equal(theirs.offsets(tokens), ours.offsets(tokens))
    broken = np.array([[200, 201, 5, EOS_TOKEN_ID, 7]], dtype=np.uint16)
    assert theirs.decode(broken) == ours.decode(broken)
    places = theirs.offsets(broken[0])
    assert (np.diff(places) >= 0).all()
    assert places[3] == places[-1] == len(theirs.decode(broken)[0])


def test_a_text_that_does_not_come_back_is_refused_or_counted(tmp_path: Path) -> None:
    tokenizer = HfTokenizer(checkpoint=str(lower_case(tmp_path)))
    with pytest.raises(Changed, match="not_exact"):
        tokenizer.prepare(STORIES[0])
    lax = replace(tokenizer, exact=False)
    encoded = lax.encode([lax.prepare(STORIES[0]), lax.prepare("a wolf")])
    assert encoded.counts == {"changed": 1}
    assert lax.decode(encoded.documents[1][None]) == ["a wolf"]
    assert identity(lax) != identity(tokenizer)
    places = lax.offsets(encoded.documents[0])
    assert places[-1] == len(lax.decode(encoded.documents[0][None])[0])
    assert (np.diff(places) >= 0).all()


def test_refused_texts_are_counted_by_the_stage(tmp_path: Path) -> None:
    tokenizer = HfTokenizer(checkpoint=str(lower_case(tmp_path)))
    lines = tmp_path / "documents.jsonl"
    texts = ["a wolf", "A Wolf", "a lamb", ""]
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shard = JsonlShard(name="0", path=lines)
    stage = TokenizeShard(shard=shard, tokenizer=tokenizer.encoder, max_failed_fraction=0.5)
    facts = context(tmp_path / "out").make(stage).artifact.facts
    assert facts["skipped"] == {"empty_file": 1, "not_exact": 1}
    assert facts["num_documents"] == 2
    with pytest.raises(CorpusError, match=r"not_exact: 1.*tokenizer\.exact=false"):
        context(tmp_path / "again").make(replace(stage, max_failed_fraction=0.05))


def test_a_folder_is_its_file_and_identity_is_content(
    tokenizer: HfTokenizer, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    copied = tmp_path / "model" / FILE
    copied.write_bytes(Path(str(tokenizer.checkpoint)).read_bytes())
    other = replace(tokenizer, checkpoint=str(tmp_path / "model"))
    assert identity(other) == identity(tokenizer)
    assert identity(replace(other, window=8)) != identity(tokenizer)
    assert identity(replace(other, window=8).encoder) == identity(tokenizer.encoder)
    assert pickle.loads(pickle.dumps(other)) == other
    assert other.spec.vocab_size == 401


def test_what_cannot_be_is_refused(tokenizer: HfTokenizer, tmp_path: Path) -> None:
    large = Tokenizer(models.WordLevel({str(n): n for n in range(65_536)}, unk_token="0"))
    large.save(str(tmp_path / "large.json"))
    with pytest.raises(ConfigError, match=r"has 65,536 ids; .*65,535 at most are allowed"):
        HfTokenizer(checkpoint=str(tmp_path / "large.json"))
    gap = Tokenizer(models.WordLevel({"a": 0, "b": 70_000}, unk_token="a"))
    gap.save(str(tmp_path / "gap.json"))
    with pytest.raises(ConfigError, match="has 70,001 ids"):
        HfTokenizer(checkpoint=str(tmp_path / "gap.json"))
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vocab.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"has no tokenizer\.json, but vocab\.json; give a"):
        HfTokenizer(checkpoint=str(tmp_path / "old"))
    with pytest.raises(ConfigError, match="is no file"):
        HfTokenizer(checkpoint=str(tmp_path / "nowhere.json"))
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        HfTokenizer(checkpoint=str(tmp_path / "old" / "vocab.json"))
    with pytest.raises(ConfigError, match=r"no file is named; type tokenizer\.checkpoint=FOLDER"):
        _ = HfTokenizer().spec
    with pytest.raises(ConfigError, match="window=0"):
        HfTokenizer(window=0)
    with pytest.raises(TokenError, match=r"character 2 of a text is U\+D83D"):
        tokenizer.prepare("ab\ud83d")
    with pytest.raises(TokenError, match="id 401 of text 0 at position 1"):
        tokenizer.decode(np.array([[1, 401]], dtype=np.uint16))
