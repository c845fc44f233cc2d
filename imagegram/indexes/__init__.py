"""Suffix-array indexes over shards of token streams: several engines with one contract.

Open an index with ``open_index(dirs)``; ``docs/indexes.md`` shows it in a notebook.
"""

from imagegram.indexes.base import Index
from imagegram.indexes.open import open_index
from imagegram.records import Phrase

__all__ = ["Index", "Phrase", "open_index"]
