"""The networks, random weights and checks of the experiment `symmetry_coverage`, for tests."""

import sys
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from peace.config import folder
from peace.graph.group import SymmetryGroup

_FOLDER = str(folder("experiments") / "symmetry_coverage")
if _FOLDER not in sys.path:
    sys.path.insert(0, _FOLDER)

import measure  # noqa: E402
from networks import NETWORKS, SMALL, Network, from_timm  # noqa: E402
from preservation import floating, relative_change  # noqa: E402
from randomisation import randomised  # noqa: E402

__all__ = ["NETWORKS", "SMALL", "Network", "coverage_of", "floating", "from_timm", "measure", "randomised",
           "relative_change", "some"]  # fmt: skip

_DEAR = ("convnext", "mobilenetv3", "swin", "unet")


def some(names: Iterable[str]) -> list[Any]:
    """Names as parameters of a test, those of networks that take seconds marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in _DEAR else name for name in names]


def coverage_of(network: Network, module: nn.Module, group: SymmetryGroup) -> dict[str, float]:
    """What the experiment's record says of a network's coverage."""
    example = torch.zeros(1, *network.shape)
    return measure.coverage(measure.Subject(network, module, example, group, torch.Generator().manual_seed(0), seed=0))
