"""Files that a configuration names: a file, a folder, a glob, a pattern of numbers, or a list.

>>> [path.name for path in expand("data/{08..10}.tar")]
['08.tar', '09.tar', '10.tar']
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagegram.corpora.names import is_hidden, shown
from imagegram.errors import CorpusError

#: Names of tars in a folder of tars; whether gzip compresses one is seen in its content.
TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")

#: A file, a folder of files, a glob, a pattern like ``{00000..00099}.tar``, or a list of these.
Patterns = str | tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files of one setting of a corpus.

    Attributes:
        patterns: what the setting says.
        corpus: name of the corpus, for messages.
        setting: key of the configuration.
        noun: what one of the files is.
        suffixes: of the files that are read of a folder.
    """

    patterns: Patterns
    corpus: str
    setting: str
    noun: str
    suffixes: tuple[str, ...]

    def paths(self, most: int | None = None) -> list[Path]:
        """Return the first of the files, missing ones of a pattern too."""
        return expand(self.patterns or (), self.suffixes)[:most]

    def find(self, most: int | None, *, remedy: str) -> dict[str, Path]:
        """Return the first of the files that are all there, by a short unique name.

        Args:
            most: how many are wanted; None: all, and at least one.
            remedy: what to do where some are missing.

        Raises:
            CorpusError: when one is missing, or too few are named, or one is named twice.
        """
        paths = self.paths(most)
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise CorpusError(
                f"corpus {self.corpus}: {len(missing)} of {len(paths)} {self.noun}s are missing in "
                f"{missing[0].parent.absolute()}, first {missing[0].name}; {remedy}"
            )
        if not paths or (most is not None and len(paths) < most):
            raise CorpusError(
                f"corpus {self.corpus}: {len(paths)} {self.noun}s found in "
                f"{', '.join(listed(self.patterns))}, {most or 'at least 1'} wanted; {remedy}"
            )
        return dict(zip(self._names(paths), paths, strict=True))

    def _names(self, paths: Sequence[Path]) -> list[str]:
        """Return the stems, or paths below the common folder where stems repeat."""
        if len(set(paths)) < len(paths):
            twice = next(path for i, path in enumerate(paths) if path in paths[:i])
            raise CorpusError(f"{self.setting} lists {twice} twice; name every {self.noun} once")
        stems = [self._stem(path) for path in paths]
        if len(set(stems)) == len(stems):
            return [shown(stem) for stem in stems]
        common = os.path.commonpath([path.parent for path in paths])
        names = [path.relative_to(common).with_name(self._stem(path)).as_posix() for path in paths]
        if len(set(names)) < len(names):
            number = next(i for i, name in enumerate(names) if name in names[:i])
            raise CorpusError(
                f"{self.setting} lists {paths[names.index(names[number])]} and {paths[number]}, "
                f"the same {self.noun} as it seems, compressed and not; name one of them, or move "
                "one away"
            )
        return [shown(name) for name in names]

    def _stem(self, path: Path) -> str:
        suffix = next((end for end in self.suffixes if path.name.endswith(end)), path.suffix)
        return path.name.removesuffix(suffix)


def listed(patterns: str | Sequence[str] | None) -> list[str]:
    """Return the patterns of a setting as a list."""
    if patterns is None or isinstance(patterns, str):
        return [patterns] if patterns else []
    return list(patterns)


def expand(patterns: str | Sequence[str], suffixes: Sequence[str] = TAR_SUFFIXES) -> list[Path]:
    """Return the paths that a pattern or a list of patterns stands for, in the corpus' order.

    Args:
        patterns: see ``Patterns``.
        suffixes: of the files that are read of a folder.
    """
    if not isinstance(patterns, str):
        return [path for pattern in patterns for path in expand(pattern, suffixes)]
    if match := _RANGE.search(patterns):
        first, last = match.groups()
        numbers = (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1))
        start, end = patterns[: match.start()], patterns[match.end() :]
        return expand([start + number + end for number in numbers], suffixes)
    path = Path(patterns)
    if path.is_dir():
        ends = tuple(suffixes)
        names = (file for file in path.iterdir() if file.name.endswith(ends))
        return sorted(file for file in names if not is_hidden(file.name))
    if any(sign in patterns for sign in "*?[") and not path.exists():
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        return sorted(file for file in found if not is_hidden(file.name))
    return [path]
