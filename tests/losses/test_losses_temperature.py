import math

import pytest
import torch

from peace.losses.nt_xent import NTXent
from peace.losses.temperature import Temperature
from random_pairs import random_pairs


def test_a_fixed_temperature_is_a_number_and_no_parameter() -> None:
    assert Temperature(0.07, learned=False)() == 0.07
    assert list(NTXent(0.07).parameters()) == [] and NTXent(0.07).state_dict() == {}


def test_a_learned_temperature_has_the_gradient_of_finite_differences() -> None:
    loss, given, step = NTXent(0.5, learned_temperature=True), random_pairs(6, 4), 1e-4
    loss.double()(given).backward()
    higher, lower = (NTXent(0.5 * math.exp(sign * step))(given).item() for sign in (1, -1))
    assert loss.temperature.logarithm.grad.item() == pytest.approx((higher - lower) / (2 * step), rel=1e-5)


def test_a_learned_temperature_stays_above_the_least() -> None:
    temperature = Temperature(0.1, learned=True)
    assert temperature().item() == pytest.approx(0.1)
    with torch.no_grad():
        temperature.logarithm.fill_(-20.0)
    assert temperature().item() == pytest.approx(0.01)
