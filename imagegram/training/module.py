"""TrainingModule: the LightningModule that every family extends.

    class Denoising(TrainingModule):
        def make_networks(self):
            return {"main": Network(width=self.objective.width)}

        def training_step(self, batch, batch_idx):
            clean, noisy = batch
            loss = (self.networks["main"](noisy) - clean).square().mean()
            self.log("train/loss", loss)
            return loss

This is all that one AdamW needs. A module with several optimizers names them in
:meth:`make_optimizers`, sets ``automatic_optimization = False`` and steps with :meth:`descend`.
Lightning's hooks are free to use, ``self.log`` draws curves. What happens around each step, rates,
seeds, averages, is in ``callbacks.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from lightning.pytorch import LightningModule
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from imagegram.training.course import Batches, Course
from imagegram.training.draws import WEIGHTS, torch_seed
from imagegram.training.objective import Items
from imagegram.training.optimization import Optimization
from imagegram.training.state import (
    Best,
    TrainingState,
    parameter_names,
    read_moments,
    restore_moments,
)

#: Devices for which torch has an AdamW in one kernel.
_FUSED: Final = ("cpu", "cuda")


class TrainingModule(LightningModule):
    """Named networks and named optimizers that continue from a state.

    Args:
        objective: the fields that networks and losses need.

    Attributes:
        course: data and steps; set before Lightning starts.
        networks: by name, on the device; their weights and buffers are the state.
        averages: moving averages of the networks that :attr:`averaged` names.
        batches_done: number of batches seen in this course, whatever the optimizers did.
        best: the best averages so far, where ``optimization.keep=best``.
    """

    #: Networks whose moving average is kept; None: all.
    averaged: tuple[str, ...] | None = None
    #: Score of :meth:`validate` whose lowest value is the best; None: it has none such.
    validation_loss: str | None = None
    #: Tensors of a network that are read off the items; weights that it begins with keep them.
    counted: tuple[str, ...] = ()

    def __init__(self, objective: Any) -> None:
        super().__init__()
        self.objective = objective
        self.course: Course
        self.networks: nn.ModuleDict
        self.averages: Any
        self.batches_done = 0
        self.best: Best | None = None

    # ------------------------------------------------------------------- implemented by a family

    def make_networks(self) -> dict[str, nn.Module]:
        """Build the networks with fresh weights, on the CPU; torch is seeded before the call."""
        raise NotImplementedError

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Build the optimizers, by name; by default one AdamW for all networks."""
        return {"main": self.adamw(*self.networks.values())}

    def learning_rate(self, optimizer: str, step: int) -> float:
        """Return the learning rate of a named optimizer in a step."""
        return self.optimization.rate(step)

    def after_step(self) -> None:
        """Change networks between a step and their average, for example to revive dead codes."""

    def validate(self, networks: Mapping[str, nn.Module], items: Items) -> dict[str, float]:
        """Return the scores ``val/name`` at the end of a segment; no gradients, evaluation mode.

        Args:
            networks: averaged networks where averages are kept, else the networks themselves.
            items: items to validate on.
        """
        return {}

    # ------------------------------------------------------------------------- used by a family

    @property
    def optimization(self) -> Optimization:
        """Steps, rates and seed of the training."""
        return self.course.optimization

    @property
    def steps_done(self) -> int:
        """Number of finished steps, including those of earlier segments."""
        return self.course.first_step + self.batches_done // self.course.batches_per_step

    def adamw(self, *networks: nn.Module, learning_rate: float | None = None) -> torch.optim.AdamW:
        """Build an AdamW of the trainable parameters of some networks.

        Only matrices decay, no table of embeddings.
        """
        found = [
            (name, parameter)
            for network in networks
            for name, parameter in network.named_parameters()
            if parameter.requires_grad
        ]
        tables = {
            id(module.weight)
            for network in networks
            for module in network.modules()
            if isinstance(module, nn.Embedding)
        }
        matrices = [
            p for name, p in found if name.endswith("weight") and p.ndim > 1 and id(p) not in tables
        ]
        chosen = {id(parameter) for parameter in matrices}
        others = [p for _, p in found if id(p) not in chosen]
        decay = self.optimization.weight_decay
        return torch.optim.AdamW(
            [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}],
            lr=learning_rate or self.optimization.learning_rate,
            betas=self.optimization.betas,
            fused=all(p.device.type in _FUSED for _, p in found),
        )

    def descend(self, optimizer: str, loss: Tensor) -> None:
        """Take one step of a named optimizer, where ``automatic_optimization`` is off."""
        self.descend_together({optimizer: loss})

    def descend_together(self, losses: Mapping[str, Tensor]) -> None:
        """Take one step of each of several optimizers, after one backward pass.

        Args:
            losses: by the name of the optimizer; no loss may reach the weights of another one.
        """
        found: Any = self.optimizers()
        known = dict(zip(self._named, found if len(self._named) > 1 else [found], strict=True))
        chosen = [known[name] for name in losses]
        for optimizer in chosen:
            optimizer.zero_grad()
        self.manual_backward(torch.stack(list(losses.values())).sum())
        for optimizer in chosen:
            limit = self.optimization.gradient_clip_val
            self.configure_gradient_clipping(optimizer.optimizer, limit)
            optimizer.step()

    # ------------------------------------------------------------------------ called by Lightning

    def configure_model(self) -> None:
        """Build the networks in the process that trains them: averages cannot be sent to it."""
        if hasattr(self, "networks"):
            return
        course, how = self.course, self.optimization
        state = None if course.start is None else TrainingState.read(course.start)
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # Lightning moves them
            torch.default_generator.manual_seed(
                torch_seed(seed=how.seed, purpose=WEIGHTS, number=0)
            )
            self.networks = nn.ModuleDict(self.make_networks())
            if state is None and course.first_weights is not None:
                self._take_over(course.first_weights)
            chosen = tuple(self.networks) if self.averaged is None else self.averaged
            mean = get_ema_multi_avg_fn(how.ema_decay)  # type: ignore[no-untyped-call]
            self.averages = nn.ModuleDict(
                {name: AveragedModel(self.networks[name], multi_avg_fn=mean) for name in chosen}
            )
        self.averages.requires_grad_(requires_grad=False)
        if state is not None:
            for name, network in self.networks.items():
                network.load_state_dict(state.networks[name])
            for name, average in self.averages.items():
                average.module.load_state_dict(state.averages[name])
                average.n_averaged.fill_(state.step)
        self._moments = {} if state is None else state.optimizers
        self.best = None if state is None else state.best
        if course.trainer.gradient_checkpointing:
            checkpoint_blocks(self.networks)
        if course.trainer.compile and self.trainer.strategy.root_device.type != "cpu":
            for network in self.networks.values():
                network.compile()

    def _take_over(self, path: Path) -> None:
        """Give the one network the weights of a file, but for what was counted in the items."""
        ((_, network),) = self.networks.items()
        fresh = network.state_dict()
        counted = {name: fresh[name] for name in self.counted if name in fresh}
        network.load_state_dict({**load_file(path), **counted})

    def train_dataloader(self) -> Batches:
        """Return the batches of this device."""
        return Batches(self.course, rank=self.trainer.global_rank, world=self.trainer.world_size)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the named optimizers, with the moments of the state."""
        self._named = self.make_optimizers()
        names = parameter_names(self.networks)
        for name, fields in self._moments.items():
            restore_moments(self._named[name], names, fields)
        self._moments = {}
        return list(self._named.values())

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale down gradients whose norm is too large; log the curve of their norm."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        limit = math.inf if gradient_clip_val is None else gradient_clip_val
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        self.log(self._curve("train/gradient_norm", optimizer), norm)

    def _curve(self, name: str, optimizer: torch.optim.Optimizer) -> str:
        """Return the name of a curve, with the optimizer's name where there are several."""
        if len(self._named) == 1:
            return name
        (which,) = [key for key, known in self._named.items() if known is optimizer]
        return f"{name}_{which}"

    # ------------------------------------------------------------------------ called by callbacks

    def set_rates(self) -> None:
        """Give every optimizer the learning rate of the coming step."""
        for name, optimizer in self._named.items():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(name, self.steps_done)

    def rates(self) -> dict[str, float]:
        """Return the learning rates of the last step as points of curves."""
        return {
            self._curve("train/learning_rate", optimizer): float(optimizer.param_groups[0]["lr"])
            for optimizer in self._named.values()
        }

    def update_averages(self) -> None:
        """Update the moving averages with the networks after a step."""
        for name, average in self.averages.items():
            average.update_parameters(self.networks[name])

    def state(self) -> TrainingState:
        """Return the state that the next step continues from."""
        names = parameter_names(self.networks)
        return TrainingState(
            step=self.steps_done,
            networks={name: network.state_dict() for name, network in self.networks.items()},
            averages=self._averages(),
            optimizers={
                name: read_moments(optimizer, names) for name, optimizer in self._named.items()
            },
            best=self.best,
        )

    def _averages(self) -> dict[str, dict[str, Tensor]]:
        return {name: average.module.state_dict() for name, average in self.averages.items()}

    def look(self) -> dict[str, float]:
        """Return the scores, and keep the averages if none before had a lower loss.

        A loss that is not a number is worse than any.
        """
        scores = self.scores()
        loss = scores[str(self.validation_loss)]
        loss = math.inf if math.isnan(loss) else loss
        if self.best is None or loss < self.best.loss:
            averages = {
                name: {key: tensor.detach().clone() for key, tensor in tensors.items()}
                for name, tensors in self._averages().items()
            }
            self.best = Best(step=self.steps_done, loss=loss, averages=averages)
        return scores

    def scores(self) -> dict[str, float]:
        """Return the scores of :meth:`validate`."""
        averages = {name: average.module for name, average in self.averages.items()}
        networks: dict[str, Any] = {**dict(self.networks.items()), **averages}
        training = {name: network.training for name, network in networks.items()}
        for network in networks.values():
            network.eval()
        with torch.no_grad():
            scores = self.validate(networks, self.course.validation)
        for name, network in networks.items():
            network.train(training[name])
        return scores


def checkpoint_blocks(network: nn.Module) -> None:
    """Let every block of a transformer forget what it computed, and compute it again for gradients.

    A block is an entry of a list of modules; what it draws at random, it draws again.
    """
    for module in network.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
