import pytest
import torch

from peace.losses.bank import Bank
from peace.losses.pairs import Facts


def batch(numbers: list[int]) -> tuple[torch.Tensor, Facts]:
    """Projections that say their model's number, and its facts, which do too."""
    number = torch.tensor(numbers)
    projections = torch.stack([number.cos(), number.sin()], dim=1) * (1 + number[:, None])
    return projections.requires_grad_(), Facts(number, 10 * number, 0.5 * number)


def assert_holds(bank: Bank, numbers: list[int]) -> None:
    memory = bank.memory()
    projections, facts = batch(numbers)
    torch.testing.assert_close(memory.vectors, torch.nn.functional.normalize(projections.detach(), dim=1))
    for found, expected in zip(vars(memory.facts).values(), vars(facts).values(), strict=True):
        assert torch.equal(found, expected)
    assert not memory.vectors.requires_grad and memory.vectors.dtype == torch.float32


def test_the_newest_take_the_place_of_the_oldest() -> None:
    bank = Bank(5, 2)
    assert_holds(bank, [])
    bank.take(*batch([1, 2]))
    assert_holds(bank, [1, 2])
    bank.take(*batch([3, 4]))
    assert_holds(bank, [1, 2, 3, 4])
    bank.take(*batch([5, 6, 7]))
    assert_holds(bank, [6, 7, 3, 4, 5])
    bank.take(*batch([8, 9, 10, 11, 12, 13, 14]))
    # Fourteen models have been there; number n stands at place n - 1 modulo 5.
    assert_holds(bank, [11, 12, 13, 14, 10])


@pytest.mark.parametrize("taken", [3, 5, 8])
def test_a_bank_that_was_saved_goes_on_as_if_it_never_was(taken: int) -> None:
    whole, part = Bank(5, 2), Bank(5, 2)
    for bank in (whole, part):
        bank.take(*batch(list(range(taken))))
    again = Bank(5, 2)
    again.load_state_dict(part.state_dict())
    for bank in (whole, again):
        bank.take(*batch([20, 21, 22]))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert {name for name, _ in whole.named_buffers()} == {"vectors", "groups", "labels", "values", "taken"}


def test_half_precision_is_kept_in_float32() -> None:
    bank, (projections, facts) = Bank(4, 2), batch([1, 2, 3])
    bank.take(projections.bfloat16(), facts)
    expected = torch.nn.functional.normalize(projections.bfloat16().float(), dim=1)
    assert bank.vectors.dtype == torch.float32 and torch.equal(bank.memory().vectors, expected)
