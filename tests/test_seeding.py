"""Seeding: pure functions of keys, the published generator, and numbers distributed as they say."""

import hashlib
from itertools import pairwise

import pytest
import torch
from scipy import stats
from torch import Tensor

from peace import seeding

MASK = 2**64 - 1


def splitmix64(seed: int, count: int) -> list[int]:
    """SplitMix64 on Python's integers, as in Steele, Lea and Flood (2014)."""
    words = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        word = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        words.append(word ^ (word >> 31))
    return words


def stream_whose_first_word_is(word: int) -> Tensor:
    """The generator run backwards: every step of it can be undone."""
    word = word ^ (word >> 31) ^ (word >> 62)
    word = (word * pow(0x94D049BB133111EB, -1, 2**64)) & MASK
    word = word ^ (word >> 27) ^ (word >> 54)
    word = (word * pow(0xBF58476D1CE4E5B9, -1, 2**64)) & MASK
    word = word ^ (word >> 30) ^ (word >> 60)
    seed = (word - 0x9E3779B97F4A7C15) & MASK
    return torch.tensor([seed - 2**64 if seed >= 2**63 else seed])


def unsigned(words: Tensor) -> list[int]:
    return [word & MASK for word in words.tolist()]


# --- keys


def test_keys_are_the_same_on_every_machine() -> None:
    assert seeding.key("peace") == 8677630950358020321
    assert seeding.key("order", 3, 0.5) == 4087336369198327944
    assert unsigned(seeding.keys([0, 1], "order")) == [613763340868122891, 14325761664696743078]


def test_a_key_is_a_hash_of_the_parts_text_in_63_bits() -> None:
    digest = hashlib.sha256(b"order\x1f3").digest()
    assert seeding.key("order", 3) == int.from_bytes(digest[:8], "little") // 2
    assert seeding.key("order", 3) == seeding.key("order", "3")
    parts = [("a",), ("b",), ("a", "b"), ("ab",), ("b", "a"), ("a", 1), ("a", 11), ("a", 1, 1), ()]
    drawn = {seeding.key(*each) for each in parts}
    assert len(drawn) == len(parts)
    assert all(0 <= each < 2**63 for each in drawn)


def test_keys_differ_by_seed_and_by_stream() -> None:
    seeds = list(range(1000))
    drawn = torch.cat([seeding.keys(seeds, "a"), seeding.keys(seeds, "b"), seeding.keys(seeds, "a", 0)])
    assert drawn.dtype == torch.int64 and len(drawn.unique()) == 3000
    assert torch.equal(seeding.keys(torch.tensor(seeds), "a"), drawn[:1000])


def test_one_step_in_the_seed_turns_half_of_the_bits() -> None:
    drawn = unsigned(seeding.keys(list(range(2001)), "a"))
    turned = [(left ^ right).bit_count() for left, right in pairwise(drawn)]
    # The mean of 2,000 binomials of 64 fair bits: 32 with standard error 4 / sqrt(2000).
    assert abs(sum(turned) / 2000 - 32) < 4 * 4 / 2000**0.5


# --- the generator


def test_the_words_are_those_of_the_published_generator() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == published
    assert unsigned(seeding.bits(torch.tensor([1234567]), 4)[0]) == published


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_the_words_agree_with_python_s_integers(seed: int) -> None:
    assert unsigned(seeding.bits(torch.tensor([seed]), 50)[0]) == splitmix64(seed & MASK, 50)


@pytest.mark.parametrize(
    "draw",
    [
        lambda stream: seeding.uniform(stream, 5, 3),
        lambda stream: seeding.normal(stream, 7),
        lambda stream: seeding.permutations(stream, 20),
        lambda stream: seeding.bits(stream, 4),
    ],
    ids=["uniform", "normal", "permutations", "bits"],
)
def test_one_key_draws_the_same_alone_and_among_many(draw: object) -> None:
    seeds = [5, 900, 0, 7]
    together = draw(seeding.keys(seeds, "weights"))  # type: ignore[operator]
    for place, seed in enumerate(seeds):
        alone = draw(seeding.keys([seed], "weights"))  # type: ignore[operator]
        assert torch.equal(alone[0], together[place])
    assert len(together.flatten(1).unique(dim=0)) == len(seeds)


def test_more_numbers_begin_with_the_same_numbers() -> None:
    stream = seeding.keys([1, 2], "a")
    assert torch.equal(seeding.uniform(stream, 9)[:, :4], seeding.uniform(stream, 4))


def test_drawing_leaves_torch_s_own_generator_alone() -> None:
    before = torch.get_rng_state()
    stream = seeding.keys([1], "a")
    seeding.normal(stream, 3), seeding.permutations(stream, 3), torch.rand(2, generator=seeding.generator("a"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_generator_is_a_function_of_its_parts() -> None:
    first, again, other = (torch.rand(8, generator=seeding.generator("a", part)) for part in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --- distributions


def test_uniform_numbers_are_the_words_upper_bits() -> None:
    stream = torch.tensor([1234567])
    expected = [(word // 2**11 + 0.5) / 2**53 for word in splitmix64(1234567, 4)]
    assert seeding.uniform(stream, 2, 2, dtype=torch.float64).flatten().tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("word", [0, 2**11 - 1, 2**63, MASK - 2**12, MASK])
def test_uniform_numbers_never_reach_0_or_1(word: int, dtype: torch.dtype) -> None:
    stream = stream_whose_first_word_is(word)
    assert unsigned(seeding.bits(stream, 1)[0]) == [word]
    number = seeding.uniform(stream, 1, dtype=dtype)
    assert 0 < number.item() < 1
    assert number.dtype == dtype
    assert abs(number.item() - word / 2**64) <= torch.finfo(dtype).eps
    assert seeding.normal(stream, 1).isfinite().all()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_shapes_follow_the_keys(shape: tuple[int, ...]) -> None:
    stream = seeding.keys([1, 2, 3, 4], "a")
    assert seeding.uniform(stream, *shape).shape == (4, *shape)
    assert seeding.normal(stream[:0], *shape).shape == (0, *shape)


@pytest.mark.parametrize("within", ["one stream", "neighbouring seeds"])
def test_uniform_and_normal_numbers_pass_a_kolmogorov_smirnov_test(within: str) -> None:
    if within == "one stream":
        stream, count = seeding.keys([3], "ks"), 20_000
    else:
        stream, count = seeding.keys(list(range(20_000)), "ks"), 1
    uniform = seeding.uniform(stream, count, dtype=torch.float64).flatten()
    normal = seeding.normal(stream, count, dtype=torch.float64).flatten()
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(normal.numpy(), "norm").pvalue > 0.01


def test_normal_numbers_have_the_moments_of_the_normal_distribution() -> None:
    numbers = seeding.normal(seeding.keys(list(range(20)), "moments"), 5_000, dtype=torch.float64).flatten()
    # Standard errors of the first four moments of 100,000 standard normal numbers: sqrt(variance / n).
    for power, moment, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert abs(numbers.pow(power).mean().item() - moment) < 4 * (variance / 100_000) ** 0.5


@pytest.mark.parametrize("lag", [1, 2, 7])
def test_neighbouring_seeds_are_not_correlated(lag: int) -> None:
    numbers = seeding.normal(seeding.keys(list(range(4_000)), "lag"), 16, dtype=torch.float64)
    products = numbers[:-lag] * numbers[lag:]
    assert abs(products.mean().item()) < 4 / products.numel() ** 0.5


def test_permutations_hold_every_number_once() -> None:
    orders = seeding.permutations(seeding.keys(list(range(50)), "p"), 30)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(30).expand(50, 30))


def test_every_order_is_equally_likely() -> None:
    orders = seeding.permutations(seeding.keys(list(range(12_000)), "p"), 4)
    counts = torch.unique(orders, dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


@pytest.mark.parametrize("count", [1, 2, 64, 65, 1000])
def test_an_order_is_that_of_the_words(count: int) -> None:
    stream = seeding.keys(list(range(20)), "p")
    expected = [sorted(range(count), key=row.__getitem__) for row in seeding.bits(stream, count).tolist()]
    assert seeding.permutations(stream, count).tolist() == expected


def test_a_key_s_own_numbers_come_first_in_the_order_that_they_have_alone() -> None:
    stream, own = seeding.keys([1, 2, 3, 4], "p"), torch.tensor([1, 5, 29, 30])
    orders = seeding.permutations(stream, 30, own)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(30).expand(4, 30))
    for order, key, count in zip(orders, stream, own.tolist(), strict=True):
        assert torch.equal(order[:count], seeding.permutations(key[None], count)[0])
