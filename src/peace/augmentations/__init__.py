"""Augmentations: what may differ between two views of a model, each switched by the config.

An encoder that is exactly invariant to the symmetry group learns nothing from symmetry views alone: its positives are
identical and only negatives push. The others make views that differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from peace.graph.stack import Stack
from peace.registry import Registry

Share = Annotated[float, Field(ge=0, le=1)]


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

    def select(self, places: Tensor | slice) -> "Kinship":
        """Returns the kinship among the models at these places."""
        return Kinship(self.runs[places], self.recipes[places], self.epochs[places])


class Augmentation:
    """One way in which views differ: another model in the place of the first, parts of others, or other weights.

    Each kind does one of the three and leaves the others alone, as here.

    Attributes:
        preserves: Whether a decoder should give back what is shown: a view that computes what the model computes, or
            another whole model. Of any other change it should give back what was there before.
    """

    preserves = True

    def partner(self, models: Tensor, kinship: Kinship, generator: torch.Generator) -> Tensor:
        """Returns for each model the one whose weights the second view shows. Shape: [N] -> [N] int64."""
        return models

    def mix(
        self, views: Sequence[Stack], places: Tensor, pool: Stack, kinship: Kinship, generator: torch.Generator
    ) -> Sequence[Stack]:
        """Returns all views with parts of other models in them, the same in each, before any is transformed.

        Args:
            views: First views of N models of one architecture, and second ones where there are two.
            places: Of the first views' models in the pool. Shape: [N].
            pool: All models of that architecture that there are.
            kinship: Who is related to whom in the pool.
            generator: CPU generator.
        """
        return views

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a view of the stack."""
        return stack


class Transform(Augmentation):
    """An augmentation that changes weights, of each view alone."""

    preserves = False


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", __name__)
