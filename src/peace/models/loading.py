"""Models of a zoo as stacks in memory."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.zoo.storage import Zoo


def load_stacks(zoo: Zoo, rows: pd.DataFrame) -> tuple[list[Stack], pd.DataFrame]:
    """Returns the models of some rows as one stack per architecture, and the rows in the order of the stacks.

    Raises:
        InputError: Weights cannot be read or do not fit their architecture.
    """
    parts = list(zoo.by_architecture(rows))
    stacks = [Stack.of(from_architecture(part["architecture_config"].iloc[0]), zoo.weights(part)) for part in parts]
    return stacks, pd.concat(parts, ignore_index=True)


def single(architecture: str, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Stack:
    """Returns one state dict as a stack of one model.

    Args:
        architecture: JSON of its `architecture_config`.
        tensors: Its state dict.
        dtype: The type wanted.
    """
    return Stack.of(from_architecture(architecture), {name: tensor[None].to(dtype) for name, tensor in tensors.items()})


def chunks(zoo: Zoo, rows: pd.DataFrame, models: int) -> list[pd.DataFrame]:
    """Returns the rows in parts of at most so many models of one architecture, in the order of `load_stacks`."""
    parts = zoo.by_architecture(rows)
    return [part.iloc[start : start + models] for part in parts for start in range(0, len(part), models)]
