"""Randomness as a pure function of keys: nothing depends on what was drawn before, or together with what.

Two forms. `generator` seeds an ordinary torch generator from a tuple of keys. `uniform`, `normal` and `permutations`
draw for many keys at once, one stream per key, by the counter-based SplitMix64 generator (Steele, Lea and Flood 2014,
*Fast Splittable Pseudorandom Number Generators*): the numbers of one key are the same alone or among a thousand others,
which is what lets a population of models train together and each come out as if alone.
"""

import hashlib

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def key(*parts: object) -> int:
    """Returns a 63-bit integer that is a pure function of the parts' text, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def keys(seeds: list[int] | Tensor, *parts: object) -> Tensor:
    """Returns one key per seed for the stream named by `parts`. Shape: [M] int64."""
    seeds = torch.as_tensor(seeds, dtype=torch.int64)
    return _mix(_mix(seeds * _GOLDEN) + key(*parts))


def generator(*parts: object) -> torch.Generator:
    """Returns a CPU generator seeded by the parts."""
    return torch.Generator().manual_seed(key(*parts))


def bits(stream: Tensor, count: int) -> Tensor:
    """Returns `count` 64-bit words for each key of the stream. Shape: [M] -> [M, count] int64."""
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=stream.device)
    return _mix(stream[:, None] + counter * _GOLDEN)


def uniform(stream: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns numbers in (0, 1), `shape` of them for each key. Shape: [M] -> [M, *shape]."""
    count = int(torch.Size(shape).numel())
    unit = (_shift(bits(stream, count), 11).double() + 0.5) * 2.0**-53
    # Rounding to `dtype` may reach the ends, which the interval leaves out.
    info = torch.finfo(dtype)
    return unit.view(len(stream), *shape).to(dtype).clamp(info.tiny, 1 - info.eps / 2)


def normal(stream: Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns standard normal numbers by inversion, `shape` of them for each key. Shape: [M] -> [M, *shape]."""
    return (torch.special.ndtri(uniform(stream, *shape, dtype=torch.float64))).to(dtype)


def permutations(stream: Tensor, count: int) -> Tensor:
    """Returns one uniformly drawn order of `range(count)` for each key. Shape: [M] -> [M, count] int64."""
    return bits(stream, count).argsort(dim=1, stable=True)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift(word, 30)) * _MIX_1
    word = (word ^ _shift(word, 27)) * _MIX_2
    return word ^ _shift(word, 31)


def _shift(word: Tensor, by: int) -> Tensor:
    return (word >> by) & ((1 << (64 - by)) - 1)
