"""Training on tokens: documents as items, and the stage that makes a component of them."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from imagegram.generators.maskgit.objective import Architecture, MaskedPrediction
from imagegram.models.checkpoints import write_weights
from imagegram.store.artifacts import fingerprint
from imagegram.store.fingerprint import NOT_IDENTITY
from imagegram.store.manifest import Artifact
from imagegram.training.fit import TrainGenerator
from imagegram.training.optimization import Optimization
from imagegram.training.options import TrainerOptions
from imagegram.training.state import TrainingState
from imagegram.training.tokens import TokenData, TokenItems
from tests.pictures import context
from tests.token_shards import FakeTokens, FakeTokenShard

OPTIMIZATION = Optimization(steps=6, batch_size=4, learning_rate=1e-2)
SHARDS = (((1, 2, 3), (4, 5, 6)), ((0, 0, 7), (7, 6, 5), (4, 3, 2)))


def token_set(root: Path, *shards: Any, length: int | None = 3) -> Any:
    parts = tuple(FakeTokenShard(rows=rows, length=length) for rows in shards)
    return context(root).make(FakeTokens(parts=parts))


def test_documents_are_gathered_by_row(tmp_path: Path) -> None:
    items = TokenItems(tokens=token_set(tmp_path, *SHARDS))
    assert len(items) == 5
    found = items.gather(np.array([4, 0, 2]))
    assert found.dtype == np.uint16
    assert found.tolist() == [[4, 3, 2], [1, 2, 3], [0, 0, 7]]
    again = pickle.loads(pickle.dumps(items))
    assert set(vars(again)) == {"tokens", "random_offsets"}
    np.testing.assert_array_equal(again.gather(np.array([4, 0, 2])), found)


def test_documents_of_any_length_are_cut_into_windows(tmp_path: Path) -> None:
    tokens = token_set(tmp_path, ((1, 2, 3, 4, 5), (6,)), length=None)
    items = TokenItems(tokens=dataclasses.replace(tokens, window=2))
    end = 65535
    assert items.gather(np.arange(len(items))).tolist() == [[1, 2], [3, 4], [5, end], [6, end]]
    assert items.identity() != TokenItems(tokens=dataclasses.replace(tokens, window=3)).identity()


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A component as small as one can be."""

    name: str = field(default="learner", metadata=NOT_IDENTITY)
    width: int = 16
    optimization: Optimization = OPTIMIZATION
    trainer: TrainerOptions = field(default_factory=TrainerOptions, metadata=NOT_IDENTITY)
    weights: Path | None = field(default=None, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        effective = self.trainer.applied_to(self.optimization, prefix="generator.optimization.")
        object.__setattr__(self, "optimization", effective)

    def objective(self) -> MaskedPrediction:
        sizes = Architecture(vocab_size=8, num_tokens=3, width=self.width, depth=1, num_heads=2)
        return MaskedPrediction(architecture=sizes, label_smoothing=0.0, unmasked_weight=0.0)

    def fit(self, tokens: Any, holdout: Any = None) -> TrainGenerator[Learner]:
        return TrainGenerator(component=self, data=TokenData(tokens=tokens, holdout=holdout))

    def write_trained(self, out: Path, state: TrainingState, validation: Any) -> None:
        write_weights(out / "model.safetensors", state.averages["maskgit"], {})

    def trained(self, artifact: Artifact) -> Learner:
        return dataclasses.replace(self, weights=artifact.path / "model.safetensors")


def test_a_component_is_trained_and_found_again(tmp_path: Path) -> None:
    tokens = token_set(tmp_path, *SHARDS)
    holdout = token_set(tmp_path, SHARDS[0])
    points: list[tuple[int, set[str]]] = []
    ctx = dataclasses.replace(
        context(tmp_path), curves=lambda values, step: points.append((step, set(values)))
    )
    learner = Learner(trainer=TrainerOptions(accelerator="cpu", segment_steps=4))
    stage = learner.fit(tokens, holdout)
    trained = ctx.make(stage)
    assert trained.weights is not None
    assert "to_logits.weight" in load_file(trained.weights)
    artifact = ctx.store.find(stage)
    assert artifact is not None
    facts = artifact.facts
    assert (facts["num_items"], facts["validated_on"], facts["steps"]) == (5, "holdout", 6)
    assert facts["val/bits_per_token"] > 0
    assert [step for step, _ in points] == [4, 4, 6, 6]
    assert points[-1][1] == {"val/bits_per_token"}
    assert ctx.make(dataclasses.replace(learner, trainer=TrainerOptions()).fit(tokens, holdout))
    assert points[4:] == []  # found: neither trained nor told again

    digests = {
        fingerprint(other)[0]
        for other in (
            stage,
            learner.fit(tokens),
            dataclasses.replace(learner, width=32).fit(tokens, holdout),
            dataclasses.replace(learner, trainer=TrainerOptions(max_steps=2)).fit(tokens, holdout),
        )
    }
    assert len(digests) == 4
