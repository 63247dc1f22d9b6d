"""The two populations of small networks that training steps are timed on."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from peace.graph.assembly import from_group
from peace.graph.derive import derive
from peace.graph.reading import Reading
from peace.graph.stack import Stack


class Sine(nn.Module):
    """The activation of SIRENs."""

    def __init__(self, frequency: float = 1.0) -> None:
        super().__init__()
        self.frequency = frequency

    def forward(self, x: Tensor) -> Tensor:
        """Returns sin(ω x)."""
        return torch.sin(self.frequency * x)


def siren() -> nn.Module:
    """Returns a network of sines 2-32-32-1 from coordinates to grey values."""
    return nn.Sequential(nn.Linear(2, 32), Sine(30.0), nn.Linear(32, 32), Sine(), nn.Linear(32, 1))


def cnn() -> nn.Module:
    """Returns a network 1-16-16-16-10: three 3x3 convolutions with ReLU, the mean over places, a linear layer."""
    parts = [
        part for n_in in (1, 16, 16) for part in (nn.Conv2d(n_in, 16, 3, padding=1), nn.ReLU())
    ]  # fmt: skip
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


POPULATIONS = OrderedDict(siren=(siren, (2,)), cnn=(cnn, (1, 28, 28)))
"""By name: what makes a network, and the shape of its input."""


def population(name: str, models: int, seed: int) -> Stack:
    """Returns freshly initialised models as a stack of the derived graph, in their canonical form."""
    build, shape = POPULATIONS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = [build() for _ in range(models)]
    group = derive(made[0], torch.zeros(1, *shape))
    return Reading().of_models(group, from_group(group), [module.state_dict() for module in made])
