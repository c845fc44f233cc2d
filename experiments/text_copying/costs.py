"""What the n-gram of texts costs: a vocabulary, tokens back to text, generated tokens a second.

    python -m imagegram.run modality=text corpus=books_children paths.data=DATA stages=[index]
    python experiments/text_copying/costs.py DATA outputs

Seconds are those of the CPU, so that they do not depend on what else the machine does.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from imagegram.executors.context import RunContext
from imagegram.executors.progress import SilentProgress
from imagegram.executors.serial import SerialExecutor
from imagegram.generators.ngram.model import NgramModel
from imagegram.indexes.open import open_index
from imagegram.layout import TokenLayout
from imagegram.samplers.ngram import NgramSampler
from imagegram.store.artifacts import ArtifactStore
from imagegram.tokenizers.bpe import BpeTokenizer

TRAIN = """
import json, sys
from pathlib import Path
from imagegram.tokenizers.bpe import train
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
train(iter(texts), vocab_size=4096, path=Path(sys.argv[2]))
"""


def vocabulary(data: Path, threads: int, out: Path) -> None:
    """Train 4,096 ids in a process of its own, with so many threads; say what it cost."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", TRAIN, str(data / "train.jsonl"), str(out)]
    subprocess.run(command, check=True, env={**os.environ, "RAYON_NUM_THREADS": str(threads)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sha256 = hashlib.sha256(out.read_bytes()).hexdigest()[:12]
    print(f"vocabulary, {threads} threads: {seconds:.1f} CPU-seconds, sha256 {sha256}")


def round_trips(data: Path, merges: Path) -> None:
    """Encode and decode every held-out document."""
    tokenizer = BpeTokenizer(checkpoint=str(merges))
    lines = (data / "holdout.jsonl").read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    rows = tokenizer.encode(texts).documents
    pairs = zip(rows, texts, strict=True)
    equal = sum(tokenizer.decode(row[None])[0] == text for row, text in pairs)
    print(f"held-out documents that come back exactly: {equal} of {len(texts)}")


def generation(outputs: Path) -> None:
    """Time the walk and the search on the largest index of texts, one thread."""
    folders = (outputs / "artifacts" / "index").iterdir()
    index = max(map(open_index, folders), key=lambda index: index.num_tokens)
    layout = TokenLayout.sequence(256, order="raster")
    store = ArtifactStore(root=outputs / "artifacts")
    context = RunContext(store=store, executor=SerialExecutor(), progress=SilentProgress())
    for max_context, min_count in ((2, 1), (4, 1), (32, 1), (32, 16)):
        sampler = NgramSampler(name="text", max_context=max_context, min_count=min_count)
        plain = NgramModel(index=index, ragged=True)
        for way, model, count in (
            ("walk", plain.prepared(sampler, context, layout), 4000),
            ("search", plain, 1000),
        ):
            samples = np.arange(count, dtype=np.uint64)
            job = {"sampler": sampler, "layout": layout, "seed": 0, "workers": 1}
            model.generate(samples[:8], **job)  # compiled, and read
            start = time.process_time()
            tokens, _ = model.generate(samples, **job)
            written = int((tokens != 65535).sum())
            rate = written / (time.process_time() - start)
            said = f"context {max_context}, min_count {min_count}, {way}"
            print(f"{said}: {rate:,.0f} tokens a CPU-second")


if __name__ == "__main__":
    data, outputs = Path(sys.argv[1]) / "books" / "children", Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        for threads in (1, 2):
            vocabulary(data, threads, Path(folder) / f"{threads}.json")
        round_trips(data, Path(folder) / "1.json")
    generation(outputs)
