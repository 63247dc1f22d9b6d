"""How weights are brought into the form that an encoder reads."""

from dataclasses import dataclass
from typing import Literal

from peace.graph.canonical import canonical_form, frobenius_normalised, sign_cover
from peace.graph.stack import Stack


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

    def __call__(self, stack: Stack) -> Stack:
        """Returns the stack in that form."""
        stack = sign_cover(stack) if self.cover_signs else stack
        stack = canonical_form(stack) if self.canonical else stack
        return frobenius_normalised(stack) if self.normalise == "frobenius" else stack
