"""Projections of two views of random models, and what is known of the models."""

import torch
from torch import Tensor

from peace.losses.pairs import Facts, Memory, Pairs


def pairs(first: Tensor, second: Tensor, memory: Memory | None = None) -> Pairs:
    """Pairs of models that have nothing in common."""
    models = len(first)
    facts = Facts(torch.arange(models), torch.full((models,), -1), 100.0 * torch.arange(models))
    return Pairs(first, second, facts, memory)


def random_pairs(models: int, dim: int, seed: int = 0, earlier: int = 0) -> Pairs:
    """Pairs of models of three labels, a fifth of them without, each a group; a memory holds some of the groups too."""
    generator = torch.Generator().manual_seed(seed)
    first, noise = (torch.randn(models, dim, generator=generator, dtype=torch.float64) for _ in range(2))
    memory = None
    if earlier:
        vectors = torch.randn(earlier, dim, generator=generator, dtype=torch.float64)
        memory = Memory(vectors / vectors.norm(dim=1, keepdim=True), _facts(earlier, 2 * models, generator))
    facts = _facts(models, 0, generator)
    return Pairs(first.requires_grad_(), (first + 0.5 * noise).detach().requires_grad_(), facts, memory)


def _facts(models: int, groups: int, generator: torch.Generator) -> Facts:
    """Of models each a group of its own, or of groups drawn below a number."""
    drawn = torch.randint(groups, (models,), generator=generator) if groups else torch.arange(models)
    labels = torch.randint(3, (models,), generator=generator)
    labels[torch.rand(models, generator=generator) < 0.2] = -1
    return Facts(drawn, labels, torch.randn(models, generator=generator, dtype=torch.float64))
