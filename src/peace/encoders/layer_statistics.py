"""How a layer's weights and biases are distributed, on scales that an aggregator can read."""

import torch
from torch import Tensor

STATISTICS_DIM = 12

_UNIT = 0.01


def layer_statistics(weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns the size and the quintiles of a layer's weights and of its biases, none of which knows their order.

    The size is the root mean square, the quintiles are the 0, 25, 50, 75 and 100 % quantiles of nearest rank; each
    number q is given as sign(q) log(1 + |q| / 0.01): training multiplies weights, and initial biases are often
    zero. A layer without bias gives zeros.

    Shape:
        [B, n_out, n_in, n_tap], [B, n_out] -> [B, 12].

    Reference:
        Unterthiner et al. 2020, arXiv:2002.11448, section 4, for the quantiles; logarithms are ours.
    """
    biases = weight.new_zeros(len(weight), STATISTICS_DIM // 2) if bias is None else _distribution(bias)
    return torch.cat([_distribution(weight), biases], dim=1)


def _distribution(tensor: Tensor) -> Tensor:
    flat = tensor.flatten(1)
    size = flat.norm(dim=1, keepdim=True) / flat.shape[1] ** 0.5
    # Quantiles of torch take 16 million numbers at most.
    places = torch.linspace(0, flat.shape[1] - 1, 5, dtype=torch.float64, device=flat.device).round().long()
    found = torch.cat([size, flat.sort(dim=1).values[:, places]], dim=1)
    return found.sign() * torch.log1p(found.abs() / _UNIT)
