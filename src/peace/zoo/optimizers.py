"""Optimisers over a population: torch's update rules with a learning rate and a weight decay for each model."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from peace.errors import InputError, did_you_mean

MOMENTUM = 0.9


@dataclass
class Optimizer:
    """One of torch's optimisers over a matrix whose rows are models.

    Follows `torch.optim.SGD` (with or without momentum 0.9), `RMSprop`, `Adam` and `AdamW` at their defaults, update
    for update: weight decay is added to the gradient, except in `adamw`, where it shrinks the weights (Loshchilov and
    Hutter 2019, arXiv:1711.05101).

    Attributes:
        name: `sgd`, `momentum`, `rmsprop`, `adam` or `adamw`.
        learning_rate: Shape [M, 1].
        weight_decay: Shape [M, 1].
        state: Moments, each [M, P], and each model's count of steps, [M, 1] float64.
    """

    name: str
    learning_rate: Tensor
    weight_decay: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)

    NAMES = ("sgd", "momentum", "rmsprop", "adam", "adamw")

    def __post_init__(self) -> None:
        """Refuses an unknown name."""
        if self.name not in self.NAMES:
            raise InputError(f"unknown zoo optimiser '{self.name}'", do=did_you_mean(self.name, self.NAMES))
        self.decays = bool(self.weight_decay.any())

    def started(self, weights: Tensor) -> dict[str, Tensor]:
        """Returns the state, before the first step that of no step at all. Shape of the weights: [M, P]."""
        if not self.state:
            moments = {"sgd": (), "momentum": ("first",), "rmsprop": ("second",)}.get(self.name, ("first", "second"))
            self.state = {name: torch.zeros_like(weights) for name in moments}
            self.state["steps"] = torch.zeros_like(self.learning_rate, dtype=torch.float64)
        return self.state

    def step(self, weights: Tensor, gradient: Tensor, active: Tensor | None = None) -> Tensor:
        """Returns the weights after one step.

        Args:
            weights: Shape [M, P].
            gradient: Shape [M, P].
            active: Which models take the step, the others and their moments stay as they are. Shape: [M, 1] bool.
        """
        self.started(weights)
        if active is None:
            return self._update(weights, gradient)
        before = {name: value.clone() for name, value in self.state.items()}
        stepped = torch.where(active, self._update(weights, gradient), weights)
        self.state = {name: torch.where(active, value, before[name]) for name, value in self.state.items()}
        return stepped

    def _update(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """Returns the weights of all models after the step; moments change in place, which keeps them in the cache."""
        state = self.state
        steps = state["steps"].add_(1)
        if self.name == "adamw":
            weights = weights * (1 - self.learning_rate * self.weight_decay)
        elif self.decays:
            gradient = torch.addcmul(gradient, self.weight_decay, weights)
        if self.name == "sgd":
            return weights - self.learning_rate * gradient
        if self.name == "momentum":
            return weights - self.learning_rate * state["first"].mul_(MOMENTUM).add_(gradient)
        if self.name == "rmsprop":
            spread = state["second"].mul_(0.99).addcmul_(gradient, gradient, value=0.01).sqrt().add_(1e-8)
            return torch.addcdiv(weights, self.learning_rate * gradient, spread, value=-1)
        first = state["first"].lerp_(gradient, 0.1)
        second = state["second"].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        rate, root = self.corrections(steps, weights.dtype)
        return torch.addcdiv(weights, first * rate, second.sqrt().mul_(root).add_(1e-8), value=-1)

    def corrections(self, steps: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Returns Adam's learning rate, and what its root is multiplied by, without the bias of the moments.

        Args:
            steps: Steps that each model has taken, with the present one. Shape: [M, S] float64.
            dtype: Type of the weights.

        Shape:
            [M, S] each.
        """
        # In float64, as torch has them: 1 - 0.999 in float32 is wrong by 5e-5 of its value. By exponentials: the last
        # bit of a power depends on where in its tensor a number stands, and so on which other models there are.
        first, second = (1 - (steps * math.log(base)).exp() for base in (0.9, 0.999))
        return (self.learning_rate / first).to(dtype), second.rsqrt().to(dtype)
