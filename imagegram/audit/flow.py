"""The flow of an audit: the stages of ``imagegram/run.py``, on given images instead of samples.

    python -m imagegram.tools.audit images=FOLDER corpus=tiny_imagenet_1 tokenizer=pyramid3

    python -m imagegram.tools.audit texts=FILE.jsonl corpus=books_children

The audited image files are resized to one size and tokenized, and so are the held-out, training and
planted images that they are compared with. How many tokens this changes is measured on training
images: ``recoded`` are decoded by the tokenizer and encoded again, ``recoded_jpeg`` are also saved
as JPEG in between. Audited token arrays are compared as they are; texts are cut into windows of as
many tokens as samples have, like the texts of the corpus.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from imagegram.audit.audited import AUTO, Source, encoding_said, tokenize_audited
from imagegram.audit.findings import Circumstances, doubts, what_it_tells
from imagegram.audit.held_out import held_out_copies
from imagegram.audit.reencoded import PixelCollages, Reencoded, jpeg_quality_of, token_agreement
from imagegram.experiment import Experiment
from imagegram.report.answer import Answer, Wording
from imagegram.report.pairs import Pair
from imagegram.report.passages import read_copies
from imagegram.report.readings import Reading, read_scores
from imagegram.run import fit_tokenizer, index_corpus, real_images, with_auditor
from imagegram.stages.cluster import Cluster
from imagegram.stages.evaluate import Evaluate, Evaluation
from imagegram.stages.reference_sets import RealImages, reference_sets
from imagegram.stages.sample_set import SampleSet
from imagegram.stages.tokens import TokenSet

#: Files of an audit's run folder that other runs do not have.
AUDIT: Final = "audit.json"
IMAGES: Final = "images.jsonl"
TEXTS: Final = "texts.jsonl"
COLLAGES: Final = "collages"
_JPEG: Final = (".jpg", ".jpeg")
#: JPEG quality for audited files that are not JPEG: the default of most programs.
_USUAL_QUALITY: Final = 75


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A finished audit.

    Attributes:
        answer: copies found, verdict, and a few numbers beside their floors.
        findings: (label, sentence) pairs with the conclusions.
        readings: every score.
        nearest: the images that copy most, with their file names.
        record: contents of ``audit.json``: all of the above and the counts.
    """

    answer: Answer
    findings: Sequence[tuple[str, str]]
    readings: Sequence[Reading]
    nearest: Sequence[Mapping[str, Any]]
    record: Mapping[str, Any]


def audit_flow(exp: Experiment, run: Any, source: Source) -> Audit:
    """Hand the stages of an audit to ``run``, as ``imagegram.run.flow`` does for a run."""
    for corpus in exp.corpora:
        run.watch(corpus)
    exp = fit_tokenizer(exp, run)
    audited = tokenize_audited(exp, run, source)  # first: it is refused before hours of indexing
    tokens, holdout, index = index_corpus(exp, run)
    # A generator that cannot score real images has nothing to say here, and is not trained for it.
    scores = exp.generator.scores(exp.sampler)
    model = run("fit", exp.generator.fit(tokens, index=index, holdout=holdout)) if scores else None
    real = real_images(exp, model)
    limit = source.num_images or audited.documents.num_documents
    measured = run("audited", real.of(audited.documents, limit))
    run.collect(measured, "samples")

    metadata = audited.metadata(_drawn(measured))
    sides = [min(m["width"], m["height"]) for m in metadata if "width" in m]
    side = round(float(np.median(sides))) if sides else None
    quality = source.jpeg_quality if source.texts is None else None
    if quality == AUTO:
        quality = _usual_quality(audited.documents, _drawn(measured))
    references = _references(exp, run, tokens, holdout, measured.num_images, side, quality, real)
    evaluate = Evaluate(
        metrics=exp.metrics,
        generated=measured,
        **references,
        tokens=tokens,
        tokenizer=exp.tokenizer,
        index=index,
        seed=exp.seed,
        near_duplicate_rms=exp.corpus.near_duplicate_limit,
    )
    evaluation = run("evaluate", with_auditor(exp, run, evaluate))
    run.score(evaluation)

    sets = evaluate.sets
    members = [m["locator"]["member"].lower() for m in metadata if "locator" in m]
    at = Circumstances(
        sizes={which: images.num_images for which, images in sets.items()},
        skipped=audited.skipped,
        num_others=audited.num_others,
        side=side,
        sides=(min(sides), max(sides)) if sides else None,
        jpeg_share=sum(member.endswith(_JPEG) for member in members) / max(len(members), 1),
        jpeg_quality=quality,
        agreement=_agreement(exp, tokens, sets) if side else {},
        level_names=_level_names(exp),
        num_repeated=_num_repeated(exp, run, audited.documents, measured),
        sampler=exp.sampler.name,
        noun=exp.corpus.modality.noun,
        nouns=exp.corpus.modality.nouns,
        encoding=encoding_said(exp, audited.documents),
    )
    return _finish(exp, run, source, evaluate, evaluation, metadata, at, holdout)


def _references(
    exp: Experiment,
    run: Any,
    tokens: TokenSet,
    holdout: TokenSet,
    num_images: int,
    side: int | None,
    quality: int | None,
    real: RealImages,
) -> dict[str, Any]:
    """Return floor, ceiling, calibration and planted sets, processed like the audited images."""
    options: dict[str, Any] = {"num_images": num_images}
    if side is None:
        return reference_sets(
            run,
            real,
            tokens=tokens.windows(),
            holdout=holdout.windows(),
            planted=exp.planted,
            **options,
        )

    def again(inner: TokenSet, **how: Any) -> Any:
        how |= {"workers": run.context.workers}
        return Reencoded(inner=inner, tokenizer=exp.tokenizer, side=side, **how)

    def replay(name: str, documents: Any) -> SampleSet:
        return cast(SampleSet, run(name, real.of(documents, num_images)))

    # Asked for tokens by number, which is all that the sets need. Collages are made of pixels.
    sets = reference_sets(
        run,
        real,
        tokens=again(tokens),
        holdout=again(holdout),
        planted=[recipe for recipe in exp.planted if recipe != COLLAGES],
        **options,
    )
    ways = {"recoded": replay("recoded", again(tokens, decoded=True))}
    if quality is not None:
        ways["recoded_jpeg"] = replay("recoded_jpeg", again(tokens, jpeg_quality=quality))
    planted = ways | sets["planted"]
    if COLLAGES in exp.planted and sets["floor"] is not None:
        count = sets["floor"].num_images
        collages = PixelCollages(pictures=again(tokens), num_documents=count, seed=exp.seed)
        planted[COLLAGES] = replay(COLLAGES, collages)
    return sets | {"planted": planted}


def _usual_quality(documents: Any, drawn: NDArray[np.int64]) -> int:
    """Return the median JPEG quality of the measured files, or 75 if fewer than half are JPEG."""
    if not isinstance(documents, TokenSet):
        return _USUAL_QUALITY
    found = [jpeg_quality_of(documents.original(int(document))) for document in drawn]
    qualities = [quality for quality in found if quality is not None]
    return round(float(np.median(qualities))) if 2 * len(qualities) > len(found) else _USUAL_QUALITY


def _drawn(images: SampleSet) -> NDArray[np.int64]:
    """Return the (B,) ids of the documents that a replay measures."""
    return np.load(images.artifact.path / "documents.npy")  # type: ignore[no-any-return]


def _agreement(exp: Experiment, tokens: TokenSet, sets: Mapping[str, Any]) -> dict[str, Any]:
    """Return, by image set, the share of tokens that training images keep after re-encoding."""
    return {
        which: token_agreement(
            tokens, sets[which].tokens, _drawn(sets[which]), exp.tokenizer.spec.layout
        )
        for which in ("ceiling", "recoded", "recoded_jpeg")
        if which in sets
    }


def _level_names(exp: Experiment) -> list[str]:
    layout = exp.tokenizer.spec.layout
    if not layout.is_picture:
        return [f"{layout.num_tokens} tokens"]
    return [f"{h}x{w}" for h, w in zip(layout.heights, layout.widths, strict=True)]


def _num_repeated(exp: Experiment, run: Any, documents: Any, measured: SampleSet) -> int:
    """Count measured images that are near-duplicates of another one (or equal rows of tokens)."""
    if isinstance(documents, TokenSet):
        stage = Cluster(documents=documents, near_duplicate_rms=exp.corpus.near_duplicate_limit)
        labels = run.context.make(stage).labels[_drawn(measured)]
    else:
        labels = np.unique(measured.tokens, axis=0, return_inverse=True)[1]
    return len(labels) - len(np.unique(labels))


# -------------------------------------------------------------------------------------- run folder


def _finish(
    exp: Experiment,
    run: Any,
    source: Source,
    evaluate: Evaluate,
    evaluation: Evaluation,
    metadata: Sequence[Mapping[str, Any]],
    at: Circumstances,
    holdout: TokenSet,
) -> Audit:
    """Write the findings in words: ``audit.json``, ``images.jsonl`` and the report."""
    readings = read_scores(evaluation, at.sizes)
    findings = what_it_tells(readings, at, evaluation.recipes)
    findings += [("left out", reason) for reason in evaluation.skipped.values()]
    wording = Wording(
        title=f"audit of {Path(source.where).name}: {exp.corpus.name}, {exp.tokenizer.name}",
        facts=[("audited", source.where)],
        one=exp.corpus.modality.noun,
        several=exp.corpus.modality.nouns,
        names=[str(file["key"]) for file in metadata],
        doubts=[
            *doubts(readings, at),
            *held_out_copies(holdout.windows(), evaluate.generated, exp.corpus.modality),
        ],
        findings=findings,
    )
    found = run.report(
        evaluation,
        generated=evaluate.generated,
        tokens=evaluate.tokens,
        index=evaluate.index,
        wording=wording,
    )
    answer: Answer = run.answer
    copied = {copy["sample"]: copy for copy in read_copies(run.folder)}
    nearest = [_named(pair, metadata, copied.get(pair.sample)) for pair in found.pairs]
    record = {
        "audited": source.where,
        "answer": {"found": answer.fact, "verdict": list(answer.verdict)},
        "what_this_can_tell": [{"about": about, "text": text} for about, text in findings],
        "scores": {reading.score: _plain(reading, evaluation) for reading in readings},
        "circumstances": dataclasses.asdict(at),
        "nearest": nearest,
    }
    (run.folder / AUDIT).write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    items = IMAGES if at.noun == "image" else TEXTS
    _write_items(run.folder / items, evaluation, metadata, noun=at.noun)
    return Audit(
        answer=answer, findings=findings, readings=readings, nearest=nearest, record=record
    )


def _plain(reading: Reading, evaluation: Evaluation) -> dict[str, Any]:
    """Return one score as JSON."""
    return {
        "value": reading.values["generated"],
        "low": reading.intervals["generated"][0],
        "high": reading.intervals["generated"][1],
        "values": dict(reading.values),
        "intervals": dict(reading.intervals),
        "places": dict(reading.places),
        "note": evaluation.notes.get(reading.score, ""),
    }


def _named(
    pair: Pair, metadata: Sequence[Mapping[str, Any]], copied: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return a pair of the report with names; ``copied`` is a line of ``copies.jsonl``."""
    nearest, source = pair.nearest, pair.source or pair.nearest
    sources = copied["sources"] if copied else []
    return {
        "sample": pair.sample,
        "image": metadata[pair.sample]["key"],
        "nearest": nearest and nearest.metadata["key"],
        "nearest_document": nearest and nearest.document,
        "rms": nearest and nearest.rms,
        "share": pair.share,
        "source": source.metadata["key"] if source else sources[0]["key"] if sources else None,
        "exact": pair.exact,
    }


def _write_items(
    path: Path, evaluation: Evaluation, metadata: Sequence[Mapping[str, Any]], *, noun: str
) -> None:
    """Write one line per item: its number, its file, and every curve with one number per item."""
    own = evaluation.curves.get("generated", {})
    of_images = [curve for info in evaluation.infos.values() for curve in info.per_image]
    names = [curve for curve in dict.fromkeys(of_images) if curve in own]
    with path.open("w") as lines:
        for number, file in enumerate(metadata):
            line: dict[str, Any] = {"sample": number, noun: file["key"]}
            for name in names:
                value = float(own[name][number])
                line[name] = value if np.isfinite(value) else None
            lines.write(json.dumps(line) + "\n")
