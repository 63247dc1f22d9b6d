"""Message passing over a layer that is complete, or complete within its groups: matrix products, no edge list."""

from torch import Tensor


def to_outputs(weight: Tensor, states: Tensor, gates: Tensor | None = None, groups: int = 1) -> Tensor:
    """Returns Σ_j Σ_t A_ijt γ_t ⊙ x_j for every output node i.

    Args:
        weight: A. Shape: [B, n_out, n_in / groups, n_tap].
        states: x of the input nodes. Shape: [B, n_in, H].
        gates: γ, None for ones. Shape: [n_tap, H].
        groups: Each group of outputs sums over the group of inputs in the same place alone.

    Returns:
        Shape: [B, n_out, H].
    """
    if groups > 1:
        return _joined(to_outputs(_split(weight, groups), _split(states, groups), gates), groups)
    if weight.shape[3] == 1 and gates is None:
        return weight[..., 0] @ states
    return weight.flatten(2) @ _over_taps(states, weight.shape[3], gates)


def to_inputs(weight: Tensor, states: Tensor, gates: Tensor | None = None, groups: int = 1) -> Tensor:
    """Returns Σ_i Σ_t A_ijt γ_t ⊙ x_i for every input node j; shapes as in `to_outputs`, n_out and n_in exchanged."""
    if groups > 1:
        return _joined(to_inputs(_split(weight, groups), _split(states, groups), gates), groups)
    # States by weights, not weights by states: weights stay as they lie in memory, at the speed of any product.
    of_taps = (states.mT @ weight.flatten(2)).unflatten(2, weight.shape[2:])
    if gates is None:
        return of_taps.sum(3).mT if weight.shape[3] > 1 else of_taps[..., 0].mT
    return (of_taps @ gates.mT[:, :, None])[..., 0].mT


def _split(tensor: Tensor, groups: int) -> Tensor:
    """Each group as a model of its own. Shape: [B, n, ...] -> [B * groups, n / groups, ...]."""
    return tensor.unflatten(1, (groups, -1)).flatten(0, 1)


def _joined(states: Tensor, groups: int) -> Tensor:
    return states.unflatten(0, (-1, groups)).flatten(1, 2)


def _over_taps(states: Tensor, taps: int, gates: Tensor | None) -> Tensor:
    """Each state once per tap, gated. Shape: [B, n * n_tap, H]."""
    spread = states[:, :, None].expand(-1, -1, taps, -1)
    return (spread if gates is None else spread * gates).flatten(1, 2)
