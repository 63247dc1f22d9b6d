"""Weight graphs of derived groups: which layers and axes, where their numbers stand, and that no number is lost."""

from typing import Any

import pytest
import torch
from symmetry_cases import Written
from symmetry_coverage import SMALL, floating
from torch import Tensor, nn

from peace.encoders.dense_messages import to_outputs
from peace.encoders.network_gnn import NetworkGNN
from peace.errors import InputError
from peace.graph.assembly import from_group
from peace.graph.build import from_module
from peace.graph.derive import derive
from peace.graph.group import SymmetryGroup
from peace.graph.reading import Reading
from peace.graph.stack import Stack
from peace.graph.weight_graph import WeightGraph


def derived(module: nn.Module, *shapes: tuple[int, ...]) -> tuple[SymmetryGroup, WeightGraph]:
    group = derive(module.eval(), *(torch.zeros(2, *shape) for shape in shapes))
    return group, from_group(group)


def rows(graph: WeightGraph) -> list[tuple]:
    """Each layer as tensor, kind, sizes of the axes it reads and writes, taps, groups and bias."""
    size = [axis.size for axis in graph.axes]
    return [
        (layer.weight, layer.kind, size[layer.in_axis], size[layer.out_axis], layer.taps, layer.groups, layer.bias)
        for layer in graph.layers
    ]


def read(group: SymmetryGroup, graph: WeightGraph, tensors: dict[str, Tensor]) -> Stack:
    """The tensors as they are."""
    return Reading(canonical=False).of_models(group, graph, [tensors], torch.float64)


def residual() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.norm(m.stem(x)).relu()
        return m.head((h + m.inner_norm(m.inner(h))).relu().mean((2, 3)))

    return Written(
        forward,
        head=nn.Linear(8, 5),
        stem=nn.Conv2d(3, 8, 3, bias=False),
        norm=nn.BatchNorm2d(8),
        inner=nn.Conv2d(8, 8, 3, padding=1),
        inner_norm=nn.BatchNorm2d(8),
    )


def test_a_residual_block_shares_one_axis() -> None:
    _, graph = derived(residual(), (3, 6, 6))
    assert rows(graph) == [
        ("stem.weight", "conv", 3, 8, (3, 3), 1, None),
        ("norm.running_var", "norm", 1, 8, (), 1, "norm.running_mean"),
        ("norm.weight", "norm", 1, 8, (), 1, "norm.bias"),
        ("inner.weight", "conv", 8, 8, (3, 3), 1, "inner.bias"),
        ("inner_norm.running_var", "norm", 1, 8, (), 1, "inner_norm.running_mean"),
        ("inner_norm.weight", "norm", 1, 8, (), 1, "inner_norm.bias"),
        ("head.weight", "linear", 8, 5, (), 1, "head.bias"),
    ], "in the order of the forward pass, not of the state dict"
    image, stream, one, scores = (graph.layers[k] for k in (0, 3, 1, 6))
    assert stream.in_axis == stream.out_axis == image.out_axis == one.out_axis == scores.in_axis
    roles = [(axis.role, axis.size, axis.permutable, axis.scaling) for axis in graph.axes]
    assert roles == [("input", 3, False, "none"), ("hidden", 8, True, "none"), ("input", 1, False, "none"),
                     ("output", 5, False, "none")]  # fmt: skip


def test_a_normalisation_is_its_statistics_then_its_weight_and_bias() -> None:
    group, graph = derived(residual(), (3, 6, 6))
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in group.shapes.items()}
    stack = read(group, graph, tensors)
    for place, weight, bias in ((1, "running_var", "running_mean"), (2, "weight", "bias")):
        assert torch.equal(stack.weights[place], tensors[f"norm.{weight}"][None, :, None, None])
        assert torch.equal(stack.biases[place], tensors[f"norm.{bias}"][None])


def linear_network() -> nn.Module:
    """No bias, no activation, one pixel: what its layers send each other is what it computes."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.depthwise(m.first(x))
        shuffled = h.view(-1, 2, 3, 1, 1).transpose(1, 2).reshape(-1, 6, 1, 1)
        wide = m.multiplied(m.grouped(h))
        h = torch.cat([m.mixed(shuffled), m.transposed(wide), h], 1)
        a, b = m.both(h).chunk(2, 1)
        return m.head(b + m.inner(a)).flatten(1)

    def convolution(before: int, after: int, groups: int = 1) -> nn.Conv2d:
        return nn.Conv2d(before, after, 1, groups=groups, bias=False)

    return Written(
        forward,
        first=convolution(3, 6),
        depthwise=convolution(6, 6, 6),
        mixed=convolution(6, 6, 2),
        grouped=convolution(6, 4, 2),
        multiplied=convolution(4, 8, 4),
        transposed=nn.ConvTranspose2d(8, 6, 1, groups=2, bias=False),
        both=convolution(18, 10),
        inner=convolution(5, 5),
        head=convolution(5, 2),
    )


def test_layers_wired_by_their_axes_compute_the_network() -> None:
    torch.manual_seed(0)
    module = linear_network().double()
    group, graph = derived(module, (3, 1, 1))
    stack = read(group, graph, floating(module))
    x = torch.randn(4, 3, dtype=torch.float64)
    states = [x.new_zeros(1, axis.size, 4) for axis in graph.axes]
    states[graph.layers[0].in_axis] = x.T[None]
    for place, layer in enumerate(graph.layers):
        sent = to_outputs(stack.weights[place], states[layer.in_axis], None, layer.groups)
        # Through a depthwise layer nodes keep their names, so that it replaces where others add.
        replaced = layer.weight == "depthwise.weight"
        states[layer.out_axis] = sent if replaced else states[layer.out_axis] + sent
    expected = module(x[:, :, None, None])
    torch.testing.assert_close(states[graph.layers[-1].out_axis][0].T, expected, rtol=1e-12, atol=1e-12)
    groups = {layer.weight.partition(".")[0]: layer.groups for layer in graph.layers}
    assert groups["depthwise"] == 6
    assert groups["grouped"] == 2
    assert groups["multiplied"] == 4
    assert groups["transposed"] == 2
    assert groups["mixed"] == 1, "its groups read channels that do not lie together"
    mixed = next(k for k, layer in enumerate(graph.layers) if layer.weight == "mixed.weight")
    assert (stack.weights[mixed] != 0).sum() == module.mixed.weight.numel()
    assert [layer.weight for layer in graph.layers].count("both.weight") == 6, "two halves read three axes"


def codes(group: SymmetryGroup) -> tuple[dict[str, Tensor], int]:
    """Tensors all of whose numbers differ: 1, 2, 3, ..."""
    tensors, count = {}, 0
    for name, known in group.names.items():
        if name == known:
            size = torch.Size(group.shapes[known]).numel()
            tensors[name] = torch.arange(count + 1, count + size + 1, dtype=torch.float64).reshape(group.shapes[known])
            count += size
    return {name: tensors[known] for name, known in group.names.items()}, count


@pytest.mark.parametrize("name", SMALL)
def test_every_number_of_a_state_dict_stands_in_the_graph_once(name: str) -> None:
    network = SMALL[name]
    group = derive(network.build(), network.example(torch.Generator().manual_seed(0)))
    tensors, count = codes(group)
    stack = read(group, from_group(group), tensors)
    numbers = torch.cat([part.flatten() for part in (*stack.weights, *stack.biases) if part is not None])
    times = torch.bincount(numbers.long(), minlength=count + 1)
    expected = torch.ones(count, dtype=torch.int64)
    if name == "decoder":
        # The token embedding is also the head.
        expected[tensors["token.weight"].long().flatten() - 1] = 2
    assert times[0] == 0
    assert torch.equal(times[1:], expected)


def test_attention_has_queries_and_keys_on_one_axis_and_values_on_another() -> None:
    _, graph = derived(SMALL["encoder_norm_first"].build(), (10, 24))
    block = [layer for layer in graph.layers if layer.weight.startswith("encoder.layers.0.")]
    query, key, value = (layer for layer in block if layer.weight.endswith("in_proj_weight"))
    out = next(layer for layer in block if layer.weight.endswith("out_proj.weight"))
    assert query.out_axis == key.out_axis != value.out_axis == out.in_axis
    stream = graph.layers[0].out_axis
    assert query.in_axis == key.in_axis == value.in_axis == out.out_axis == stream
    assert {layer.out_axis for layer in graph.layers if layer.kind == "norm"} == {stream}
    table = next(layer for layer in graph.layers if layer.weight == "position")
    assert (table.kind, graph.axes[table.in_axis].role, graph.axes[table.in_axis].size) == ("table", "input", 10)
    assert table.out_axis == stream
    assert graph.axes[query.out_axis].size == 64, "all heads together"


def test_an_embedding_that_is_also_the_head_reads_words_and_writes_words() -> None:
    network = SMALL["decoder"]
    graph = from_group(derive(network.build(), network.example(torch.Generator().manual_seed(0))))
    first, last = graph.layers[0], graph.layers[-1]
    assert (first.weight, first.kind, last.weight, last.kind) == ("token.weight", "embedding", "token.weight", "linear")
    assert first.out_axis == last.in_axis
    assert [(graph.axes[axis].role, graph.axes[axis].size) for axis in (first.in_axis, last.out_axis)] == [
        ("input", 97), ("output", 97)
    ]  # fmt: skip


def test_gates_of_a_recurrent_layer_are_layers_on_one_axis() -> None:
    network = SMALL["lstm"]
    module = network.build()
    group = derive(module, network.example(torch.Generator().manual_seed(0)))
    graph = from_group(group)
    stack = read(group, graph, module.state_dict())
    for name, bias in (("cell.weight_ih_l1", "cell.bias_ih_l1"), ("cell.weight_hh_l1", "cell.bias_hh_l1")):
        places = [place for place, layer in enumerate(graph.layers) if layer.weight == name]
        assert len({graph.layers[place].out_axis for place in places}) == 1
        for place, weight, vector in zip(
            places, module.state_dict()[name].chunk(4), module.state_dict()[bias].chunk(4), strict=True
        ):
            assert torch.equal(stack.weights[place][0, :, :, 0], weight.double())
            assert torch.equal(stack.biases[place][0], vector.double())


def test_a_concatenation_is_read_from_each_axis_and_its_bias_added_once() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)
            self.norm, self.third = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 3)
            self.head = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            a = self.first(x).relu()
            b = torch.cat([a, self.second(a).relu()], 1)
            return self.head(self.third(self.norm(b)).relu().mean((2, 3)))

    group, graph = derived(Dense(), (3, 5, 5))
    assert rows(graph)[2:] == [
        ("norm.running_var", "norm", 1, 4, (), 1, "norm.running_mean"),
        ("norm.running_var", "norm", 1, 6, (), 1, "norm.running_mean"),
        ("norm.weight", "norm", 1, 4, (), 1, "norm.bias"),
        ("norm.weight", "norm", 1, 6, (), 1, "norm.bias"),
        ("third.weight", "conv", 4, 5, (3, 3), 1, "third.bias"),
        ("third.weight", "conv", 6, 5, (3, 3), 1, None),
        ("head.weight", "linear", 5, 2, (), 1, "head.bias"),
    ]
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in group.shapes.items()}
    stack = read(group, graph, tensors)
    assert torch.equal(stack.weights[7][0], tensors["third.weight"][:, 4:].flatten(2))
    assert torch.equal(stack.biases[5][0], tensors["norm.bias"][4:])


def test_a_skip_of_a_u_net_joins_its_two_ends() -> None:
    _, graph = derived(SMALL["unet"].build(), (3, 32, 32))
    down = next(layer for layer in graph.layers if layer.weight == "down.1.3.weight")
    up = next(layer for layer in graph.layers if layer.weight == "up.0.weight")
    merge = [layer for layer in graph.layers if layer.weight == "merge.0.0.weight"]
    assert [layer.in_axis for layer in merge] == [down.out_axis, up.out_axis]
    bottom = next(layer for layer in graph.layers if layer.weight == "bottom.3.weight")
    assert (up.in_axis, up.taps) == (bottom.out_axis, (2, 2))


def test_positions_after_a_flatten_are_taps() -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 5), nn.Tanh(), nn.Linear(5, 1))
    group, graph = derived(module, (1, 4, 4))
    assert rows(graph) == [
        ("0.weight", "conv", 1, 4, (2, 2), 1, "0.bias"),
        ("3.weight", "linear", 4, 5, (9,), 1, "3.bias"),
        ("5.weight", "linear", 5, 1, (), 1, "5.bias"),
    ]
    assert [axis.role for axis in graph.axes] == ["input", "hidden", "hidden", "output"]
    stack = read(group, graph, module.state_dict())
    assert torch.equal(stack.weights[1][0], module[3].weight.double().view(5, 4, 9))
    expected = Stack.of(from_module(module, (1, 4, 4)), {k: v[None].double() for k, v in module.state_dict().items()})
    for one, other in zip((*stack.weights, *stack.biases), (*expected.weights, *expected.biases), strict=True):
        assert torch.equal(one, other)


def test_a_chain_has_the_graph_and_the_embedding_that_it_had() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 7), nn.GELU(), nn.Linear(7, 3))
    group, graph = derived(module, (6,))
    stack = Reading().of_models(group, graph, [module.state_dict()])
    chain = from_module(module, (6,))
    expected = Reading()(Stack.of(chain, {name: tensor[None] for name, tensor in module.state_dict().items()}))
    assert [(axis.shape, axis.role, axis.permutable) for axis in graph.axes] == [
        (axis.shape, axis.role, axis.permutable) for axis in chain.axes
    ]
    assert [(layer.in_axis, layer.out_axis) for layer in graph.layers] == [(0, 1), (1, 2), (2, 3)]
    encoder = NetworkGNN(hidden_dim=8)
    assert torch.equal(encoder(stack), encoder(expected))


def test_vectors_and_numbers_are_read_from_one_node() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.cat([m.token.expand(len(x), 1, 6), m.embed(x)], 1) * m.scale
        return m.head(torch.nn.functional.gelu(h) * m.factor).mean(1)

    module = Written(
        forward,
        token=nn.Parameter(torch.randn(1, 1, 6)),
        scale=nn.Parameter(torch.randn(6)),
        factor=nn.Parameter(torch.randn(())),
        embed=nn.Linear(4, 6),
        head=nn.Linear(6, 2),
    )
    group, graph = derived(module, (5, 4))
    vectors = [row for row in rows(graph) if row[1] == "vector"]
    assert vectors == [
        ("token", "vector", 1, 6, (), 1, None),
        ("scale", "vector", 1, 6, (), 1, None),
        ("factor", "vector", 1, 1, (), 1, None),
    ]
    assert {graph.axes[layer.in_axis].name for layer in graph.layers if layer.kind == "vector"} == {"one input"}
    stack = read(group, graph, module.state_dict())
    place = next(place for place, layer in enumerate(graph.layers) if layer.weight == "token")
    assert torch.equal(stack.weights[place].flatten(), module.token.double().flatten())


def test_three_dimensions_of_hidden_nodes_leave_no_taps() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.last((m.first(x)[:, None, :, None] * m.weight).tanh().mean(2)).mean(1)

    module = Written(forward, first=nn.Linear(3, 4), weight=nn.Parameter(torch.randn(2, 4, 5)), last=nn.Linear(5, 3))
    group, graph = derived(module, (3,))
    assert rows(graph)[1] == ("weight", "table", 5, 8, (), 1, None)
    assert group.permutable_channels == 2 + 4 + 5
    place = torch.equal(
        read(group, graph, module.state_dict()).weights[1][0, ..., 0], module.weight.view(8, 5).double()
    )
    assert place, "an axis of its own for every two of the others"


def test_numbers_in_order_are_not_copied() -> None:
    module = SMALL["unet"].build()
    _, graph = derived(module, (3, 32, 32))
    tensors = {name: tensor[None] for name, tensor in floating(module).items()}
    stack = Stack.of(graph, tensors)
    for layer, weight in zip(graph.layers, stack.weights, strict=True):
        if layer.kind == "conv":
            own = tensors[layer.weight]
            assert weight.untyped_storage().data_ptr() == own.untyped_storage().data_ptr(), layer.weight


def test_tensors_that_do_not_fit_are_refused() -> None:
    module = residual()
    group, graph = derived(module, (3, 6, 6))
    tensors = {name: tensor[None] for name, tensor in floating(module).items()}
    with pytest.raises(InputError, match="do not fit the architecture"):
        Stack.of(graph, {name: tensor for name, tensor in tensors.items() if name != "norm.running_var"})
    with pytest.raises(InputError, match=r"norm\.running_var"):
        Stack.of(graph, {**tensors, "norm.running_var": torch.zeros(1, 7)})
    with pytest.raises(InputError, match=r"head\.weight"):
        Reading().of_models(group, graph, [{**module.state_dict(), "head.weight": torch.zeros(5, 9)}])
    with pytest.raises(InputError, match="not whole tensors"):
        Stack.of(graph, tensors).tensors(like=tensors)
