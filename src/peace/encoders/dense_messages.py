"""Message passing over a complete bipartite layer: a matrix product, no edge list, no scatter."""

from torch import Tensor


def to_outputs(weight: Tensor, states: Tensor, gates: Tensor | None = None) -> Tensor:
    """Returns Σ_j Σ_t A_ijt γ_t ⊙ x_j for every output node i.

    Args:
        weight: A. Shape: [B, n_out, n_in, n_tap].
        states: x of the input nodes. Shape: [B, n_in, H].
        gates: γ, None for ones. Shape: [n_tap, H].

    Returns:
        Shape: [B, n_out, H].
    """
    if weight.shape[3] == 1 and gates is None:
        return weight[..., 0] @ states
    return weight.flatten(2) @ _over_taps(states, weight.shape[3], gates)


def to_inputs(weight: Tensor, states: Tensor, gates: Tensor | None = None) -> Tensor:
    """Returns Σ_i Σ_t A_ijt γ_t ⊙ x_i for every input node j; shapes as in `to_outputs`, n_out and n_in exchanged."""
    if weight.shape[3] == 1 and gates is None:
        return weight[..., 0].mT @ states
    return weight.transpose(1, 2).flatten(2) @ _over_taps(states, weight.shape[3], gates)


def _over_taps(states: Tensor, taps: int, gates: Tensor | None) -> Tensor:
    """Each state once per tap, gated. Shape: [B, n * n_tap, H]."""
    spread = states[:, :, None].expand(-1, -1, taps, -1)
    return (spread if gates is None else spread * gates).flatten(1, 2)
