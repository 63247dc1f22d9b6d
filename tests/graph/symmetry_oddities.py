"""Odd things that happen to five hidden values: writes through aliases, strides, transforms, computed matrices."""

from collections.abc import Callable
from math import factorial as fac
from typing import Any

import torch
import torch.nn.functional as F
from symmetry_cases import Case, Written
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def _indexed_write(m: Any, h: Tensor) -> Tensor:
    h = h.clone()
    h[:, torch.tensor([0, 3], device=h.device)] = h[:, torch.tensor([1, 4], device=h.device)].tanh()
    return h


def _swapped(m: Any, h: Tensor) -> Tensor:
    first, second = h[:, :2].clone(), h[:, 2:4].clone()
    h[:, :2], h[:, 2:4] = second, first
    return h.relu()


def _alias(m: Any, h: Tensor) -> Tensor:
    first = h.relu()
    second = first
    second += 1
    second[:, 0] *= 2
    return first


def _every_other(m: Any, h: Tensor) -> Tensor:
    h.view(-1)[::2].tanh_()
    return h


def _through_detach(m: Any, h: Tensor) -> Tensor:
    h.detach()[:, 1].zero_()
    return h.tanh()


def _through_data(m: Any, h: Tensor) -> Tensor:
    h.data[:, 1] = 3.0
    return h.tanh()


def _weighed_one_by_one(m: Any, h: Tensor) -> Tensor:
    total = h.new_zeros(h.shape[0])
    for place in range(5):
        total = total + h[:, place].tanh() * (place + 1)
    return h + total[:, None]


def _number(m: Any, h: Tensor) -> Tensor:
    total = torch.zeros(())
    return h * (total + h.tanh().sum())


def _diagonal(m: Any, h: Tensor) -> Tensor:
    h.fill_diagonal_(0.5)
    return h


def _spread(m: Any, h: Tensor) -> Tensor:
    low, high = torch.aminmax(h, dim=1, keepdim=True)
    return (h - low) / (high - low + 1)


def _solved(m: Any, h: Tensor) -> Tensor:
    return torch.linalg.solve(torch.eye(5, dtype=h.dtype, device=h.device) + h[:, :, None] * h[:, None, :], h)


def _together(m: Any, h: Tensor) -> Tensor:
    first, second = torch._foreach_tanh([h, h * 2])
    return first + second


# (what happens to h [B, 5] in a module with a matrix [5, 5] and a vector [5], the order where it was counted)
ODDITIES: dict[str, tuple[Callable[[Any, Tensor], Tensor], int | None]] = {
    "indexed_write": (_indexed_write, None),
    "index_add": (lambda m, h: h.index_add(1, torch.arange(3, device=h.device), h[:, 2:].tanh()), None),
    "swapped": (_swapped, None),
    "alias": (_alias, None),
    "every_other": (_every_other, None),
    "through_detach": (_through_detach, None),
    "through_data": (_through_data, None),
    "strided": (lambda m, h: h.as_strided((h.shape[0], 5), (5, 1), 0).flip(1) + h, None),
    "misread": (lambda m, h: h.t().contiguous().view(h.shape) + h, None),
    "bits": (lambda m, h: (h.double().view(torch.int64) & -2).view(torch.float64).to(h), None),
    "windows": (lambda m, h: h.unfold(1, 3, 1).amax(2).repeat(1, 2)[:, :5], None),
    "weighed_one_by_one": (_weighed_one_by_one, None),
    "number": (_number, fac(5)),
    "diagonal": (_diagonal, None),
    "spread": (_spread, None),
    "solved": (_solved, None),
    "together": (_together, None),
    "masked_scatter": (lambda m, h: h.masked_scatter(h > 0.1, h.flip(1)), None),
    "differences": (lambda m, h: F.pad(h.diff(dim=1), (0, 1)), None),
    "clamped_by_mean": (lambda m, h: h.clamp(min=-h.abs().mean(1, keepdim=True)), None),
    "clamped_by_vector": (lambda m, h: torch.clamp(h, min=m.vector, max=m.vector + 1), fac(5)),
    "checkpoint": (lambda m, h: checkpoint(torch.tanh, h, use_reentrant=False), fac(5) * 2**5),
    "vmap": (lambda m, h: torch.vmap(lambda row: row.tanh() * row.sum())(h), fac(5)),
    "derivative": (lambda m, h: torch.func.jvp(torch.tanh, (h,), (torch.ones_like(h),))[1], None),
    "attention_over_hidden": (lambda m, h: F.scaled_dot_product_attention(*[h[:, :, None]] * 3)[:, :, 0], None),
    "own_weight": (lambda m, h: h * m.first.weight.flatten()[:5], None),
    "sum_of_a_weight": (lambda m, h: h + m.last.weight[:, :2].sum(), None),
    "square_matrix": (lambda m, h: torch.addmm(h, h, m.matrix, beta=0.5, alpha=2.0), fac(5) * 2**5),
    "matrix_and_back": (lambda m, h: h @ m.matrix @ m.matrix.t(), None),
    "matrix_cubed": (lambda m, h: h @ torch.matrix_power(m.matrix, 3), None),
    "matrix_exponential": (lambda m, h: h @ torch.matrix_exp(m.matrix), None),
    "skew_matrix": (lambda m, h: (h @ (m.matrix - m.matrix.t())).relu(), None),
    "symmetric_matrix": (lambda m, h: (h @ (m.matrix @ m.matrix.t())).tanh(), None),
    "block_matrix": (lambda m, h: (h @ torch.block_diag(m.matrix[:2, :2], m.matrix[2:, 2:])).tanh(), None),
    "banded_matrix": (lambda m, h: F.conv1d(h[:, None], m.vector.view(1, 1, 5), padding=2)[:, 0], None),
    "circulant_matrix": (lambda m, h: sum(m.vector[place] * h.roll(place, 1) for place in range(5)).relu(), None),
    "gate_of_vector": (lambda m, h: (h * m.vector.sigmoid()).relu(), fac(5)),
    "sorted_vector": (lambda m, h: h * m.vector.sort().values, None),
    "normed_vector": (lambda m, h: h * m.vector / m.vector.norm(), None),
    "softmax_of_vector": (lambda m, h: h * m.vector.softmax(0), None),
    "group_norm_of_some": (lambda m, h: F.group_norm(h[:, :4], 2).repeat(1, 2)[:, :5], None),
    "cross_product": (lambda m, h: torch.linalg.cross(h[:, :3], h[:, 2:]).repeat(1, 2)[:, :5], None),
}


def _between(function: Callable[[Any, Tensor], Tensor], order: int | None) -> Case:
    def build() -> nn.Module:
        matrix, vector = nn.Parameter(torch.randn(5, 5)), nn.Parameter(torch.randn(5))
        parts = {"first": nn.Linear(3, 5), "last": nn.Linear(5, 2), "matrix": matrix, "vector": vector}
        return Written(lambda m, x: m.last(function(m, m.first(x))), **parts)

    return Case(build, ((3,),), order)


CASES = {name: _between(*entry) for name, entry in ODDITIES.items()}
