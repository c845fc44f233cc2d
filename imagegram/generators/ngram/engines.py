"""The engines of each ``generator.engine=NAME``, and the choice of one for a request."""

from __future__ import annotations

from collections.abc import Sequence

from imagegram.errors import UnsupportedError
from imagegram.generators.ngram.engine import Engine, Files, Needs, Request
from imagegram.indexes.build.coarse_stage import BuildCoarse
from imagegram.indexes.build.order_stage import BuildOrder, order_bytes
from imagegram.indexes.build.screen_stage import BuildScreen
from imagegram.indexes.format import IndexShard, pointer_width
from imagegram.indexes.order import Order
from imagegram.indexes.screen import Screen, screen_bytes
from imagegram.records import TOKEN_BYTES
from imagegram.store.stage import Context


def engines_of(name: str) -> tuple[type[Engine], ...]:
    """List the engines of a configured name, the preferred one first.

    Each is imported when it is asked for: one compiles kernels, another needs torch.
    """
    if name == "native":
        from imagegram.generators.ngram.search.engine import SearchEngine
        from imagegram.generators.ngram.walk.engine import WalkEngine

        return WalkEngine, SearchEngine
    if name == "torch":
        from imagegram.generators.ngram.lockstep.engine import LockstepEngine

        return (LockstepEngine,)
    if name == "fastgram":
        from imagegram.generators.ngram.fastgram import FastgramEngine

        return (FastgramEngine,)
    assert name == "naive", name
    from imagegram.generators.ngram.reference import ReferenceEngine

    return (ReferenceEngine,)


def choose(name: str, request: Request) -> type[Engine]:
    """Choose the first engine of a configured name that can write what is asked.

    Raises:
        ConfigError: when the sampler does not fit the layout.
        UnsupportedError: saying why none can, and what to type instead.
    """
    _check_lengths(request)
    why: str | None = None
    for engine in engines_of(name):
        why = engine.refuses(request)
        if why is None:
            return engine
    raise UnsupportedError(why or f"there is no engine {name}")


def needs_of(name: str, request: Request) -> Needs:
    """Name the side files that the chosen engine needs; raises as :func:`choose`.

    Also for shards that are only planned: the lengths of their documents are known.
    """
    return choose(name, request).needs(request)


def make_files(needs: Needs, shards: Sequence[IndexShard], context: Context) -> Files:
    """Open shards with the side files that are needed, made when they are missing."""
    whole = compared = tuple(shards)
    coarse: tuple[IndexShard, ...] = ()
    orders: tuple[Order, ...] = ()
    if needs.divisor > 1:
        stages = [BuildCoarse(shard=shard, divisor=needs.divisor) for shard in whole]
        coarse = compared = tuple(context.make_all(stages, description="coarse index"))
    if needs.order is not None:
        aligned = needs.order == "aligned"
        parts = [BuildOrder(shard=shard, aligned=aligned) for shard in compared]
        orders = tuple(context.make_all(parts, description=f"{needs.order} orders"))
    screens: tuple[Screen, ...] = ()
    if needs.runs:
        placed = needs.order == "aligned"
        looks = [BuildScreen(shard=shard, runs=needs.runs, placed=placed) for shard in compared]
        screens = tuple(context.make_all(looks, description="screens"))
    return Files(shards=whole, coarse=coarse, divisor=needs.divisor, orders=orders, screens=screens)


def _check_lengths(request: Request) -> None:
    """Refuse to compare positions of documents that differ in length."""
    matching, num_tokens = request.sampler.matching, request.layout.num_tokens
    if matching == "free":
        return
    if request.ragged:
        raise UnsupportedError(
            f"sampler.matching={matching} compares places inside images, but the documents of this "
            "tokenizer differ in length; use sampler.matching=free"
        )
    for shard, length in enumerate(request.lengths):
        if length != num_tokens:
            found = "documents of different lengths" if length is None else f"{length} tokens each"
            raise UnsupportedError(
                f"sampler.matching={matching} compares places inside images of {num_tokens} "
                f"tokens, but shard {shard} holds {found}; use sampler.matching=free, or a "
                "tokenizer whose layout fits the index"
            )


def bytes_read(needs: Needs, shards: Sequence[IndexShard]) -> int:
    """Count the bytes of all files that :func:`make_files` opens, made or not."""
    return sum(_shard_bytes(needs, shard.num_tokens) for shard in shards)


def _shard_bytes(needs: Needs, num_tokens: int) -> int:
    total = num_tokens * (TOKEN_BYTES + pointer_width(num_tokens))
    if needs.order is not None:
        total += order_bytes(num_tokens=num_tokens, aligned=needs.order == "aligned")
    if needs.runs:
        total += screen_bytes(num_tokens, len(needs.runs))
    return total
