"""Texts as pages of their own, for dashboards: samples, and worst copies coloured by source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from imagegram.numerals import number_text
from imagegram.report.passages import marked_passages, marked_text
from imagegram.texts.highlight import coded, visible

_CSS: Final = Path(__file__).parent / "templates" / "report.css"


def page_of(body: Markup) -> Markup:
    """HTML of a page that needs nothing else."""
    css = Markup(_CSS.read_text())
    head = Markup('<!doctype html><meta charset="utf-8"><style>{}</style>').format(css)
    return Markup("{}<main>{}</main>").format(head, body)


def list_of(texts: Sequence[str]) -> Markup:
    """HTML of a list of texts, numbered from 0.

    >>> list_of(["a<b"])
    Markup('<ol class="texts" start="0"><li dir="auto">a&lt;b</li></ol>')
    """
    items = (Markup('<li dir="auto">{}</li>').format(visible(text) or "∅") for text in texts)
    return Markup('<ol class="texts" start="0">{}</ol>').format(Markup("").join(items))


def copies_of(records: Sequence[Mapping[str, Any]]) -> Markup:
    """HTML of the lines of ``copies.jsonl``: every text above the passages it is made of."""
    return Markup("").join(map(_copy, records))


def plain_list(texts: Sequence[str]) -> str:
    r"""Texts for a dashboard that shows Markdown: indented, so that nothing in them acts.

    >>> plain_list(["# one\ntwo", "three"])
    '    # one\n    two\n\n---\n\n    three'
    """
    return "\n\n---\n\n".join(
        "\n".join(f"    {line}" for line in coded(text).split("\n")) for text in texts
    )


def _copy(record: Mapping[str, Any]) -> Markup:
    passages = zip(record["sources"], marked_passages(record), strict=True)
    sources = (
        Markup('<p class="running quoted"><b>{}</b> <code>{}</code><br>{}</p>').format(
            number_text(source["share"], is_share=True), coded(source["key"]), passage
        )
        for source, passage in passages
        if passage
    )
    return Markup(
        '<article class="copy words"><h3>Sample {}</h3><p class="running">{}</p>'
        '<div class="sources">{}</div></article>'
    ).format(record["sample"], marked_text(record) or "∅", Markup("").join(sources))
