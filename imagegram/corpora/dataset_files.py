"""Which Parquet files of a dataset belong to a split, by their names, as the hub names them.

>>> split_of("data/train-00000-of-00008.parquet"), split_of("plain_text/partial-train/0000.parquet")
(('default', 'train'), ('plain_text', 'train'))
>>> split_of("my photos.parquet")
('default', None)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from imagegram.errors import CorpusError, did_you_mean

#: Configuration of files that lie in no folder of their own.
DEFAULT: Final = "default"
_NUMBERED: Final = re.compile(r"(.+)-\d+-of-\d+.*")
_WORDS: Final = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def split_of(file: str) -> tuple[str, str | None]:
    """Return configuration and split of a file; no split where no name tells one.

    Args:
        file: path inside the dataset, with ``/`` between its parts.
    """
    path = PurePosixPath(file)
    folders = [part for part in path.parts[:-1] if part != "data"]
    if match := _NUMBERED.fullmatch(path.stem):
        return "/".join(folders) or DEFAULT, canonical(match[1])
    if path.stem.isdigit() and folders:  # as the hub converts datasets: CONFIG/SPLIT/0000.parquet
        split = canonical(folders.pop().removeprefix("partial-"))
        return "/".join(folders) or DEFAULT, split
    if found := _word(path.stem):
        return "/".join(folders) or DEFAULT, found
    for number in range(len(folders) - 1, -1, -1):
        if found := _word(folders[number]):
            return "/".join(folders[:number] + folders[number + 1 :]) or DEFAULT, found
    return "/".join(folders) or DEFAULT, None


def canonical(split: str) -> str:
    """Return the name of a split that all its names stand for.

    >>> canonical("val"), canonical("train.100")
    ('validation', 'train.100')
    """
    return _WORDS.get(split.lower(), split)


def _word(name: str) -> str | None:
    return next(
        (_WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in _WORDS), None
    )


def files_of_split(
    files: Iterable[str], *, dataset: str, split: str, config: str | None, setting: str = "split"
) -> list[str]:
    """Return the files of a split, sorted; without any split in their names, all are ``train``.

    Args:
        files: Parquet files of the dataset.
        dataset: its name, for messages.
        split: which split.
        config: which configuration; None: the only one, or the default.
        setting: field of the corpus that names the split, for messages.

    Raises:
        CorpusError: when there is no such split or configuration, naming those that there are; or
            several configurations, of which none was named.
    """
    known = {file: split_of(file) for file in sorted(files)}
    if not known:
        raise CorpusError(f"corpus.dataset={dataset} holds no Parquet files (*.parquet)")
    if all(found is None for _, found in known.values()):
        known = {file: (name, "train") for file, (name, _) in known.items()}
    configs = sorted({name for name, found in known.values() if found is not None})
    if config is None:
        if len(configs) > 1 and DEFAULT not in configs:
            listed = ", ".join(configs)
            raise CorpusError(
                f"corpus.dataset={dataset} has several configurations; type corpus.config=NAME, "
                f"one of: {listed}"
            )
        config = configs[0] if len(configs) == 1 else DEFAULT
    elif config not in configs:
        raise CorpusError(
            f"corpus.dataset={dataset} has no configuration corpus.config={config}; "
            f"{did_you_mean(config, configs)}"
        )
    splits = sorted({found for name, found in known.values() if name == config and found})
    if canonical(split) not in splits:
        raise CorpusError(
            f"corpus.dataset={dataset} has no split corpus.{setting}={split}; "
            f"{did_you_mean(split, splits)}"
        )
    wanted = (config, canonical(split))
    return [file for file, found in known.items() if found == wanted]
