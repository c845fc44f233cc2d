"""Suffix-array indexes over shards of token streams: three engines, one contract.

``Index.open(dirs)`` is the way in; ``docs/indexes.md`` shows it in a notebook.
"""

from imagegram.indexes.base import Index
from imagegram.records import Phrase

__all__ = ["Index", "Phrase"]
