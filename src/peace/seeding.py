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
_WORDS = 1 << 15
"""Words mixed at a time: few enough to stay in a processor's cache from one operation to the next."""


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
    counter = torch.arange(1, count + 1, dtype=torch.int64, device=stream.device) * _GOLDEN
    return torch.cat([_mix(part[:, None] + counter) for part in stream.split(max(1, _WORDS // max(1, count)))])


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


def permutations(stream: Tensor, count: int, own: Tensor | None = None) -> Tensor:
    """Returns one uniformly drawn order of `range(count)` for each key.

    Args:
        stream: The keys. Shape: [M] int64.
        count: Length of the orders.
        own: If given, a key's order begins with the order of `range(own)` that `permutations(key, own)` returns, and
            the rest follows. Shape: [M] int64.

    Shape:
        [M] -> [M, count] int64.
    """
    place = torch.arange(count, device=stream.device)
    low = (1 << max(1, count - 1).bit_length()) - 1
    words = bits(stream, count).bitwise_and_(~low)
    if own is not None:
        words.masked_fill_(place >= own[:, None], (1 << 63) - 1 & ~low)
    # A word that carries its place in its lowest bits needs no index beside it, and numpy sorts plain words with
    # vector instructions: ten times faster than an argsort.
    words = words.bitwise_or_(place).cpu()
    words.numpy().sort(axis=1)
    return words.bitwise_and_(low).to(stream.device)


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift(word, 30)) * _MIX_1
    word = (word ^ _shift(word, 27)) * _MIX_2
    return word ^ _shift(word, 31)


def _shift(word: Tensor, by: int) -> Tensor:
    return (word >> by) & ((1 << (64 - by)) - 1)
