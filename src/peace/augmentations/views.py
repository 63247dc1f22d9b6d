"""Two views of each model of a batch."""

from collections.abc import Iterable

import torch
from torch import Tensor

from peace.augmentations import Augmentation, Kinship
from peace.graph.stack import Stack


def partners(
    models: Tensor, kinship: Kinship, augmentations: Iterable[Augmentation], generator: torch.Generator
) -> Tensor:
    """Returns the model that the second view of each shows, every augmentation choosing in turn. Shape: [N] -> [N]."""
    for augmentation in augmentations:
        models = augmentation.partner(models, kinship, generator)
    return models


def view(stack: Stack, augmentations: Iterable[Augmentation], generator: torch.Generator) -> Stack:
    """Returns a view of a stack, every augmentation transforming in turn."""
    for augmentation in augmentations:
        stack = augmentation.transform(stack, generator)
    return stack
