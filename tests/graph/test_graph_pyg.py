import pytest
import torch
from graph_networks import cnn, mlp, network
from torch import nn
from torch_geometric.data import Batch, Data

from peace.graph.pyg import GraphReading, to_pyg, to_pyg_batch
from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis, Layer, WeightGraph


def small() -> Stack:
    """A 2-3-2 network whose weights and biases are all different; model 0 is model 1 times a hundred."""
    graph = network(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), 2).stack.graph
    one = {
        "0.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "0.bias": torch.tensor([7.0, 8.0, 9.0]),
        "2.weight": torch.tensor([[10.0, 11.0, 12.0], [13.0, 14.0, 15.0]]),
        "2.bias": torch.tensor([16.0, 17.0]),
    }
    return Stack.of(graph, {name: torch.stack([tensor * 100, tensor]) for name, tensor in one.items()})


def edges(data: Data) -> dict[tuple[int, int, int], float]:
    """(reading node, written node, tap) -> weight."""
    keys = zip(*data.edge_index.tolist(), data.edge_tap.tolist(), strict=True)
    found = dict(zip(keys, data.edge_attr[:, 0].tolist(), strict=True))
    assert len(found) == data.num_edges
    return found


def test_the_network_reading_shares_hidden_nodes() -> None:
    data = to_pyg(small(), model=1)
    # Nodes 0 and 1 are inputs, 2 to 4 hidden, 5 and 6 outputs.
    assert edges(data) == {
        (0, 2, 0): 1, (1, 2, 0): 2, (0, 3, 0): 3, (1, 3, 0): 4, (0, 4, 0): 5, (1, 4, 0): 6,
        (2, 5, 0): 10, (3, 5, 0): 11, (4, 5, 0): 12, (2, 6, 0): 13, (3, 6, 0): 14, (4, 6, 0): 15,
    }  # fmt: skip
    assert data.num_nodes == 7 and data.edge_layer.tolist() == [0] * 6 + [1] * 6
    assert data.node_axis.tolist() == [0, 0, 1, 1, 1, 2, 2] and data.node_place.tolist() == [0, 1, 0, 1, 2, 0, 1]
    assert data.node_bias[:, 0].tolist() == [0, 0, 7, 8, 9, 16, 17]
    assert data.node_layer.tolist() == [-1] * 7


def test_the_layer_reading_gives_each_layer_its_own_nodes() -> None:
    data = to_pyg(small(), model=1, reading="layers")
    # Nodes 0 and 1 are read by the first layer, 2 to 4 written; 5 to 7 are read by the second, 8 and 9 written.
    assert edges(data) == {
        (0, 2, 0): 1, (1, 2, 0): 2, (0, 3, 0): 3, (1, 3, 0): 4, (0, 4, 0): 5, (1, 4, 0): 6,
        (5, 8, 0): 10, (6, 8, 0): 11, (7, 8, 0): 12, (5, 9, 0): 13, (6, 9, 0): 14, (7, 9, 0): 15,
    }  # fmt: skip
    assert data.num_nodes == 10 and data.node_layer.tolist() == [0] * 5 + [1] * 5
    assert data.node_axis.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]
    assert data.node_place.tolist() == [0, 1, 0, 1, 2, 0, 1, 2, 0, 1]
    assert data.node_bias[:, 0].tolist() == [0, 0, 7, 8, 9, 0, 0, 0, 16, 17]


def test_the_model_is_the_one_asked_for() -> None:
    first, second = to_pyg(small(), model=0), to_pyg(small(), model=1)
    assert torch.equal(first.edge_attr, 100 * second.edge_attr)
    assert torch.equal(first.node_bias, 100 * second.node_bias)


@pytest.mark.parametrize("reading", ["network", "layers"])
def test_every_tap_is_an_edge_of_its_own(reading: str) -> None:
    net = cnn("relu")
    data = to_pyg(net.stack, model=2, reading=reading)
    found, counts = edges(data), [4 * 2 * 4, 5 * 4 * 4, 6 * 5 * 4, 4 * 6]
    assert data.num_edges == sum(counts) and data.edge_layer.bincount().tolist() == counts
    starts = {"network": [0, 2, 6, 11, 17], "layers": [0, 2, 6, 10, 15, 20, 26, 32]}[reading]
    ins = starts[:-1] if reading == "network" else starts[::2]
    outs = starts[1:] if reading == "network" else starts[1::2]
    assert data.num_nodes == {"network": 2 + 4 + 5 + 6 + 4, "layers": 2 + 4 + 4 + 5 + 5 + 6 + 6 + 4}[reading]
    kernel, dense = net.tensors["3.weight"][2], net.tensors["6.weight"][2].view(6, 5, 2, 2)
    assert found[ins[1] + 3, outs[1] + 4, 1] == kernel[4, 3, 0, 1]
    assert found[ins[1] + 0, outs[1] + 2, 2] == kernel[2, 0, 1, 0]
    assert found[ins[2] + 4, outs[2] + 5, 3] == dense[5, 4, 1, 1]
    assert found[ins[3] + 1, outs[3] + 0, 0] == net.tensors["8.weight"][2, 0, 1]
    assert torch.equal(data.node_bias[outs[1] : outs[1] + 5, 0], net.tensors["3.bias"][2])


def test_scattered_messages_are_matrix_products() -> None:
    stack = cnn("relu").stack
    data = to_pyg(stack, model=0)
    states = torch.randn(data.num_nodes, 3, dtype=torch.float64)
    for number, (axis, weight) in enumerate(zip(range(1, 5), stack.weights, strict=True)):
        here = data.edge_layer == number
        (source, target), attribute = data.edge_index[:, here], data.edge_attr[here]
        scattered = torch.zeros_like(states).index_add(0, target, attribute * states[source])
        product = weight[0].sum(2) @ states[data.node_axis == axis - 1]
        torch.testing.assert_close(scattered[data.node_axis == axis], product)


def test_without_biases_nodes_carry_zeros() -> None:
    assert (to_pyg(mlp("relu", bias=False).stack, 0).node_bias == 0).all()


@pytest.mark.parametrize("reading", ["network", "layers"])
def test_joining_graphs_shifts_nothing_but_the_edges(reading: str) -> None:
    graphs = [to_pyg(small(), 0, reading), to_pyg(cnn("relu").stack.to(torch.float32), 1, reading)]
    batch = Batch.from_data_list(graphs)
    assert batch.num_nodes == sum(graph.num_nodes for graph in graphs)
    for name in graphs[0].keys():
        if name not in ("edge_index", "num_nodes"):
            assert torch.equal(batch[name], torch.cat([graph[name] for graph in graphs])), name
    shift = graphs[0].num_nodes
    assert torch.equal(batch.edge_index, torch.cat([graphs[0].edge_index, graphs[1].edge_index + shift], dim=1))
    for place, graph in enumerate(graphs):
        assert torch.equal(batch.get_example(place).edge_attr, graph.edge_attr)


def test_a_whole_stack_by_hand() -> None:
    stack = small()
    batch = to_pyg_batch(stack)
    alone = [[0, 1, 0, 1, 0, 1, 2, 3, 4, 2, 3, 4], [2, 2, 3, 3, 4, 4, 5, 5, 5, 6, 6, 6]]
    assert batch.edge_index.tolist() == [row + [node + 7 for node in row] for row in alone]
    weights = [1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15]
    assert batch.edge_attr[:, 0].tolist() == [100 * weight for weight in weights] + weights
    assert batch.batch.tolist() == [0] * 7 + [1] * 7 and batch.ptr.tolist() == [0, 7, 14]


@pytest.mark.parametrize("reading", ["network", "layers"])
@pytest.mark.parametrize("name", ["cnn", "no bias", "grouped"])
def test_a_whole_stack_is_what_pyg_joins(name: str, reading: GraphReading) -> None:
    made = {"cnn": lambda: cnn("relu").stack, "no bias": lambda: mlp("relu", bias=False).stack, "grouped": grouped}
    stack = made[name]()
    found = to_pyg_batch(stack, reading)
    expected = Batch.from_data_list([to_pyg(stack, model, reading) for model in range(len(stack))])
    assert found.keys() == expected.keys() and found.num_graphs == expected.num_graphs == len(stack)
    for key in expected.keys():
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)


def grouped() -> Stack:
    """Two models of a convolution of two groups and a depthwise one that write to the same axis, with a bias each."""
    axes = (Axis("in", (4,), "input"), Axis("mid", (4,), "hidden", permutable=True))
    layers = (
        Layer("a", "conv", 1, 0, (3,), "a.weight", "a.bias", groups=2),
        Layer("b", "conv", 1, 1, (2, 2), "b.weight", "b.bias", groups=4),
    )
    draw = torch.Generator().manual_seed(0)
    shapes = ((2, 4, 2, 3), (2, 4, 1, 4))
    weights = tuple(torch.randn(shape, generator=draw) for shape in shapes)
    biases = tuple(torch.randn(2, 4, generator=draw) for _ in shapes)
    return Stack(WeightGraph(axes, layers), weights, biases)


def test_groups_read_their_own_inputs_and_biases_of_one_axis_add_up() -> None:
    stack = grouped()
    data = to_pyg(stack, model=1)
    first = [(source, target) for source, target in data.edge_index[:, : 4 * 2 * 3].T.tolist()]
    assert set(first) == {(0, 4), (1, 4), (0, 5), (1, 5), (2, 6), (3, 6), (2, 7), (3, 7)}
    assert data.edge_index[:, 4 * 2 * 3 :].T.tolist() == [[node, node] for node in (4, 5, 6, 7) for _ in range(4)]
    torch.testing.assert_close(data.node_bias[4:, 0], stack.biases[0][1] + stack.biases[1][1])
