import math

import pytest
import torch

from peace.encoders import raw
from peace.encoders.raw import Raw, folded
from peace.graph.weight_graph import Layer

LAYER = Layer("a", "conv", 0, 1, (2,), "a.weight", "a.bias")


def test_short_rows_have_zeros_behind() -> None:
    rows = torch.arange(6.0).view(2, 3)
    assert folded([rows], 5).tolist() == [[0, 1, 2, 0, 0], [3, 4, 5, 0, 0]]
    assert torch.equal(folded([rows[:, :2], rows[:, 2:]], 3), rows)


def test_of_long_rows_every_number_counts_once_with_a_sign() -> None:
    size, pieces = 7, 4
    each = folded([torch.eye(size * pieces - 2)], size)
    places = torch.arange(size * pieces - 2)
    signs = each[places, places % size]
    assert torch.equal(each, torch.zeros_like(each).index_put((places, places % size), signs))
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert torch.equal(folded([each.new_ones(1, len(places))], size)[0], each.sum(0)), "linear, signs by place alone"


@pytest.mark.parametrize("chunk", [1, 5, 7, 30])
def test_chunks_and_parts_make_no_difference(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    row = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = folded([row], 7)
    monkeypatch.setattr(raw, "_CHUNK", chunk)
    for parts in ([row], row.split([26, 14], dim=1)):
        torch.testing.assert_close(folded(parts, 7), whole, rtol=0, atol=1e-14)


def test_folding_keeps_inner_products_on_average() -> None:
    draw = torch.Generator().manual_seed(0)
    first = torch.randn(200, 4000, generator=draw)
    second = first + torch.randn(200, 4000, generator=draw)
    ratio = (folded([first], 500) * folded([second], 500)).sum(1) / (first * second).sum(1)
    assert ratio.mean().item() == pytest.approx(1, abs=0.02) and ratio.std() < 0.15


@torch.no_grad()
def test_a_token_by_hand() -> None:
    torch.manual_seed(0)
    encoder = Raw(hidden_dim=3, num_layers=1, max_weights=10).double()
    weight = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]], dtype=torch.float64)
    bias = torch.tensor([[5.0, 6.0]], dtype=torch.float64)
    row = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0, 0, 0, 0], dtype=torch.float64)
    norm = math.sqrt(1 + 4 + 25 + 9 + 16 + 36)
    expected = encoder.perceptron(row * math.sqrt(10) / norm)
    found = encoder.token(LAYER, weight, bias)[0]
    torch.testing.assert_close(found, torch.cat([expected, torch.tensor([math.log(norm)]).double()]))
    without = encoder.token(LAYER, weight, None)[0]
    assert without[-1].item() == pytest.approx(math.log(30) / 2)


@torch.no_grad()
@pytest.mark.parametrize("size", [1000, 10])
def test_it_knows_no_symmetry(size: int) -> None:
    assert Raw.symmetries == frozenset()
    torch.manual_seed(0)
    encoder, weight = Raw(max_weights=size), torch.randn(1, 6, 5, 2)
    token = encoder.token(LAYER, weight, None)
    for turned in (weight.flip(1), weight.flip(2)):
        assert (encoder.token(LAYER, turned, None) - token)[:, :-1].norm() > 0.1 * token[:, :-1].norm()
