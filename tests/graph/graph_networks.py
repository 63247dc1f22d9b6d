"""Real torch modules with random weights, in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from peace.graph.build import from_module
from peace.graph.stack import Stack
from peace.graph.symmetry import GroupElement
from peace.zoo.architectures import build

MODELS = 3


@dataclass(frozen=True)
class Network:
    """A module, three random models of it, biases included, and inputs to compare functions on."""

    module: nn.Sequential
    tensors: dict[str, Tensor]
    stack: Stack
    x: Tensor

    def outputs(self, stack: Stack) -> Tensor:
        """What the module itself computes with each model's weights. Shape: [B, 4, outputs]."""
        tensors = stack.tensors(like=self.tensors)
        return torch.stack([functional_call(self.module, {k: t[i] for k, t in tensors.items()}, (self.x,))
                            for i in range(len(stack))])  # fmt: skip


def network(module: nn.Sequential, *shape: int, seed: int = 0) -> Network:
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    tensors = {
        name: torch.randn(MODELS, *p.shape, generator=generator, dtype=torch.float64) / max(1, p[0].numel()) ** 0.5
        for name, p in module.named_parameters()
    }
    x = torch.randn(4, *shape, generator=generator, dtype=torch.float64)
    return Network(module, tensors, Stack.of(from_module(module, shape), tensors), x)


def mlp(activation: str, bias: bool = True, hidden: tuple[int, ...] = (6, 5)) -> Network:
    node = {"name": "mlp", "input_shape": [2, 3, 3], "outputs": 4, "activation": activation, "bias": bias}
    return network(build({**node, "hidden": hidden}), 2, 3, 3)


def cnn(
    activation: str,
    bias: bool = True,
    channels: tuple[int, ...] = (4, 5),
    pools: tuple[int, ...] = (2, 1),
    hidden: tuple[int, ...] = (6,),
) -> Network:
    """Two convolutions, the first of them pooled, and a flatten to 2x2 taps (4x4 without pooling)."""
    node = {"name": "cnn", "input_shape": [2, 7, 7], "outputs": 4, "activation": activation, "bias": bias}
    shapes = {"channels": channels, "kernels": [3, 2] if pools == (1, 1) else [2, 2], "pools": pools, "hidden": hidden}
    return network(build({**node, **shapes}), 2, 7, 7)


def averaged() -> Network:
    """Average pooling leaves the signs of a tanh, before and after it; here beside a ReLU."""
    return network(
        nn.Sequential(
            nn.Conv2d(2, 4, 2), nn.AvgPool2d(2), nn.Tanh(), nn.Conv2d(4, 5, 2, padding=1, bias=False), nn.ReLU(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(20, 3), nn.Tanh(), nn.Linear(3, 4),
        ), 2, 7, 7,
    )  # fmt: skip


def globally_averaged(activation: str) -> Network:
    """Strided convolutions, and the average of each channel before the linear layer."""
    node = {"name": "cnn", "input_shape": [2, 7, 7], "outputs": 4, "activation": activation, "dropout": True}
    shapes = {"channels": (4, 5), "kernels": (3, 2), "pools": (1, 1), "strides": (1, 2), "hidden": ()}
    return network(build({**node, **shapes, "pooling": "average"}), 2, 7, 7)


NETWORKS = {
    **{
        f"{family.__name__}-{activation}-{'bias' if bias else 'nobias'}": (family, activation, bias)
        for family in (mlp, cnn)
        for activation in ("relu", "leaky_relu", "tanh", "gelu", "identity")
        for bias in (True, False)
    },
    "cnn-tanh-unpooled": (cnn, "tanh", True, (4, 5), (1, 1)),
    "averaged": (averaged,),
    "globally-averaged-relu": (globally_averaged, "relu"),
    "globally-averaged-tanh": (globally_averaged, "tanh"),
}


def named(name: str) -> Network:
    family, *given = NETWORKS[name]
    return family(*given)


def permuting(element: GroupElement) -> GroupElement:
    """The element's permutations without its scales."""
    return GroupElement(element.orders, {axis: torch.ones_like(scale) for axis, scale in element.scales.items()})


def distance(first: Stack, second: Stack) -> float:
    """The largest difference between two stacks, relative to the largest entry of its tensor."""
    pairs = [*zip(first.weights, second.weights, strict=True), *zip(first.biases, second.biases, strict=True)]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs if a is not None and b is not None)
