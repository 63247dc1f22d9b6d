"""Whether what two trainings left is the same, bit for bit."""

import torch


def same(first: object, second: object) -> bool:
    """Whether two nests of primitives and tensors are equal, bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
