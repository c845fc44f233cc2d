"""A tiny random encoder of sentences, saved as transformers saves one, for tests."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.documents import STORIES


def write_encoder(folder: Path, *, width: int = 32, seed: int = 0, num_heads: int = 2) -> Path:
    """Write a BERT of one layer with random weights."""
    import torch
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    words = sorted({word.strip(".,?") for story in STORIES for word in story.lower().split()})
    letters = [chr(code) for code in range(33, 127)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters), *words]
    vocabulary = {name: number for number, name in enumerate(dict.fromkeys(names))}
    pieces = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    pieces.save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=pieces.get_vocab_size(),
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=num_heads,
            intermediate_size=2 * width,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(folder)
    return folder
