"""What every shipped generator must do, over every YAML of conf/generator, on toy tokens.

A generator that learns is trained for two steps of a small network: the knobs of ``SMALL`` are
turned down where it has them.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from imagegram import schema
from imagegram.conditions.captions import CaptionCondition
from imagegram.conditions.prompt import GivenTokens, PromptCondition
from imagegram.errors import ConfigError
from imagegram.executors.context import RunContext
from imagegram.experiment import Experiment, build
from imagegram.protocols import Model, Scores
from imagegram.records import PROMPT, Tokens, Trace
from imagegram.run import index_corpus
from imagegram.samplers.guidance import Guidance
from imagegram.store.fingerprint import canonical_json
from tests.conftest import compose
from tests.pictures import context

NAMES = sorted(path.stem for path in schema.CONF.glob("generator/*.yaml"))
SAMPLERS = sorted(path.stem for path in schema.CONF.glob("sampler/*.yaml"))
TOY = (
    "debug=tiny",
    "corpus.num_shards=1",
    "corpus.images_per_shard=12",
    "corpus.num_holdout=4",
    "tokenizer.sizes=[1,2]",
)
SMALL = {
    "width": 16,
    "depth": 1,
    "num_heads": 2,
    "hidden": 32,
    "autoencoder.width": 16,
    "sigma": 1.0,  # with less start noise, fresh networks make one sample of all
    "autoencoder.optimization.steps": 2,
    "autoencoder.optimization.warmup_steps": 0,
    "head_depth": 1,
    "embedder.max_tokens": 8,
    "local_depth": 1,
    "guide_size": 2,
    "context": "codes",  # the toy ids stand for no vectors
    "optimization.steps": 2,
    "optimization.batch_size": 4,
    "optimization.warmup_steps": 0,
}
#: Generators that give no tokens a probability.
WITHOUT_LIKELIHOOD = ("latent_flow", "latent_flow_tokcom", "maskgen_kl", "quilting")
SEED = 2024


class Maker:
    """Makes the stages of a flow, and records nothing."""

    def __init__(self, made_in: RunContext) -> None:
        self.context = made_in

    def __call__(self, name: str, stage: Any) -> Any:
        return self.context.make(stage)

    def config(self, values: Any) -> None:
        pass

    def skip(self, counts: Any) -> None:
        pass


@dataclass(frozen=True)
class Fitted:
    exp: Experiment
    model: Model
    vocab_size: int

    def generate(self, samples: Any, *, seed: int = SEED) -> tuple[Tokens, Trace]:
        layout = self.exp.tokenizer.spec.layout
        ids = np.asarray(samples, dtype=np.uint64)
        return self.model.generate(
            ids,
            sampler=self.exp.sampler,
            layout=layout,
            seed=seed,
            condition=self.exp.condition,
        )


def composed(name: str, outputs: Any) -> Experiment:
    """The experiment of a generator, with the sampler and the condition that its file chooses."""
    words = [*TOY, f"paths.outputs={outputs}", f"generator={name}"]
    cfg = compose(*words)
    node = cfg.generator
    if cfg.condition:  # the toy corpus has other labels, and no captions
        learned = "captions" if "captions" in node else "labels"
        words += ["condition.key=photo", f"generator.{learned}=photo"]
    return build(compose(*words, *small(node, "generator")))


def small(node: DictConfig, path: str) -> list[str]:
    """The words that turn down the knobs of a generator, and of those that it is made of."""
    words = [
        f"{path}.{knob}={value}"
        for knob, value in SMALL.items()
        if OmegaConf.select(node, knob) is not None
    ]
    for part in ("first", "second"):
        if part in node:
            words += small(node[part], f"{path}.{part}")
    return words


#: Sizes of a published network that are one network when they are turned down, and one of them.
SIZES = {"rar_l": "rar_b", "rar_xl": "rar_b", "rar_xxl": "rar_b", "maskgen_vq_xl": "maskgen_vq_l"}


#: Published sizes that cannot all be turned down, or published weights; test_published_kl.py and
#: test_maskgen_kl_published.py count them.
PUBLISHED = ("maskgen_kl_bl32", "maskgen_kl_l", "maskgen_kl_xl")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_differ_in_the_knobs_that_are_turned_down_alone(name: str, tmp_path: Any) -> None:
    one, other = (composed(each, tmp_path).generator for each in (name, SIZES[name]))
    assert replace(one, name="") == replace(other, name="")


@pytest.fixture(scope="module", params=[name for name in NAMES if name not in {*SIZES, *PUBLISHED}])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    if request.param.endswith("_torch"):
        pytest.importorskip("torch")
    outputs = tmp_path_factory.getbasetemp() / "generators"
    exp, maker = composed(request.param, outputs), Maker(context(outputs))
    tokens, _, index = index_corpus(exp, maker)
    fit = exp.generator.fit(tokens, index=index)
    model = maker("fit", fit)
    if isinstance(exp.condition, CaptionCondition):
        exp = replace(exp, condition=exp.condition.drawn(tokens=tokens, holdout=tokens, seed=SEED))
    assert maker("fit", exp.generator.fit(tokens, index=index)).identity() == model.identity()
    layout = exp.tokenizer.spec.layout
    prepared = model.prepared(exp.sampler, maker.context, layout, exp.condition)
    assert prepared.identity() == model.identity()
    return Fitted(exp, prepared, exp.tokenizer.spec.vocab_size)


def assert_same(first: tuple[Tokens, Trace], second: tuple[Tokens, Trace]) -> None:
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1].keys() == second[1].keys()
    for name, values_BT in first[1].items():
        np.testing.assert_array_equal(values_BT, second[1][name], err_msg=name)


def rows_of(whole: tuple[Tokens, Trace], rows: list[int]) -> tuple[Tokens, Trace]:
    return whole[0][rows], {name: values_BT[rows] for name, values_BT in whole[1].items()}


def test_tokens_are_ids_and_traces_are_beside_them(fitted: Fitted) -> None:
    tokens_BT, trace = fitted.generate(range(7))
    assert tokens_BT.shape == (7, fitted.exp.tokenizer.spec.length)
    assert tokens_BT.dtype == np.uint16
    assert tokens_BT.max() < fitted.vocab_size
    for name, values_BT in trace.items():
        assert values_BT.shape == tokens_BT.shape, name
        assert np.isfinite(values_BT).all(), name


def test_a_row_depends_on_the_seed_and_its_own_number_alone(fitted: Fitted) -> None:
    whole = fitted.generate(range(64))
    for rows in ([0], [39], [*range(7)], [33, 2, 2, 17], list(range(39, -1, -1))):
        assert_same(fitted.generate(rows), rows_of(whole, rows))
    assert_same(fitted.generate(range(64)), whole)


def test_samples_and_seeds_differ(fitted: Fitted) -> None:
    tokens_BT, _ = fitted.generate(range(20))
    assert len(np.unique(tokens_BT, axis=0)) > 1
    assert (fitted.generate(range(20), seed=SEED + 1)[0] != tokens_BT).any()


def test_a_model_travels_to_another_process(fitted: Fitted) -> None:
    there = Fitted(fitted.exp, pickle.loads(pickle.dumps(fitted.model)), fitted.vocab_size)
    assert_same(there.generate(range(3)), fitted.generate(range(3)))


def test_identity_is_json(fitted: Fitted) -> None:
    assert canonical_json(fitted.model.identity())


def test_replaying_own_samples_gives_their_own_trace(fitted: Fitted) -> None:
    exp, model = fitted.exp, fitted.model
    sampler = scoring_sampler(exp)
    assert isinstance(model, Scores)
    samples = np.array([4, 0, 2**63], dtype=np.uint64)
    how: Any = {"sampler": sampler, "layout": exp.tokenizer.spec.layout, "seed": SEED}
    tokens_BT, trace = model.generate(samples, **how)
    replayed = model.score(tokens_BT, samples=samples, **how)
    assert_same((tokens_BT, replayed), (tokens_BT, trace))


def scoring_sampler(exp: Experiment) -> Any:
    """The sampler of an experiment, or the first other one under which given tokens are scored."""
    if exp.generator.scores(exp.sampler):
        return exp.sampler
    others = (instantiate(compose(f"sampler={name}").sampler, _convert_="all") for name in SAMPLERS)
    found = next((sampler for sampler in others if exp.generator.scores(sampler)), None)
    if found is None and exp.generator.name in WITHOUT_LIKELIHOOD:
        pytest.skip("no likelihood")
    assert found is not None
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_sampler_is_refused_by_those_that_fit(name: str, tmp_path: Any) -> None:
    exp = composed(name, tmp_path)
    fitting, messages = [], []
    for sampler in SAMPLERS:
        node = compose(*TOY, f"sampler={sampler}").sampler
        try:
            component = instantiate(node, _convert_="all")
            exp.generator.check(component, exp.tokenizer.spec.layout, exp.condition)
            fitting.append(sampler)
        except ConfigError as error:
            if str(error).startswith(("sampler.guidance", "sampler.min_documents")):
                # it fits: with labels, or with as many levels as it has values
                fitting.append(sampler)
            else:
                messages.append(str(error))
    assert exp.sampler.name in fitting
    for message in messages:
        assert message.startswith(f"generator={name} cannot work with sampler=")
        assert message.partition("one of: ")[2] == ", ".join(f"sampler={each}" for each in fitting)


@pytest.mark.parametrize("name", NAMES)
def test_a_condition_is_taken_or_refused_when_composed(name: str, tmp_path: Any) -> None:
    """By every generator: nothing is asked in vain."""
    exp = composed(name, tmp_path)
    condition: Any = instantiate(compose("condition=label").condition, _convert_="all")
    strange: Any = Maker(context(tmp_path))
    strange.name = "strange"
    layout = exp.tokenizer.spec.layout
    with pytest.raises(ConfigError, match=rf"generator={name}.*condition=strange"):
        exp.generator.check(exp.sampler, layout, strange)
    exp.generator.check(exp.sampler, layout, exp.condition)
    try:
        exp.generator.check(exp.sampler, layout, condition)
    except ConfigError as error:
        assert "type condition" in str(error)  # noqa: PT017


#: Prompts of no, some and almost all tokens; ids are bytes.
PROMPTS = GivenTokens(rows=((), (7, 0, 255), (128,) * 14))


def continued(fitted: Fitted, samples: Any, prompts: GivenTokens = PROMPTS) -> tuple[Tokens, Trace]:
    """Samples that continue prompts; skips a generator that refuses to."""
    exp = fitted.exp
    asked, sampler = PromptCondition(name="prompt", tokens=prompts.rows), plain_sampler(exp)
    try:
        exp.generator.check(sampler, exp.tokenizer.spec.layout, asked)
    except ConfigError as error:
        assert "type condition=none" in str(error)  # noqa: PT017
        pytest.skip("it refuses prompts")
    ids = np.asarray(samples, dtype=np.uint64)
    layout = exp.tokenizer.spec.layout
    return fitted.model.generate(ids, sampler=sampler, layout=layout, seed=SEED, condition=prompts)


def plain_sampler(exp: Experiment) -> Any:
    """The sampler of an experiment, without guidance towards a label."""
    guided = hasattr(exp.sampler, "guidance")
    return replace(exp.sampler, guidance=Guidance()) if guided else exp.sampler


def test_prompts_are_continued_and_never_changed(fitted: Fitted) -> None:
    tokens_BT, trace = continued(fitted, range(40))
    given_BT, until_B = PROMPTS.of_samples(
        np.arange(40, dtype=np.uint64), num_tokens=tokens_BT.shape[1]
    )
    assert sorted(set(until_B.tolist())) == [0, 3, 14]
    is_prompt_BT = np.arange(tokens_BT.shape[1]) < until_B[:, None]
    np.testing.assert_array_equal(trace[PROMPT], is_prompt_BT)
    np.testing.assert_array_equal(tokens_BT[is_prompt_BT], given_BT[is_prompt_BT])
    # Without a prompt a row is what it always is; with one it is another.
    exp = replace(fitted.exp, sampler=plain_sampler(fitted.exp), condition=None)
    free = replace(fitted, exp=exp).generate(range(40))
    empty = until_B == 0
    np.testing.assert_array_equal(tokens_BT[empty], free[0][empty])
    for name, values_BT in free[1].items():
        np.testing.assert_array_equal(trace[name][empty], values_BT[empty], err_msg=name)
    assert (tokens_BT[~empty] != free[0][~empty]).any(axis=1).all()


def test_a_continued_row_depends_on_seed_number_and_prompt_alone(fitted: Fitted) -> None:
    whole = continued(fitted, range(40))
    for rows in ([1], [39], [33, 2, 2, 17]):
        assert_same(continued(fitted, rows), rows_of(whole, rows))
    # Sample 1 with other prompts beside it.
    alone = GivenTokens(rows=(PROMPTS.rows[1],))
    assert_same(continued(fitted, [1], alone), rows_of(whole, [1]))


def test_prompts_that_do_not_fit_are_refused(fitted: Fitted) -> None:
    with pytest.raises(ConfigError, match=r"prompt 2 .* has 16 tokens, and at most 15 fit"):
        continued(fitted, [0], GivenTokens(rows=((), (1,) * 16)))
