"""A memory bank: projections of the models of earlier batches, as further negatives."""

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from peace.losses.pairs import Facts, Memory


@dataclass(frozen=True)
class BankConfig:
    """How many models of earlier batches each batch is told from.

    Attributes:
        size: Models that the bank holds, the oldest making room for the newest; 0 is no bank. Paper a (3.5) has 65,536.
    """

    size: NonNegativeInt = 0


class Bank(nn.Module):
    """The second views of the last models, in buffers, so that a checkpoint brings them back.

    What it holds is a function of the joint batches alone: it is the same in every process.

    Args:
        size: Models that it holds.
        dim: P.

    Reference:
        Paper a, 3.5; Wang et al. 2020, arXiv:1912.06798: what the encoder of earlier steps said is kept as it is.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("vectors", torch.zeros(size, dim))
        self.register_buffer("groups", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("labels", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("values", torch.zeros(size))
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def memory(self) -> Memory:
        """Returns what the bank holds so far."""
        filled = slice(min(int(self.taken), self.size))
        return Memory(self.vectors[filled], Facts(self.groups, self.labels, self.values).select(filled))

    @torch.no_grad()
    def take(self, projections: Tensor, facts: Facts) -> None:
        """Takes the models of a batch in the place of the oldest ones.

        Args:
            projections: Of their second views. Shape: [N, P].
            facts: What is known of them.
        """
        models, start = len(projections), int(self.taken)
        newest = slice(max(0, models - self.size), models)
        places = torch.arange(start + newest.start, start + models, device=self.vectors.device) % self.size
        self.vectors[places] = F.normalize(projections[newest].to(self.vectors), dim=1)
        kept = facts.select(newest)
        self.groups[places], self.labels[places] = kept.groups, kept.labels
        self.values[places] = kept.values.to(self.values)
        self.taken += models
