"""What `edge_gnn` refuses."""

import json

import pytest
import torch

from peace.encoders.edge_gnn import EdgeGNN
from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.zoo.architectures import build


def test_networks_with_more_weights_than_there_may_be_are_refused() -> None:
    text = json.dumps({"name": "mlp", "input_shape": [30], "hidden": [40], "outputs": 2, "activation": "relu"})
    tensors = {name: torch.ones(3, *p.shape) for name, p in build(text).named_parameters()}
    stack = Stack.of(from_architecture(text), tensors)
    assert EdgeGNN(hidden_dim=4, edge_dim=2, max_weights=30 * 40 + 40 * 2)(stack).isfinite().all()
    with pytest.raises(InputError) as refused:
        EdgeGNN(hidden_dim=4, edge_dim=2, max_weights=1279)(stack)
    assert str(refused.value) == (
        "edge_gnn keeps states of every weight: got 1,280 weights a model, expected at most max_weights = 1,279; "
        "encode such networks with network_gnn, or raise max_weights where there is memory for them."
    )
