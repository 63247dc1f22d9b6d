"""What a case of a derived group is: a small module, an example, and the group's order where a person can count it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Written(nn.Module):
    """A module written as its parts and a function of them."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Parameter | nn.Module):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)
        self.written = forward

    def forward(self, *inputs: Tensor) -> object:
        return self.written(self, *inputs)


@dataclass(frozen=True)
class Case:
    """A module and what is known of its group.

    `order` is the number of permutations and sign flips; `pins` are the operations that the report must name.
    """

    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    order: int | None = None
    pins: tuple[str, ...] = ()
    words: int = 0

    def inputs(self, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Two examples of each input."""
        if self.words:
            return tuple(torch.randint(self.words, (2, *shape), generator=generator) for shape in self.shapes)
        return tuple(torch.randn(2, *shape, generator=generator, dtype=dtype) for shape in self.shapes)
