"""What every decoder promises, and weights as sequences."""

import json

import pytest
import torch
from test_contracts_encoders import NODES, networks, permuted

from peace.config import compose
from peace.encoders.neuron_transformer import NeuronTransformer
from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.graph.sequences import from_rows, from_vector, rows, squared_distances, vector
from peace.graph.stack import Stack
from peace.models.embedder import Embedder, build_embedder
from peace.zoo.architectures import build

AUTOENCODERS = {
    "neuron_transformer": (),
    "weight_transformer": ("max_tokens=450",),
    "feed_forward": (),
    "network_gnn": (),
    "scale_gnn": (),
    "edge_gnn": (),
}
ROWS = [[6, 33], [5, 7], [4, 6]]  # of mlp-relu: 32 inputs, 6 and 5 hidden neurons, 4 classes, biases


def autoencoder(encoder: str, *words: str) -> Embedder:
    torch.manual_seed(0)
    config = compose("pretrain", ["graph=raw", "decoder.beta=0.5"])
    given = dict(word.split("=") for word in words)
    sizes = {key: int(value) for key, value in given.items()}
    return build_embedder(
        {**config, "encoder": {"name": encoder, **sizes}, "aggregator": {"name": "bottleneck"}}
    ).eval()


def test_rows_are_neurons_with_their_bias_last() -> None:
    stack = networks("mlp-relu")
    found = rows(stack)
    assert [list(row.shape[1:]) for row in found] == ROWS
    assert torch.equal(found[1][:, :, :6], stack.weights[1][..., 0]) and torch.equal(found[1][:, :, 6], stack.biases[1])
    assert vector(stack).shape == (3, sum(n * row for n, row in ROWS))


@pytest.mark.parametrize("name", NODES)
def test_rows_and_vectors_come_back_as_the_stack(name: str) -> None:
    stack = networks(name)
    unbiased = Stack(stack.graph, stack.weights, (None,) * len(stack.weights))
    for models in (stack, unbiased):
        for found in (from_rows(rows(models), models), from_vector(vector(models), models)):
            assert all(torch.equal(a, b) for a, b in zip(found.weights, models.weights, strict=True))
            assert all(a is b is None or torch.equal(a, b) for a, b in zip(found.biases, models.biases, strict=True))


def test_distances_are_of_all_weights_and_biases() -> None:
    stack = networks("cnn-tanh")
    moved = stack.map(lambda tensor: tensor + 2)
    assert squared_distances([moved], [stack]).tolist() == pytest.approx([4.0 * vector(stack).shape[1]] * 3)


@pytest.mark.parametrize("encoder", AUTOENCODERS)
def test_gradients_reach_every_parameter_of_a_decoder(encoder: str) -> None:
    made = autoencoder(encoder, *AUTOENCODERS[encoder])
    stacks = [networks(name).to(torch.float32) for name in NODES]
    embeddings, decoded = made.autoencode(stacks)
    assert torch.equal(embeddings, made.embed(stacks))
    again = made.decode(embeddings, stacks)
    assert all(torch.equal(vector(a), vector(b)) for a, b in zip(again, decoded, strict=True))
    assert [stack.graph for stack in decoded] == [stack.graph for stack in stacks]
    squared_distances(decoded, stacks).sum().backward()
    assert [name for name, p in made.decoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert all(p.grad.isfinite().all() for p in made.decoder.parameters())


def small(models: int) -> Stack:
    """Models of 23 weights and biases."""
    node = {"name": "mlp", "input_shape": [1, 2, 2], "outputs": 2, "hidden": [3], "activation": "tanh"}
    draw = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(models, *p.shape, generator=draw) for name, p in build(node).named_parameters()}
    return Stack.of(from_architecture(json.dumps(node)), tensors)


# One encoder of graphs and one of sequences learn in the default tests.
@pytest.mark.parametrize(
    "encoder",
    [pytest.param(name, marks=() if name in {"network_gnn", "neuron_transformer"} else pytest.mark.slow)
     for name in AUTOENCODERS],
)  # fmt: skip
def test_a_few_models_are_learnt_by_heart(encoder: str) -> None:
    few = {
        "neuron_transformer": ("max_tokens=5", "max_row=5"),
        "weight_transformer": ("max_tokens=23",),
        "feed_forward": ("max_weights=23", "hidden_dim=16"),
    }
    made, stacks = autoencoder(encoder, *few.get(encoder, ())), [small(4)]
    mean = stacks[0].map(lambda tensor: tensor.mean(0, keepdim=True).expand_as(tensor))
    optimizer = torch.optim.Adam(made.parameters(), lr=2e-3)
    for _ in range(120):
        error = squared_distances(made.autoencode(stacks)[1], stacks).sum()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.2 * squared_distances([mean], stacks).sum()


@pytest.mark.parametrize("encoder", ["network_gnn", "scale_gnn", "edge_gnn"])
@torch.no_grad()
def test_renumbered_graphs_are_decoded_to_renumbered_weights(encoder: str) -> None:
    made = autoencoder(encoder).double()
    for name in NODES:
        (found,), (moved,) = (made.autoencode([stack])[1] for stack in (networks(name), permuted(networks(name))))
        assert squared_distances([moved], [permuted(found)]).max() < 1e-20 * vector(found).square().sum()
        assert squared_distances([moved], [found]).min() > 1e-6


def test_a_network_that_is_too_large_is_refused() -> None:
    stack = networks("mlp-relu")
    with pytest.raises(InputError, match="too many neurons for the encoder: got 15, expected at most 14"):
        NeuronTransformer(max_tokens=14).double()(stack)
    for words in (("max_row=32",), ("max_layers=2",)):
        with pytest.raises(InputError, match="too large for the decoder"):
            autoencoder("neuron_transformer", *words).double().autoencode([stack])
    with pytest.raises(InputError, match="too large for the decoder: got 257 weights and biases, expected at most 256"):
        autoencoder("weight_transformer", "max_tokens=256").double().autoencode([stack])
    with pytest.raises(InputError, match="too large for the decoder"):
        autoencoder("feed_forward", "max_weights=256").double().autoencode([stack])


def test_an_encoder_without_a_decoder_says_so() -> None:
    with pytest.raises(InputError, match="the encoder has no decoder: got Raw"):
        autoencoder("raw")
