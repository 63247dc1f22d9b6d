"""Hops and structural components, against singular vectors, powers of S, and where singular values are equal."""

import pytest
import torch

from peace.encoders.feature_expansion import FeatureExpansion, spectral_features

DRAW = torch.Generator().manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


def made(features: int, expansion: int) -> FeatureExpansion:
    torch.manual_seed(0)
    return FeatureExpansion(features, 5, expansion).double()


@pytest.mark.parametrize(("n", "m"), [(4, 7), (7, 4), (1, 6), (6, 1), (5, 5)])
@pytest.mark.parametrize("powers", [1, 2, 3, 6])
def test_components_are_squared_singular_vectors_weighed_by_singular_values(n: int, m: int, powers: int) -> None:
    rows = randn(2, 1, n, m)
    u, s, _ = torch.linalg.svd(rows, full_matrices=False)
    expected = torch.stack([(u.square() * s[:, :, None] ** (2 * p)).sum(3) for p in range(1, powers + 1)], dim=3)
    expected = (1 + expected / expected.mean(2, keepdim=True)).log()
    torch.testing.assert_close(spectral_features(rows, powers), expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_hops_are_powers_of_the_similarity_of_rows(groups: int) -> None:
    weight, features, expansion = randn(2, 6, 3, 2), randn(2, 6, 4), made(4, 2)
    dense = torch.zeros(2, 6, groups * 6, dtype=torch.float64)
    for group in range(groups):
        own = slice(group * 6 // groups, (group + 1) * 6 // groups)
        dense[:, own, group * 6 : (group + 1) * 6] = weight.flatten(2)[:, own]
    scale = dense.square().sum(2).mean(1)
    similarity = dense @ dense.mT / scale[:, None, None]
    found, hop = expansion.own(features), features
    for linear in expansion.hops:
        hop = similarity @ hop
        square = hop.square().mean(1, keepdim=True)
        hop = hop / (square + 1e-4 * square.mean(2, keepdim=True)).sqrt()
        found = found + linear(hop)
    power = torch.stack([similarity, similarity @ similarity]).diagonal(dim1=2, dim2=3)
    found = found + expansion.structure((1 + power / power.mean(2, keepdim=True)).log().movedim(0, 2))
    torch.testing.assert_close(expansion(features, weight, groups), found)


def test_without_expansion_features_are_mapped_and_no_more() -> None:
    weight, features, expansion = randn(2, 6, 3, 2), randn(2, 6, 4), made(4, 0)
    torch.testing.assert_close(expansion(features, weight), features @ expansion.own.weight.T + expansion.own.bias)
    assert [name for name, _ in expansion.named_parameters()] == ["own.weight", "own.bias"]


def test_outputs_are_followed_and_inputs_may_be_in_any_order() -> None:
    weight, features, expansion = randn(2, 6, 3, 2), randn(2, 6, 4), made(4, 3)
    outputs, inputs = torch.randperm(6, generator=DRAW), torch.tensor([2, 0, 1])
    found = expansion(features[:, outputs], weight[:, outputs][:, :, inputs])
    torch.testing.assert_close(found, expansion(features, weight)[:, outputs])


@pytest.mark.parametrize("kind", ["orthogonal", "equal rows", "zero", "one erased"])
def test_equal_singular_values_have_finite_gradients(kind: str) -> None:
    """Here singular vectors have no basis of their own, and their derivatives divide by zero."""
    weight = {
        "orthogonal": torch.linalg.qr(randn(5, 5))[0].view(1, 5, 5, 1),
        "equal rows": randn(1, 1, 5, 1).repeat(1, 5, 1, 1),
        "zero": torch.zeros(1, 5, 5, 1, dtype=torch.float64),
        "one erased": randn(1, 5, 5, 1) * torch.tensor([1.0, 1, 0, 1, 1])[None, :, None, None],
    }[kind].requires_grad_()
    features = randn(1, 5, 4).requires_grad_()
    found = made(4, 3)(features, weight)
    found.square().sum().backward()
    assert found.isfinite().all() and weight.grad.isfinite().all() and features.grad.isfinite().all()
    if kind in ("orthogonal", "equal rows"):
        rows = weight.detach().flatten(2).unsqueeze(1)
        torch.testing.assert_close(spectral_features(rows, 3), torch.full((1, 1, 5, 3), 2.0).log().double())


def test_a_wide_layer_stays_in_single_precision() -> None:
    rows = torch.full((1, 1, 250_000, 2), 0.5**0.5)
    torch.testing.assert_close(spectral_features(rows, 6), torch.full((1, 1, 250_000, 6), 2.0).log())
