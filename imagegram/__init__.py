"""imagegram: when does a token generator create, and when does it copy?

One experiment is corpus x tokenizer x generator x sampler, run as
``tokenize -> index -> generate -> evaluate``::

    python -m imagegram.run corpus=demo tokenizer=pyramid3

Importing this package imports neither torch nor wandb.
"""

__version__ = "0.1.0"
