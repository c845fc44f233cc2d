"""What the predecessors' loop makes of an index: contexts without the separator before an image.

    python experiments/copy_rate/without_separator.py RUN [RUN ...]

RUN is the folder of a run. The first token is drawn from the documents' first tokens, every further
one from what follows the longest suffix of at most eight tokens *of the image so far*, anywhere in
the corpus, the separator being a token like any other. Prints for each run how many samples are
a training image, how many hold a separator, and how many of the places that a first token occurs at
are the first of an image: with the first token the loop has lost where it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from imagegram.indexes import Index, open_index
from imagegram.records import EOS_TOKEN_ID

NUM_SAMPLES = 1000
MAX_CONTEXT = 8


def sample(index: Index, num_tokens: int, rng: np.random.Generator) -> list[int]:
    """One image, or what the loop takes for one."""
    first = index.next_token([EOS_TOKEN_ID], max_context=1)
    begins = first.tokens != EOS_TOKEN_ID  # but for the last separator of all
    tokens, counts = first.tokens[begins], first.counts[begins].astype(float)
    row = [int(rng.choice(tokens, p=counts / counts.sum()))]
    while len(row) < num_tokens:
        found = index.next_token(row, max_context=MAX_CONTEXT)
        counts = found.counts.astype(float)
        row.append(int(rng.choice(found.tokens, p=counts / counts.sum())))
    return row


def main(runs: list[str]) -> None:
    """Print a line a run."""
    print("documents  tokens  exact copies  with a separator  first tokens that begin an image")
    for run in runs:
        stages = json.loads((Path(run) / "summary.json").read_text())["stages"]
        index = open_index(stages["index"]["path"])
        num_tokens = len(index.document(0))
        rng = np.random.Generator(np.random.Philox(key=0))
        rows = [sample(index, num_tokens, rng) for _ in range(NUM_SAMPLES)]
        whole = np.array([row for row in rows if EOS_TOKEN_ID not in row], dtype=np.uint16)
        copies = int((index.documents_equal(whole) > 0).sum()) if len(whole) else 0
        at_start = [index.count([EOS_TOKEN_ID, row[0]]) / index.count([row[0]]) for row in rows]
        print(
            f"{index.num_documents:9,}  {num_tokens:6}  {copies / NUM_SAMPLES:12.1%}"
            f"  {1 - len(whole) / NUM_SAMPLES:16.1%}  {np.mean(at_start):32.1%}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
