"""Augmentations: what may differ between two views of a model, each switched by the config.

An encoder that is exactly invariant to the symmetry group learns nothing from symmetry views alone: its positives are
identical and only negatives push. The others make views that differ.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from peace.graph.stack import Stack
from peace.registry import Registry


@dataclass(frozen=True)
class Kinship:
    """Who is related to whom among G models.

    Attributes:
        runs: Number of each model's training run. Shape: [G] int64.
        recipes: Number of each model's recipe: all of its training but the seed. Shape: [G] int64.
        epochs: Epochs each was trained. Shape: [G] int64.
    """

    runs: Tensor
    recipes: Tensor
    epochs: Tensor


class Augmentation(Protocol):
    """One way in which views differ: another model in the place of the first, or other weights.

    Attributes:
        preserves: Whether a view computes what the model computes, so that a decoder should give it back as it is; of
            any other change it should give back what was there before.
    """

    preserves: bool

    def partner(self, models: Tensor, kinship: Kinship, generator: torch.Generator) -> Tensor:
        """Returns for each model the one whose weights the second view shows. Shape: [N] -> [N] int64."""
        ...

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a view of the stack."""
        ...


class Transform:
    """An augmentation that changes weights and leaves the choice of the model alone."""

    preserves = False

    def partner(self, models: Tensor, kinship: Kinship, generator: torch.Generator) -> Tensor:
        """Returns the models themselves."""
        return models


class Partner:
    """An augmentation that shows another model and leaves its weights alone."""

    preserves = True

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns the stack itself."""
        return stack


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", __name__)
