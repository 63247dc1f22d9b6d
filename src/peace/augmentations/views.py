"""Two views of each model of a batch."""

from collections.abc import Iterable

import torch
from torch import Tensor

from peace.augmentations import Augmentation, Kinship, Transform
from peace.errors import InputError
from peace.graph.stack import Stack


def partners(
    models: Tensor, kinship: Kinship, augmentations: Iterable[Augmentation], generator: torch.Generator
) -> Tensor:
    """Returns the model that the second view of each shows, every augmentation choosing in turn. Shape: [N] -> [N]."""
    for augmentation in augmentations:
        models = augmentation.partner(models, kinship, generator)
    return models


def check_decodable(augmentations: Iterable[Augmentation], where: str = "augmentation") -> None:
    """Refuses an order of augmentations in which `view` cannot tell what a decoder should give back.

    Raises:
        InputError: One that leaves functions as they are comes after one that does not.
    """
    changed = ""
    for augmentation in augmentations:
        name = type(augmentation).__name__.lower()
        if augmentation.preserves and isinstance(augmentation, Transform) and changed:
            raise InputError(f"'{name}' comes after '{changed}'", where=f"'{where}'",
                             expected="what leaves functions as they are first, where there is a decoder",
                             do="change their order")  # fmt: skip
        changed = changed if augmentation.preserves else name


def view(stack: Stack, augmentations: Iterable[Augmentation], generator: torch.Generator) -> tuple[Stack, Stack]:
    """Returns a view of a stack, every augmentation transforming in turn, and what a decoder should make of it.

    That is the view before anything but the models' functions was changed: renumbered where the view is, and whole
    where part of the view is erased. What follows such a change is not in it.
    """
    original = stack
    for augmentation in augmentations:
        same = stack is original
        stack = augmentation.transform(stack, generator)
        original = stack if same and augmentation.preserves else original
    return stack, original
