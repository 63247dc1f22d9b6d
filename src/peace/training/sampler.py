"""Which models stand in a batch: a pure function of seed and step."""

from dataclasses import dataclass, field

import torch
from pydantic import PositiveInt
from torch import Tensor

from peace import seeding
from peace.augmentations import Kinship
from peace.errors import InputError
from peace.training.negatives import Couples, NegativesConfig


@dataclass(frozen=True)
class SamplerConfig:
    """What a batch is.

    Attributes:
        batch_size: Most models in a batch; there are fewer where there are fewer recipes (or runs).
        distinct: What no two models of a batch share, `recipe` or `run`; `model` lets them share both, as paper c does.
        per_run: With `distinct="model"`, the checkpoints of each run in a batch, negatives of each other that initial
            weights do not tell apart; None draws from all models alike.
        weights: Most weights and biases in a batch, counted in one view of each model; null is no such limit. Models
            are taken in the order drawn up to the first one for which there is no room.
        negatives: Shares of a batch that are drawn as negatives of one kind.
    """

    batch_size: PositiveInt = 256
    distinct: str = "recipe"
    per_run: PositiveInt | None = None
    weights: PositiveInt | None = None
    negatives: NegativesConfig = field(default_factory=NegativesConfig)


class Sampler:
    """Draws batches of models of which no two are of one recipe, or of one run.

    In NT-Xent every other model of the batch is a negative, so what is a positive elsewhere must not stand beside it:
    `distinct="recipe"` goes with near-duplicate positives, `"run"` with checkpoints of the same run. With
    `per_run` runs are drawn uniformly, and the checkpoints of the last one may be fewer.

    Args:
        kinship: Who is related to whom.
        config: What a batch is; its negatives are what `couples` draws.
        seed: Seed of all batches.
        couples: Draws negatives of one kind; None is uniform throughout.
        sizes: Weights and biases of each model, given if they are limited. Shape: [G] int64.

    Raises:
        InputError: `distinct` is none of these, the models share a single recipe (or run), which leaves no negatives,
            `per_run` stands beside another `distinct` or beside negatives of one kind, the limit on weights has no
            room for two models, or there are too few negatives of a kind.
    """

    def __init__(
        self,
        kinship: Kinship,
        config: SamplerConfig,
        seed: int,
        couples: Couples | None = None,
        sizes: Tensor | None = None,
    ) -> None:
        self.groups, self.distinct, self.per_run = groups_of(kinship, config.distinct), config.distinct, config.per_run
        if self.per_run and (self.distinct != "model" or couples):
            raise InputError("checkpoints of one run cannot stand in a batch", where="'sampler.per_run'",
                             got=f"distinct={self.distinct}{', and negatives of one kind' if couples else ''}",
                             expected="distinct=model and no sampler.negatives")  # fmt: skip
        self.runs = kinship.runs
        most = len(self.groups.unique())
        if self.per_run:
            most = int(self.runs.unique(return_counts=True)[1].clamp(max=self.per_run).sum())
        self.size = min(config.batch_size, most)
        if len(self.groups.unique()) < 2:
            raise InputError(
                f"no negatives: all models share one {config.distinct}",
                where="'sampler.distinct'",
                do="choose another of recipe, run and model, or train on another zoo",
            )
        self.seed, self.couples, self.weights = seed, couples, config.weights
        self.sizes = sizes if config.weights else None
        if self.least < 2 <= self.size:
            # A couple for which there is no room may leave the place of one model empty, so that three must have room.
            room = int(self._totals()[: 2 + bool(couples)][-1])
            raise InputError("no negatives: a batch may have no room for two models", where="'sampler.weights'",
                             got=self.weights, expected=f"at least {room}")  # fmt: skip
        if couples:
            couples.check(self._candidates(self._generator(0)), self.size)

    @property
    def least(self) -> int:
        """The number of models that every batch has at least."""
        if self.sizes is None:
            return self.size
        fit = int((self._totals() <= self.weights).sum())
        return fit if fit == self.size else fit - bool(self.couples)

    def _totals(self) -> Tensor:
        """Weights and biases of the largest model, of the two largest, ..., one of each recipe (or run)."""
        names, group = self.groups.unique(return_inverse=True)
        largest = self.sizes.new_zeros(len(names)).scatter_reduce(0, group, self.sizes, "amax")
        return largest.sort(descending=True).values[: self.size].cumsum(0)

    def batch(self, step: int) -> Tensor:
        """Returns the models of one step, in ascending order. Shape: [at most batch_size] int64."""
        generator = self._generator(step)
        units = self._units(self._candidates(generator), generator)
        if self.sizes is not None:
            weights = torch.stack([self.sizes[unit].sum() for unit in units])
            units = units[: int((weights.cumsum(0) <= self.weights).sum())]
        return torch.cat(units).sort().values

    def _generator(self, step: int) -> torch.Generator:
        return seeding.generator(self.seed, "batch", step)

    def _candidates(self, generator: torch.Generator) -> Tensor:
        """One model of each recipe (or run), in random order, or the shares of runs."""
        if self.per_run:
            return shares_of_runs(self.runs, self.per_run, self.size, generator)
        order = torch.randperm(len(self.groups), generator=generator)
        if self.distinct == "model":
            return order
        _, group = self.groups[order].unique(return_inverse=True)
        places = torch.arange(len(order))
        first = torch.full((int(group.max()) + 1,), len(order)).scatter_reduce(0, group, places, "amin")
        chosen = order[first]
        return chosen[torch.randperm(len(chosen), generator=generator)]

    def _units(self, models: Tensor, generator: torch.Generator) -> list[Tensor]:
        """What is taken or left together, in random order: couples and single models."""
        if self.couples is None:
            return list(models[: self.size].split(1))
        couples = [couple for kind in self.couples.draw(models, self.size).values() for couple in kind]
        coupled = {place for couple in couples for place in couple}
        single = [[place] for place in range(len(models)) if place not in coupled]
        units = [*couples, *single[: self.size - len(coupled)]]
        return [models[units[place]] for place in torch.randperm(len(units), generator=generator).tolist()]


def shares_of_runs(runs: Tensor, count: int, total: int, generator: torch.Generator) -> Tensor:
    """Returns `count` random checkpoints of a random run, as many of another one, and so on.

    Args:
        runs: The run of each model. Shape: [G] int64.
        count: Of each run; one that has fewer gives all.
        total: Where to stop.
        generator: Of runs and checkpoints.

    Shape:
        [at most total] int64.
    """
    sizes = runs.bincount()
    order = sizes.nonzero().flatten()
    order = order[torch.randperm(len(order), generator=generator)]
    order = order[: 1 + int((sizes[order].clamp(max=count).cumsum(0) < total).sum())]
    place = torch.full_like(sizes, len(order)).scatter(0, order, torch.arange(len(order)))
    models = (place[runs] < len(order)).nonzero().flatten()
    models = models[torch.randperm(len(models), generator=generator)]
    # Stable, so that within a run the order stays random.
    models = models[place[runs[models]].argsort(stable=True)]
    rank = torch.arange(len(models)) - (sizes[order].cumsum(0) - sizes[order]).repeat_interleave(sizes[order])
    return models[rank < count][:total]


def groups_of(kinship: Kinship, distinct: str) -> Tensor:
    """Returns the number of what no two models of a batch share. Shape: [G] int64.

    Raises:
        InputError: `distinct` is none of recipe, run and model.
    """
    groups = {"recipe": kinship.recipes, "run": kinship.runs, "model": torch.arange(len(kinship.runs))}
    if distinct not in groups:
        raise InputError("no such sampler.distinct", got=distinct, expected=" or ".join(groups))
    return groups[distinct]
