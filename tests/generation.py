"""Fitted n-gram models over small corpora, for the tests of generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from imagegram.conditions.label import LabelCondition
from imagegram.conditions.labels import Labels
from imagegram.generators.ngram.engine import Engine, Files
from imagegram.generators.ngram.model import NgramModel
from imagegram.indexes.build.orders import build_order
from imagegram.indexes.format import IndexShard
from imagegram.indexes.native import NativeIndex
from imagegram.indexes.order import Order
from imagegram.indexes.screen import Screen, write_screen
from imagegram.records import Tokens, Trace
from imagegram.samplers.ngram import NgramSampler
from imagegram.store.manifest import Artifact, Manifest
from tests.index_folders import Documents, write_index


def fit(
    root: Path,
    shards: Sequence[Documents],
    *,
    engine: str = "native",
    final_separator: bool = True,
) -> NgramModel:
    """An n-gram model over shards of documents, indexed below ``root``."""
    opened = tuple(
        IndexShard.open(write_index(root / f"{s}", documents, final_separator=final_separator))
        for s, documents in enumerate(shards)
    )
    artifact = Artifact(path=root, manifest=manifest())
    return NgramModel(index=NativeIndex(shards=opened, artifact=artifact), engine=engine)


def manifest(number: int = 0) -> Manifest:
    """The manifest of an index that no stage made."""
    return Manifest(
        kind="index",
        digest=f"{number:012x}",
        payload={},
        files={},
        facts={},
        created_at="",
        duration_s=0.0,
        made_by={},
    )


def with_orders(model: NgramModel, root: Path, *, aligned: bool) -> NgramModel:
    """The model with side files of its shards, below ``root``."""
    orders = make_orders(model.shards, root, aligned=aligned)
    return replace(model, files=Files(shards=model.shards, orders=orders))


def make_orders(shards: Sequence[IndexShard], root: Path, *, aligned: bool) -> tuple[Order, ...]:
    """Side files of shards, below ``root``."""
    orders = []
    for s, shard in enumerate(shards):
        folder = root / f"order{s}{aligned}"
        folder.mkdir()
        build_order(shard, folder, aligned=aligned, workers=1)
        orders.append(Order.open(folder, shard=shard, aligned=aligned))
    return tuple(orders)


def make_screens(
    shards: Sequence[IndexShard], root: Path, *, runs: tuple[int, ...], placed: bool
) -> tuple[Screen, ...]:
    """Screens of shards, below ``root``."""
    screens = []
    for s, shard in enumerate(shards):
        folder = root / f"screen{s}-{runs}-{placed}"
        folder.mkdir()
        screens.append(write_screen(shard, folder, runs=runs, placed=placed))
    return tuple(screens)


def with_engine(model: NgramModel, engine: type[Engine], **memory: int) -> NgramModel:
    """The model, with this engine opened for as much memory."""
    files = model.files or Files(shards=model.shards)
    vars(model)["_opened"] = {engine: engine(files=files, **memory)}
    return model


def sampler(**knobs: object) -> NgramSampler:
    """A sampler with some knobs turned."""
    return NgramSampler(name="test", **knobs)


def asked(**knobs: object) -> dict[str, object]:
    """A sampler with some knobs turned, and the condition of ``label`` and ``key`` among them."""
    label, key = knobs.pop("label", None), knobs.pop("key", "label")
    condition = None if label is None else LabelCondition(name="test", label=label, key=key)
    return {"sampler": sampler(**knobs), "condition": condition}


def first_samples(count: int) -> np.ndarray:
    """Sample ids 0 ... count - 1."""
    return np.arange(count, dtype=np.uint64)


def assert_same(first: tuple[Tokens, Trace], second: tuple[Tokens, Trace]) -> None:
    """Tokens and every array of the trace are equal bit for bit."""
    np.testing.assert_array_equal(first[0], second[0])
    assert list(first[1]) == list(second[1])
    for name, values in first[1].items():
        np.testing.assert_array_equal(values, second[1][name], err_msg=name)
        assert values.dtype == second[1][name].dtype, name


def labelled(model: NgramModel, labels: Sequence[int]) -> NgramModel:
    """The model with label ``name<k>`` for each document's k; -1 for none."""
    names = tuple(sorted({f"name{label}" for label in labels if label >= 0}))
    ids = [names.index(f"name{label}") if label >= 0 else -1 for label in labels]
    found = Labels(names=names, by_document=np.array(ids, dtype=np.int32))
    return replace(model, labels=found, label_key="label")
