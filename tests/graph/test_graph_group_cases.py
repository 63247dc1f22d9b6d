"""The derived group on hundreds of small modules, many of them nasty: it never lies, and it misses little.

Soundness is judged by the function of the module itself on random elements; completeness by orders counted by hand.
"""

import math

import pytest
import symmetry_attention
import symmetry_images
import symmetry_oddities
import symmetry_vectors
import symmetry_wirings
import torch
from symmetry_cases import Case
from symmetry_coverage import floating, randomised, relative_change

from peace.graph.derive import derive

FAMILIES = (symmetry_vectors, symmetry_wirings, symmetry_images, symmetry_attention, symmetry_oddities)
CASES = {
    f"{family.__name__.removeprefix('symmetry_')}-{name}": case
    for family in FAMILIES
    for name, case in family.CASES.items()
}


EACH = [
    pytest.param(case, id=name, marks=() if place % 6 == 0 else pytest.mark.slow)
    for place, (name, case) in enumerate(CASES.items())
]
"""All cases, every sixth of which is quick enough together for the default tests."""


@pytest.mark.parametrize("case", EACH)
@pytest.mark.filterwarnings("ignore")
def test_the_function_stays_and_the_order_is_the_counted_one(case: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    module, inputs = randomised(case.build(), generator), case.inputs(generator)
    group = derive(module, *inputs)
    own = floating(module)
    elements = [group.sample(generator).apply(own) for _ in range(5)]
    for moved in elements:
        assert relative_change(module, inputs, moved) < 1e-9
    if group.log10_order > 1e-6:
        # One of them alone may be the identity of a small group.
        assert any(not torch.equal(moved[name], tensor) for moved in elements for name, tensor in own.items())
    told = [pinned.operation for pinned in group.pinned]
    for name in case.pins:
        assert any(name in operation for operation in told), told
    if case.order is not None:
        assert group.log10_order == pytest.approx(math.log10(case.order), abs=1e-6)
