"""Features of output nodes by hand, layers of unusual shapes, and one module or one per kind."""

import math
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from peace.encoders import ENCODERS
from peace.encoders import output_gnn as subject
from peace.encoders.output_gnn import OutputGNN
from peace.errors import InputError
from peace.graph.weight_graph import Layer

LINEAR = Layer("fc", "linear", 1, 0, (), "fc.weight", "fc.bias")
CONV = Layer("conv", "conv", 1, 0, (2, 2), "conv.weight", None)
OPTIONS = [
    {},
    {"mixing": "deepsets"},
    {"feature_expansion": 2},
    {"kinds": "each", "mixing": "deepsets", "feature_expansion": 3},
]
DRAW = torch.Generator().manual_seed(0)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


def made(**options: object) -> OutputGNN:
    torch.manual_seed(0)
    return OutputGNN(**{"hidden_dim": 8, "num_layers": 2, **options}).double()


def test_statistics_of_a_row_by_hand() -> None:
    weight = torch.tensor([[[[1.0], [-3.0]], [[0.0], [0.0]]]])
    bias, size = torch.tensor([[4.0, 0.0]]), torch.tensor([2.0])
    found = subject._statistics(weight, bias, size)[0]
    first = [4 / math.sqrt(2), -1.0, 2.0, math.sqrt(5), 41**0.25, 1.0, -3.0]
    torch.testing.assert_close(found[0], torch.tensor([math.asinh(value / 2) for value in first]))
    assert found[1].tolist() == [0] * 7


def test_kernels_are_seen_by_the_places_of_their_taps() -> None:
    encoder = made(mixing="deepsets")
    weight = randn(1, 3, 2, 4)
    with torch.no_grad():
        turned = encoder.token(CONV, weight[..., [2, 3, 0, 1]], None)
        row = encoder.token(replace(CONV, taps=(4,)), weight, None)
        found = encoder.token(CONV, weight, None)
    assert (found - turned).norm() > 1e-3 * found.norm(), "the same numbers, upside down"
    assert (found - row).norm() > 1e-3 * found.norm(), "the same numbers in a row"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_has_one_token_for_any_order_of_its_nodes(options: dict[str, object], groups: int) -> None:
    encoder, layer = made(**options), replace(CONV, groups=groups)
    weight, bias = randn(2, 6, 3, 4), randn(2, 6)
    inner = torch.randperm(6 // groups, generator=DRAW)
    order = torch.cat([inner + 6 // groups * g for g in torch.randperm(groups, generator=DRAW).tolist()])
    inputs = torch.tensor([2, 0, 1])
    with torch.no_grad():
        found = encoder.token(layer, weight, bias)
        torch.testing.assert_close(encoder.token(layer, weight[:, order][:, :, inputs], bias[:, order]), found)
        assert (encoder.token(layer, weight[:, order], bias) - found).norm() > 1e-3 * found.norm()
        # Twice the weights and biases are the same network up to its scale, which is the last number.
        twice = encoder.token(layer, 2 * weight, 2 * bias)
    torch.testing.assert_close(twice[:, :-1], found[:, :-1])
    torch.testing.assert_close(twice[:, -1], found[:, -1] + math.log(2))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", [(1, 5, 1), (5, 1, 1), (1, 1, 1), (3, 2, 9), (4, 0 + 1, 4)])
def test_small_layers_have_finite_tokens_and_gradients(options: dict[str, object], shape: tuple[int, ...]) -> None:
    encoder = made(**options)
    layer = replace(CONV, taps=(shape[2],)) if shape[2] > 1 else LINEAR
    for weight in (randn(2, *shape), torch.zeros(2, *shape, dtype=torch.float64)):
        found = encoder.token(layer, weight.requires_grad_(), None)
        found.square().sum().backward()
        assert found.isfinite().all() and weight.grad.isfinite().all()


@torch.no_grad()
def test_attention_is_that_of_torch_up_to_the_cap_and_uniform_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention, nodes = subject._Attention(8).double(), randn(2, 6, 8)
    normed = attention.project[0](nodes)
    weights, biases = attention.project[1].weight, attention.project[1].bias
    plain = F.multi_head_attention_forward(
        normed.mT.permute(2, 0, 1), normed.mT.permute(2, 0, 1), normed.mT.permute(2, 0, 1), 8, 4, weights, biases,
        None, None, False, 0.0, attention.out.weight, attention.out.bias, training=False, need_weights=False,
    )[0]  # fmt: skip
    heard = nodes + plain.permute(1, 0, 2)
    torch.testing.assert_close(attention(nodes), heard + attention.update(heard))
    monkeypatch.setattr(subject, "_MOST_ATTENDING", 5)
    values = (normed @ weights[16:].T + biases[16:]).mean(1, keepdim=True)
    heard = nodes + attention.out(values)
    torch.testing.assert_close(attention(nodes), heard + attention.update(heard))


@torch.no_grad()
def test_a_table_of_fifty_thousand_rows_is_read() -> None:
    encoder = OutputGNN(hidden_dim=8, feature_expansion=2)
    rows = torch.randn(1, 50_000, 4, 1, generator=DRAW)
    found = encoder.token(LINEAR, rows, None)
    torch.testing.assert_close(encoder.token(LINEAR, rows.flip(1), None), found, rtol=1e-4, atol=1e-5)


def test_each_kind_has_a_module_of_its_own() -> None:
    kinds = get_args(get_type_hints(Layer)["kind"])
    shared, each = made(), made(kinds="each")
    weight = randn(1, 4, 3, 1)
    tokens = {kind: each.token(replace(LINEAR, kind=kind), weight, None).detach() for kind in kinds}
    assert all((tokens[a] - tokens[b]).norm() > 1e-2 for a in kinds for b in kinds if a < b)
    assert len({tuple(shared.token(replace(LINEAR, kind=kind), weight, None)[0].tolist()) for kind in kinds}) == 1
    parameters = [sum(p.numel() for p in encoder.parameters()) for encoder in (shared, each)]
    assert parameters[1] == len(kinds) * parameters[0]


@pytest.mark.parametrize("node", [{"hidden_dim": 6}, {"mixing": "mean"}, {"feature_expansion": 7}, {"kinds": "all"}])
def test_options_that_do_not_exist_are_refused(node: dict[str, object]) -> None:
    with pytest.raises(InputError, match="wrong type in encoder 'output_gnn'"):
        ENCODERS.build({"name": "output_gnn", **node})
