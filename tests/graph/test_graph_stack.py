import pytest
import torch
from graph_networks import cnn, distance, mlp

from peace.errors import InputError
from peace.graph.stack import Stack, join


def test_tensors_make_a_round_trip_without_a_copy() -> None:
    network = cnn("relu", bias=True)
    stack = Stack.of(network.stack.graph, network.tensors)
    assert [tuple(weight.shape) for weight in stack.weights] == [(3, 4, 2, 4), (3, 5, 4, 4), (3, 6, 5, 4), (3, 4, 6, 1)]
    assert [tuple(bias.shape) for bias in stack.biases] == [(3, 4), (3, 5), (3, 6), (3, 4)]
    back = stack.tensors(like=network.tensors)
    assert list(back) == list(network.tensors)
    for name, tensor in network.tensors.items():
        assert torch.equal(back[name], tensor) and back[name].data_ptr() == tensor.data_ptr()


def test_a_flattened_channel_has_one_tap_per_position() -> None:
    network = cnn("relu")
    # torch flattens [channel, row, column] in this order.
    weight = network.tensors["6.weight"].view(3, 6, 5, 2, 2)
    assert torch.equal(network.stack.weights[2][1, 3, 4], weight[1, 3, 4].flatten())


def test_without_biases() -> None:
    network = mlp("tanh", bias=False)
    assert network.stack.biases == (None, None, None)
    assert network.stack.tensors(like=network.tensors).keys() == network.tensors.keys()
    assert network.stack.map(lambda tensor: tensor + 1).biases == (None, None, None)
    assert join([network.stack, network.stack]).biases == (None, None, None)


@pytest.mark.parametrize("places", [slice(1, 3), torch.tensor([2, 0, 2]), torch.tensor([True, False, True])])
def test_selection(places: slice | torch.Tensor) -> None:
    stack = cnn("relu").stack
    chosen = stack.select(places)
    expected = torch.arange(3)[places].tolist()
    assert len(chosen) == len(expected)
    for place, model in enumerate(expected):
        assert all(torch.equal(w[place], v[model]) for w, v in zip(chosen.weights, stack.weights, strict=True))
        assert all(torch.equal(w[place], v[model]) for w, v in zip(chosen.biases, stack.biases, strict=True))


def test_map_and_type() -> None:
    stack = cnn("relu").stack
    doubled = stack.map(lambda tensor: 2 * tensor)
    assert torch.equal(doubled.weights[1], 2 * stack.weights[1]) and torch.equal(doubled.biases[3], 2 * stack.biases[3])
    assert doubled.graph is stack.graph
    half = stack.to(torch.float16)
    assert {tensor.dtype for tensor in (*half.weights, *half.biases)} == {torch.float16}
    assert stack.to(torch.device("meta")).weights[0].device.type == "meta"


def test_join_undoes_selection() -> None:
    stack = cnn("relu").stack
    whole = join([stack.select(slice(0, 1)), stack.select(slice(1, 3))])
    assert len(whole) == 3 and distance(whole, stack) == 0
    assert len(join([stack.select(slice(0, 0)), stack])) == 3


def test_no_models_are_a_stack() -> None:
    network = mlp("relu")
    assert len(Stack.of(network.stack.graph, {name: tensor[:0] for name, tensor in network.tensors.items()})) == 0


def test_wrong_names_are_refused() -> None:
    network = mlp("relu")
    fewer = {name: tensor for name, tensor in network.tensors.items() if name != "3.bias"}
    for tensors in (fewer, {**network.tensors, "7.weight": torch.zeros(3, 2, 2)}, {}):
        with pytest.raises(InputError, match="tensors do not fit the architecture"):
            Stack.of(network.stack.graph, tensors)
    with pytest.raises(InputError, match="tensors do not fit"):
        Stack.of(mlp("relu", bias=False).stack.graph, network.tensors)


@pytest.mark.parametrize(("name", "shape"), [
    ("0.weight", (3, 4, 2, 2, 3)), ("0.weight", (3, 2, 4, 2, 2)), ("3.weight", (3, 5, 16)), ("0.bias", (3, 5)),
    ("6.weight", (3, 20, 6)), ("6.weight", (3, 6, 5, 4)), ("8.weight", (2, 4, 6)), ("8.bias", (4,)),
])  # fmt: skip
def test_wrong_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    network = cnn("relu")
    with pytest.raises(InputError, match=f"a tensor does not fit the architecture in {name}: got .*{shape[-1]}"):
        Stack.of(network.stack.graph, {**network.tensors, name: torch.zeros(shape)})
