"""Aggregators: the tokens of a network's layers in, one embedding out."""

from torch import nn

from peace.registry import Registry

AGGREGATORS: Registry[nn.Module] = Registry("aggregator", __name__)
