"""What sentence codes cost and keep: embedding, and the quantizers on all held-out sentences.

    python experiments/text_codes/costs.py DATA OUTPUTS [FORM ...]

Without the name of a form all are measured, and the encoder. OUTPUTS is that of a run of
experiment=text_codes: sentences that it has embedded are not embedded again. CPU-seconds of one
thread.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from imagegram.encoders.sentences import SentenceEmbedder
from imagegram.metrics.codes import cosines, retrieved, variety
from imagegram.texts.sentences import split_sentences
from imagegram.tokenizers.sentence_rvq.fit import training_vectors
from imagegram.tokenizers.sentence_rvq.quantizers import FORMS, fit_codebooks, quantize, sums
from imagegram.tokenizers.sentence_rvq.sentences import Sentences

SIZES = ((8, 256), (4, 256))
NUM_EMBEDDED = 2000


def texts(path: Path) -> list[str]:
    """Return the texts of a file of JSON lines."""
    return [json.loads(line)["text"] for line in path.open()]


def embedding(sentences: list[str]) -> None:
    """Print the speed of the encoder in both types, and how near they are."""
    chosen = np.random.default_rng(0).permutation(len(sentences))[:NUM_EMBEDDED]
    some = [sentences[row] for row in chosen]
    exact_embedder, embedder = SentenceEmbedder(dtype="float32"), SentenceEmbedder()
    exact_embedder.embed(some[:8])
    embedder.embed(some[:8])  # loads the weights
    start = time.process_time()
    exact, _ = exact_embedder.embed(some)
    middle = time.process_time()
    vectors, was_cut = embedder.embed(some)
    end = time.process_time()
    print(f"float32 {len(some) / (middle - start):.0f} sentences/cpu-s")
    print(f"bfloat16 {len(some) / (end - middle):.0f} sentences/cpu-s, {was_cut.sum()} cut")
    print(f"cosine of the two: least {cosines(vectors, exact).min():.5f}")


def main() -> None:
    """Print all figures."""
    data, outputs = Path(sys.argv[1]) / "books" / "children", Path(sys.argv[2])
    start = time.process_time()
    holdout = texts(data / "holdout.jsonl")
    sentences = [one for text in holdout for one in split_sentences(text)]
    size = sum(len(text.encode()) for text in holdout) / 1e6
    print(f"split {size / (time.process_time() - start):.1f} MB/cpu-s, {len(sentences)} held out")
    if not sys.argv[3:]:
        embedding(sentences)
    found = map(Sentences, (outputs / "artifacts" / "sentences").glob("[0-9a-f]*"))
    known = max(found, key=lambda one: one.num_training)
    rows = known.find(sentences)
    assert (rows >= 0).all()
    vectors = np.ascontiguousarray(known.vectors[rows])
    training = training_vectors(known, most=65_536)
    print(f"{known.num_training} different training sentences, {len(training)} to learn from")
    mean = training.mean(axis=0)
    print(f"error of the mean vector {((vectors - mean) ** 2).sum(axis=1).mean():.3f}")
    for num, size_ in SIZES:
        for form in sys.argv[3:] or FORMS:
            times = [time.process_time()]
            books = fit_codebooks(
                training, form=form, num_codebooks=num, codebook_size=size_, seed=0
            )
            times.append(time.process_time())
            codes = quantize(vectors, books, form=form)
            times.append(time.process_time())
            coded = sums(codes, books, form=form)
            errors = [
                f"{((sums(codes[:, :k], books, form=form) - vectors) ** 2).sum(axis=1).mean():.3f}"
                for k in range(1, num + 1)
            ]
            usage, perplexity = variety(codes, size_)
            print(
                f"{form} K{num} V{size_}: errors {' '.join(errors)}; cosine "
                f"{cosines(vectors, coded).mean():.3f}; retrieval@1 "
                f"{retrieved(sentences, vectors, coded).mean():.4f}; usage {usage.mean():.3f}; "
                f"perplexity {perplexity.mean():.0f}; fit {times[1] - times[0]:.0f} cpu-s; "
                f"{len(vectors) / (times[2] - times[1]):.0f} sentences/cpu-s",
                flush=True,
            )


if __name__ == "__main__":
    main()
