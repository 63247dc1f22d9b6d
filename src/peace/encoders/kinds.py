"""One module for layers of every kind, or one for each kind."""

from collections.abc import Callable
from typing import Literal, get_args, get_type_hints

from torch import nn

from peace.graph.weight_graph import Layer

Kinds = Literal["shared", "each"]
"""Whether all kinds of layers share one module or each has its own."""

LAYER_KINDS: tuple[str, ...] = get_args(get_type_hints(Layer)["kind"])


class OfKind(nn.Module):
    """The module that layers of a kind are encoded with.

    Those of kinds that training never meets stay as they are drawn.

    Args:
        make: Returns a fresh module.
        kinds: Whether all kinds share one or each has its own.
    """

    def __init__(self, make: Callable[[], nn.Module], kinds: Kinds) -> None:
        super().__init__()
        self.kinds = kinds
        self.made = nn.ModuleDict({kind: make() for kind in (LAYER_KINDS if kinds == "each" else ("shared",))})

    def of(self, layer: Layer) -> nn.Module:
        """Returns the module for a layer."""
        return self.made[layer.kind if self.kinds == "each" else "shared"]
