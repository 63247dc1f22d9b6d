import pytest
import torch
from torch import nn

from peace.encoders.blocks import Blocks, dropped
from peace.encoders.neuron_transformer import NeuronTransformer
from peace.errors import InputError


@pytest.mark.parametrize("length", [5, 32, 33])
def test_blocks_are_torchs_where_nothing_is_dropped(length: int) -> None:
    torch.manual_seed(0)
    own = Blocks(8, 2, 2, 16, 0.1).eval().double()
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="relu")
    other = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval().double()
    for mine, theirs in zip(own.blocks, other.layers, strict=True):
        pairs = [(mine.attention_norm, theirs.norm1), (mine.norm, theirs.norm2), (mine.join, theirs.self_attn.out_proj),
                 (mine.perceptron[0], theirs.linear1), (mine.perceptron[2], theirs.linear2)]  # fmt: skip
        for a, b in pairs:
            b.load_state_dict(a.state_dict())
        theirs.self_attn.in_proj_weight.data.copy_(mine.project.weight)
        theirs.self_attn.in_proj_bias.data.copy_(mine.project.bias)
    tokens = torch.randn(3, length, 8, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(own(tokens), other(tokens), rtol=1e-10, atol=1e-12)
    for kept in (1, 4):
        found, expected = own(tokens, kept), other(tokens)[:, :kept]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        weight = torch.randn_like(expected)
        slopes = (torch.autograd.grad((made * weight).sum(), tokens)[0] for made in (found, expected))
        torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("length", [5, 40])
def test_in_bfloat16_blocks_are_near_those_in_float32(length: int) -> None:
    torch.manual_seed(0)
    blocks, tokens = Blocks(8, 2, 2, 16, 0.1).eval(), torch.randn(3, length, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = blocks(tokens, 1)
    assert (found - blocks(tokens, 1)).abs().max() < 0.1


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.93])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    found = dropped(torch.full((100, 2001), 3.0), rate)
    assert found.unique().tolist() == pytest.approx([0.0, 3 / (1 - rate)], rel=1e-6)
    assert (found == 0).double().mean().item() == pytest.approx(rate, abs=0.005)
    assert dropped(found, 0.0) is found


def test_heads_divide_a_token() -> None:
    with pytest.raises(InputError, match="a token does not divide into heads"):
        NeuronTransformer(hidden_dim=10, num_heads=3)
