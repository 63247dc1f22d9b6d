"""How weights are brought into the form that an encoder reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from peace.graph.canonical import canonical_form, frobenius_normalised, sign_cover
from peace.graph.group import SymmetryGroup
from peace.graph.stack import Stack, join
from peace.graph.weight_graph import WeightGraph


@dataclass(frozen=True)
class Reading:
    """Normal forms to take before encoding; with the first two, an encoder blind to order is blind to the whole group.

    Attributes:
        canonical: Whether to divide out the scaling group.
        cover_signs: Whether neurons of sign axes enter as pairs; otherwise `canonical` picks their signs by a rule.
        normalise: `frobenius` also divides each weight and bias by its norm (paper a, 3.1).
    """

    canonical: bool = True
    cover_signs: bool = True
    normalise: Literal["none", "frobenius"] = "none"

    def of_models(
        self,
        group: SymmetryGroup,
        graph: WeightGraph,
        models: Iterable[Mapping[str, Tensor]],
        dtype: torch.dtype = torch.float32,
    ) -> Stack:
        """Returns state dicts of a derived group's module as a stack in that form.

        The canonical form is that of the state dict, in float64, signs by its rule: the axes of a derived graph have no
        scaling left, so that `cover_signs` finds nothing to cover.

        Args:
            group: The derived group.
            graph: Its weight graph, `from_group(group)`.
            models: State dicts; entries that the group does not know are passed over.
            dtype: The type wanted.

        Raises:
            InputError: A tensor is missing or of another shape.
        """
        stacks = []
        for tensors in models:
            known = {name: tensors[name].double() for name in group.names if name in tensors}
            known = group.canonical_form(known) if self.canonical else known
            stacks.append(Stack.of(graph, group.checked(known)).to(dtype))
        return self(join(stacks))

    def __call__(self, stack: Stack) -> Stack:
        """Returns the stack in that form."""
        stack = sign_cover(stack) if self.cover_signs else stack
        stack = canonical_form(stack) if self.canonical else stack
        return frobenius_normalised(stack) if self.normalise == "frobenius" else stack
