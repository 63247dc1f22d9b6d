import pytest
import torch

from peace.encoders.dense_messages import to_inputs, to_outputs

DRAW = torch.Generator().manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("taps", [1, 6])
def test_messages_are_sums_over_edges(taps: int, gated: bool) -> None:
    weight, sources, targets = randn(2, 4, 3, taps), randn(2, 3, 5), randn(2, 4, 5)
    gates = randn(taps, 5) if gated else None
    gamma = torch.ones(taps, 5, dtype=torch.float64) if gates is None else gates
    torch.testing.assert_close(
        to_outputs(weight, sources, gates), torch.einsum("boit,th,bih->boh", weight, gamma, sources)
    )
    torch.testing.assert_close(
        to_inputs(weight, targets, gates), torch.einsum("boit,th,boh->bih", weight, gamma, targets)
    )


def test_messages_by_hand() -> None:
    weight = torch.tensor([[[[1.0, 10.0], [2.0, 20.0]]]])
    gates = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    states = torch.tensor([[[3.0, 4.0], [5.0, 6.0]]])
    assert to_outputs(weight, states, gates).tolist() == [[[1 * 3 + 2 * 5, 10 * 4 + 20 * 6]]]
    assert to_inputs(weight, states[:, :1], gates).tolist() == [[[1 * 3, 10 * 4], [2 * 3, 20 * 4]]]
    assert to_outputs(weight, states).tolist() == [[[11 * 3 + 22 * 5, 11 * 4 + 22 * 6]]]


def test_the_two_directions_are_adjoint() -> None:
    weight, gates, x, y = randn(3, 4, 5, 2), randn(2, 6), randn(3, 5, 6), randn(3, 4, 6)
    torch.testing.assert_close((to_outputs(weight, x, gates) * y).sum(), (x * to_inputs(weight, y, gates)).sum())


@pytest.mark.parametrize("taps", [1, 3])
def test_groups_are_a_dense_layer_with_zeros(taps: int) -> None:
    weight, sources, targets, gates = randn(2, 6, 2, taps), randn(2, 4, 5), randn(2, 6, 5), randn(taps, 5)
    dense = torch.zeros(2, 6, 4, taps, dtype=torch.float64)
    dense[:, :3, :2], dense[:, 3:, 2:] = weight[:, :3], weight[:, 3:]
    torch.testing.assert_close(to_outputs(weight, sources, gates, 2), to_outputs(dense, sources, gates))
    torch.testing.assert_close(to_inputs(weight, targets, gates, 2), to_inputs(dense, targets, gates))
