"""The contracts of the house: what a corpus, a tokenizer, an index, a metric ... must do.

Nothing here does any work. A component is a frozen, keyword-only dataclass whose fields are its
identity; weights and memory maps are loaded lazily. Array names carry shape suffixes:

======  =================================================
``B``   images of a batch (or samples)
``T``   tokens of one image
``H W`` height and width in pixels, ``C`` = 3 colours
``K``   distinct next tokens
``D``   features of one image
======  =================================================
"""

from imagegram.protocols.data import (
    CaptionedTokenizer,
    CodesTokenizer,
    Corpus,
    ImageShard,
    ItemWriter,
    Modality,
    SentenceTokenizer,
    TextTokenizer,
    Tokenizer,
)
from imagegram.protocols.evaluation import (
    Callback,
    CutDocuments,
    DescribedDocuments,
    Documents,
    DocumentSource,
    Encoder,
    ImageSet,
    Metric,
    PicturedDocuments,
    Reference,
    TextEncoder,
)
from imagegram.protocols.models import (
    AnyLength,
    Condition,
    Denoises,
    Generator,
    Index,
    Model,
    Paints,
    ReadsCaptions,
    Sampler,
    Scores,
    ScoresByLabel,
)

__all__ = [
    "AnyLength",
    "Callback",
    "CaptionedTokenizer",
    "CodesTokenizer",
    "Condition",
    "Corpus",
    "CutDocuments",
    "Denoises",
    "DescribedDocuments",
    "DocumentSource",
    "Documents",
    "Encoder",
    "Generator",
    "ImageSet",
    "ImageShard",
    "Index",
    "ItemWriter",
    "Metric",
    "Modality",
    "Model",
    "Paints",
    "PicturedDocuments",
    "ReadsCaptions",
    "Reference",
    "Sampler",
    "Scores",
    "ScoresByLabel",
    "SentenceTokenizer",
    "TextEncoder",
    "TextTokenizer",
    "Tokenizer",
]
