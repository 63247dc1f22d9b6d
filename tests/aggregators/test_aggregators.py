import math

import pytest
import torch
from torch.nn import functional as F

from peace.aggregators import AGGREGATORS
from peace.aggregators.depth import DEPTH_DIM, depth_features
from peace.aggregators.mean import Mean
from peace.aggregators.mlp import MLP
from peace.errors import InputError

LAYERS = 5
ROOM = {"bottleneck": {"max_tokens": 300}}
"""What lets an aggregator take as many tokens as there are here."""


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(3, LAYERS, 7, generator=torch.Generator().manual_seed(0))


def built(name: str, **given: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return AGGREGATORS.build({"name": name, **ROOM.get(name, {}), **given}, input_dim=7).eval()


@pytest.mark.parametrize("layers", [1, 2, 9, 300])
@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_any_number_of_layers_gives_one_embedding(name: str, layers: int) -> None:
    found = built(name, embedding_dim=16)(torch.randn(4, layers, 7))
    assert found.shape == (4, 16) and found.isfinite().all()


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_a_model_does_not_see_its_neighbours(name: str, tokens: torch.Tensor) -> None:
    aggregator = built(name)
    torch.testing.assert_close(aggregator(tokens)[1:2], aggregator(tokens[1:2]))
    aggregator, long = aggregator.double(), torch.randn(3, 60, 7, dtype=torch.float64)
    alone = torch.cat([aggregator(model[None]) for model in long])
    assert ((aggregator(long) - alone).norm(dim=1) < 1e-10 * alone.norm(dim=1)).all()


@pytest.mark.parametrize(
    ("name", "given"),
    [*((name, {}) for name in AGGREGATORS.names()), ("transformer", {"readout": "mean"}), ("mlp", {"join": "concat"})],
)
def test_gradients_reach_every_parameter_and_every_token(name: str, given: dict, tokens: torch.Tensor) -> None:
    aggregator, tokens = built(name, **given), tokens.requires_grad_()
    aggregator(tokens).square().sum().backward()
    assert [key for key, p in aggregator.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert tokens.grad is not None and (tokens.grad != 0).all(dim=2).all()


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_every_layer_counts(name: str, tokens: torch.Tensor) -> None:
    aggregator = built(name)
    for layer in range(LAYERS):
        other = tokens.clone()
        # Not shifted: a LayerNorm would not see that.
        other[:, layer] = tokens[:, layer].flip(1)
        assert ((aggregator(other) - aggregator(tokens)).norm(dim=1) > 1e-3).all()


def test_the_mean_is_a_map_of_the_mean_token(tokens: torch.Tensor) -> None:
    mean = Mean(input_dim=7, embedding_dim=2)
    with torch.no_grad():
        mean.project.weight.copy_(torch.eye(7)[:2])
        mean.project.bias.copy_(torch.tensor([0.0, 10.0]))
    expected = [[sum(rows[k] for rows in model) / LAYERS + 10 * k for k in range(2)] for model in tokens.tolist()]
    torch.testing.assert_close(mean(tokens), torch.tensor(expected))


@pytest.mark.parametrize(
    ("name", "given", "sensitive"),
    [
        ("mean", {}, False),
        ("sum", {}, False),
        ("mlp", {"join": "sum"}, True),
        ("mlp", {"join": "concat"}, True),
        ("transformer", {}, True),
        ("transformer", {"readout": "mean"}, True),
        ("attention", {}, True),
        ("set_transformer", {}, True),
    ],
)
def test_who_sees_the_order_of_layers(name: str, given: dict, sensitive: bool, tokens: torch.Tensor) -> None:
    aggregator = built(name, **given)
    change = (aggregator(tokens.flip(1)) - aggregator(tokens)).norm(dim=1) / aggregator(tokens).norm(dim=1)
    assert (change > 1e-3).all() if sensitive else (change < 1e-6).all()


def test_the_sum_is_a_map_of_the_sum_of_tokens(tokens: torch.Tensor) -> None:
    aggregator = built("sum", embedding_dim=2)
    total = torch.stack([sum(model) for model in tokens])
    torch.testing.assert_close(aggregator(tokens), total @ aggregator.project.weight.T + aggregator.project.bias)


@torch.no_grad()
def test_attention_pooling_by_hand(tokens: torch.Tensor) -> None:
    aggregator = built("attention", embedding_dim=4, hidden_dim=6)
    gate, value, depth = aggregator.pool.gate_nn, aggregator.pool.nn, depth_features(LAYERS, tokens)
    for model, found in zip(tokens, aggregator(tokens), strict=True):
        rows = [torch.cat([F.layer_norm(token, (7,)), depth[place]]) for place, token in enumerate(model)]
        scores = [gate(row).exp() for row in rows]
        pooled = sum(score / sum(scores) * value(row) for score, row in zip(scores, rows, strict=True))
        torch.testing.assert_close(found, aggregator.project(pooled))
    # One layer has all of the attention.
    (row,) = torch.cat([F.layer_norm(tokens[0, :1], (7,)), depth_features(1, tokens)], dim=1)
    torch.testing.assert_close(aggregator(tokens[:1, :1])[0], aggregator.project(value(row)))


@torch.no_grad()
def test_the_set_transformer_by_its_equations(tokens: torch.Tensor) -> None:
    made = built("set_transformer", embedding_dim=6, num_heads=2, num_seeds=3)

    def block(x: torch.Tensor, y: torch.Tensor, mab: torch.nn.Module) -> torch.Tensor:
        weights, biases = mab.attn.in_proj_weight.split(6), mab.attn.in_proj_bias.split(6)
        q, k, v = (rows @ w.T + b for rows, w, b in zip((x, y, y), weights, biases, strict=True))
        heads = [(q[:, at] @ k[:, at].T / math.sqrt(3)).softmax(1) @ v[:, at] for at in (slice(0, 3), slice(3, 6))]
        h = mab.layer_norm1(x + mab.attn.out_proj(torch.cat(heads, dim=1)))
        return mab.layer_norm2(h + F.relu(mab.lin(h)))

    for model, found in zip(tokens, made(tokens), strict=True):
        x = made.project(model) + made.depth(depth_features(LAYERS, tokens))
        x = block(x, x, made.pool.encoders[0].mab)
        seeds = block(made.pool.pma.seed[0], F.relu(made.pool.pma.lin(x)), made.pool.pma.mab)
        torch.testing.assert_close(found, block(seeds, seeds, made.pool.decoders[0].mab).mean(0))


@torch.no_grad()
def test_the_transformer_is_read_at_cls_or_as_the_mean_of_layers(tokens: torch.Tensor) -> None:
    for readout in ("cls", "mean"):
        made = built("transformer", readout=readout, embedding_dim=8)
        for block in made.blocks.layers:
            for last in (block.self_attn.out_proj, block.linear2):
                last.weight.zero_()
                last.bias.zero_()
        # Blocks that add nothing leave the final normalisation.
        placed = made.project(tokens) + made.depth(depth_features(LAYERS, tokens))
        expected = (
            F.layer_norm(placed, (8,)).mean(1) if readout == "mean" else F.layer_norm(made.cls, (8,)).expand(3, 8)
        )
        torch.testing.assert_close(made(tokens), expected)


@pytest.mark.parametrize("name", ["transformer", "set_transformer"])
def test_heads_divide_the_embedding(name: str) -> None:
    with pytest.raises(InputError, match="does not divide into heads: got embedding_dim 6, num_heads 4"):
        built(name, embedding_dim=6)


def test_sum_and_concat_by_hand(tokens: torch.Tensor) -> None:
    for join in ("sum", "concat"):
        torch.manual_seed(0)
        mlp = MLP(7, embedding_dim=4, hidden_dim=6, join=join, max_layers=8)
        depth = depth_features(LAYERS, tokens)
        linear, (first, _, last) = mlp.project[0], mlp.perceptron
        for model, found in zip(tokens, mlp(tokens), strict=True):
            parts = [F.gelu(linear(torch.cat([token, depth[place]]))) for place, token in enumerate(model)]
            empty = [torch.zeros(6)] * 3
            joined = sum(parts) if join == "sum" else torch.cat([*reversed(parts), *empty])
            torch.testing.assert_close(found, last(F.gelu(first(joined))))


def test_concat_has_a_slot_for_so_many_layers_and_no_more(tokens: torch.Tensor) -> None:
    assert built("mlp", join="concat", max_layers=LAYERS)(tokens).shape == (3, 128)
    with pytest.raises(InputError, match="too many layers for the aggregator: got 5, expected at most 4; raise"):
        built("mlp", join="concat", max_layers=LAYERS - 1)(tokens)
    assert built("mlp", join="sum", max_layers=1)(tokens).shape == (3, 128)


def test_depth_is_counted_from_both_ends() -> None:
    found = depth_features(4, torch.zeros(0, dtype=torch.float64))
    assert found.shape == (4, DEPTH_DIM)
    for layer in range(4):
        rates = [100 ** (-k / 7) for k in range(8)]
        angles = [distance * rate for distance in (layer, 3 - layer) for rate in rates]
        expected = [*map(math.sin, angles), *map(math.cos, angles)]
        assert found[layer].tolist() == pytest.approx(expected, abs=1e-12)
    # The first layer's distance from the input, and the last one's from the output, are the same at any depth.
    other = depth_features(9, torch.zeros(0, dtype=torch.float64))
    ahead, back = [*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]
    assert torch.equal(found[:4, ahead], other[:4, ahead]) and torch.equal(found[:, back], other[5:, back])
