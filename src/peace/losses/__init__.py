"""Losses over the projections of two views."""

from torch import nn

from peace.registry import Registry

LOSSES: Registry[nn.Module] = Registry("loss", __name__)
