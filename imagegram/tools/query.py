"""Ask an index from the shell: counts, next tokens, matching spans, documents.

python -m imagegram.tools.query outputs/artifacts/index/DIGEST --ids "65535,128" --next
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Console, Group
from rich.table import Table

from imagegram.errors import TokenError
from imagegram.executors.commands import exit_cleanly
from imagegram.indexes import Index
from imagegram.indexes.checks import check_ids
from imagegram.indexes.open import ENGINES, find_shards, make_engine
from imagegram.tools.arguments import place, tool_parser

_EXAMPLES: Final = """\
examples:
  what images start with (65535 is the separator before every image):
    python -m imagegram.tools.query DIR --ids 65535 --next
  how often a run of tokens occurs, and where:
    python -m imagegram.tools.query DIR --ids "128,128,127" --count --spans
  a training image and what is known of it, as JSON:
    python -m imagegram.tools.query DIR --document 17 --json
  every file of an index read and its table proved:
    python -m imagegram.tools.query DIR --verify

DIR is an index artifact (python -m imagegram.tools.ls kind=index lists them), an index shard, a
folder of index shards, or an index that infini-gram or fast-gram built (16-bit tokens)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Answer the questions of the command line; return the exit status."""
    flags = _parser().parse_args(argv)
    shards = tuple(shard for folder in flags.dirs for shard in find_shards(folder))
    if flags.verify:
        from imagegram.indexes.verify import verify

        for shard in shards:
            verify(shard, deep=True)
    index = make_engine(shards, engine=flags.engine)
    answers = _ask(index, flags)
    if flags.json:
        print(json.dumps(answers, indent=1))
        return 0
    console = Console()
    for name, answer in answers.items():
        shown = _SHOWN[name](answer)
        console.print(shown, soft_wrap=isinstance(shown, str))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = tool_parser("query", __doc__.partition("\n")[0], epilog=_EXAMPLES)
    parser.add_argument("dirs", nargs="+", type=place, metavar="DIR", help="one index or several")
    parser.add_argument("--ids", help='token ids, "128,128" or "128 128"; "" is the empty sequence')
    parser.add_argument("--count", action="store_true", help="occurrences of the ids")
    parser.add_argument("--next", action="store_true", help="what follows their longest suffix")
    parser.add_argument("--longest-suffix", action="store_true", help="tokens of that suffix")
    parser.add_argument("--spans", action="store_true", help="maximal runs that the corpus holds")
    parser.add_argument("--document", type=int, metavar="N", help="tokens and metadata of one")
    parser.add_argument("--verify", action="store_true", help="first read and check every file")
    parser.add_argument("--max-context", type=int, metavar="N", help="longest context of --next")
    parser.add_argument("--min-count", type=int, default=1, metavar="N", help="least support (1)")
    parser.add_argument("--min-len", type=int, default=1, metavar="N", help="shortest span (1)")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="places a span (10)")
    parser.add_argument("--engine", choices=ENGINES, default="native", help="same answers (native)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _ask(index: Index, flags: argparse.Namespace) -> dict[str, Any]:
    """Return the answers that the flags ask for, by name."""
    answers: dict[str, Any] = {
        "index": {
            "num_shards": len(index.shards),
            "num_tokens": index.num_tokens,
            "num_documents": index.num_documents,
            "engine": flags.engine,
            "verified": flags.verify,
        }
    }
    if flags.document is not None:
        answers["document"] = {
            "document": flags.document,
            "metadata": index.metadata(flags.document),
            "tokens": index.document(flags.document).tolist(),
        }
    wants_ids = flags.count or flags.next or flags.longest_suffix or flags.spans
    if flags.ids is None:
        if wants_ids:
            raise TokenError('--count, --next, --longest-suffix and --spans need --ids "128,128"')
        return answers
    ids = check_ids(_parse_ids(flags.ids))
    if flags.count or not wants_ids:
        answers["count"] = index.count(ids)
    if flags.next:
        dist = index.next_token(ids, max_context=flags.max_context, min_count=flags.min_count)
        answers["next"] = {
            "suffix_len": dist.suffix_len,
            "num_contexts": dist.num_contexts,
            "tokens": dist.tokens.tolist(),
            "counts": dist.counts.tolist(),
        }
    if flags.longest_suffix:
        answers["longest_suffix"] = index.longest_suffix(ids, min_count=flags.min_count)
    if flags.spans:
        spans = index.spans(ids, min_len=flags.min_len, max_occurrences=flags.limit)
        answers["spans"] = [dataclasses.asdict(span) for span in spans]
    return answers


def _parse_ids(text: str) -> list[int]:
    """Parse integers separated by commas or spaces, brackets allowed.

    >>> _parse_ids("[65535, 1 2]")
    [65535, 1, 2]
    """
    try:
        return [int(word) for word in text.strip("[] ").replace(",", " ").split()]
    except ValueError as error:
        raise TokenError(f'--ids takes integers like "128,128", got {text!r} ({error})') from error


def _show_index(answer: dict[str, Any]) -> str:
    checked = ", every file verified" if answer["verified"] else ""
    return (
        f"{answer['num_documents']:,} documents, {answer['num_tokens']:,} tokens in "
        f"{answer['num_shards']} shards (engine {answer['engine']}{checked})"
    )


def _show_next(answer: dict[str, Any]) -> Group:
    title = f"after the last {answer['suffix_len']} tokens: {answer['num_contexts']:,} contexts"
    table = Table("token", "count", "share", box=None)
    pairs = zip(answer["tokens"], answer["counts"], strict=True)
    for token, count in sorted(pairs, key=lambda pair: (-pair[1], pair[0])):
        table.add_row(str(token), f"{count:,}", f"{count / answer['num_contexts']:.2%}")
    return Group(title, table)


def _show_spans(answer: list[dict[str, Any]]) -> Group:
    title = f"{len(answer)} maximal matching spans"
    columns = ("start", "end", "tokens", "count", "first places (document:position)")
    table = Table(*columns, box=None)
    for span in answer:
        places = " ".join(f"{p['document']}:{p['position']}" for p in span["occurrences"])
        start, end = span["start"], span["end"]
        table.add_row(str(start), str(end), str(end - start), f"{span['count']:,}", places)
    return Group(title, table)


def _show_document(answer: dict[str, Any]) -> str:
    metadata = json.dumps(answer["metadata"], indent=1)
    return f"document {answer['document']}\n{metadata}\n{answer['tokens']}"


_SHOWN: Final[dict[str, Callable[[Any], Any]]] = {
    "index": _show_index,
    "document": _show_document,
    "count": lambda count: f"{count:,} occurrences",
    "next": _show_next,
    "longest_suffix": lambda length: f"longest suffix that occurs: {length} tokens",
    "spans": _show_spans,
}


if __name__ == "__main__":
    sys.exit(exit_cleanly(main))
