"""Cases between two linear layers: each says what happens to the five or six hidden values."""

from math import factorial as fac

import torch
import torch.nn.functional as F
from symmetry_cases import Case, Written
from torch import Tensor, nn


class Opaque(torch.autograd.Function):
    """Adds each value to the next one, out of the sight of whoever reads the graph."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x + x.roll(1, 1) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]).to(x)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient


class OpaqueCumsum(torch.autograd.Function):
    """A running sum."""

    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return torch.cumsum(x, 1)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient


def _set_first(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, 0] = 1.0
    return h


def _double_two(h: Tensor) -> Tensor:
    h[:, :2].mul_(2)
    return h


def _double_two_late(h: Tensor) -> Tensor:
    """The view is taken before another operation works on the whole."""
    view = h[:, :2]
    h.relu_()
    view.mul_(2)
    return h


def _add_neighbours(h: Tensor) -> Tensor:
    h[:, 1:] += h[:, :-1].clone()
    return h


def _through_a_view(h: Tensor) -> Tensor:
    """What is written into a reshaped view is seen in the original."""
    h.view(-1, 1, 5).transpose(1, 2)[:, 3].exp_()
    return torch.relu(h)


def _scatter(h: Tensor) -> Tensor:
    place = torch.arange(5, device=h.device).flip(0).expand(h.shape[0], 5)
    return torch.zeros_like(h).scatter(1, place, h)


def _gram(h: Tensor) -> Tensor:
    return (h[:, :, None] * h[:, None, :]).sum(2)


def _filled(h: Tensor) -> Tensor:
    out = torch.zeros_like(h)
    out.copy_(h.tanh())
    return out


def _filled_from_scratch(h: Tensor) -> Tensor:
    """What is written to was made without a word on the device."""
    out = torch.zeros(len(h), 5, dtype=h.dtype)
    out[:, 1:] = h[:, 1:].tanh()
    return out


def _into_empty(h: Tensor) -> Tensor:
    out = h.new_empty(h.shape)
    torch.tanh(h, out=out)
    return out


# (what happens to h [B, 5], the order of the group or None where nobody claims it, the operation that pins)
BETWEEN = {
    "relu": (torch.relu, fac(5)),
    "leaky_relu": (F.leaky_relu, fac(5)),
    "tanh": (torch.tanh, fac(5) * 2**5),
    "sigmoid": (torch.sigmoid, fac(5)),
    "gelu": (F.gelu, fac(5)),
    "silu": (F.silu, fac(5)),
    "mish": (F.mish, fac(5)),
    "elu": (F.elu, fac(5)),
    "relu6": (F.relu6, fac(5)),
    "hardswish": (F.hardswish, fac(5)),
    "softplus": (F.softplus, fac(5)),
    "sin": (torch.sin, fac(5) * 2**5),
    "cos": (torch.cos, None),
    "erf": (torch.erf, fac(5) * 2**5),
    "softsign": (F.softsign, None),
    "atan": (torch.atan, fac(5) * 2**5),
    "softshrink": (F.softshrink, None),
    "tanhshrink": (F.tanhshrink, None),
    "hardtanh": (F.hardtanh, None),
    "hardtanh_lopsided": (lambda h: F.hardtanh(h, -1, 2), fac(5)),
    "clamp_as_relu": (lambda h: h.clamp(min=0), None),
    "clamp": (lambda h: h.clamp(-0.1, 0.3), fac(5)),
    "threshold": (lambda h: F.threshold(h, 0.1, 0.0), fac(5)),
    "abs": (torch.abs, None),
    "square": (torch.square, None),
    "cube": (lambda h: h**3, None),
    "root": (lambda h: h.abs().sqrt(), None),
    "exp": (lambda h: h.exp(), fac(5)),
    "reciprocal": (lambda h: 1 / (h + 7), fac(5)),
    "sign": (torch.sign, None),
    "round": (lambda h: (3 * h).round(), None),
    "fmod": (lambda h: h.fmod(0.7), None),
    "shift": (lambda h: h + 1, fac(5)),
    "double": (lambda h: (2 * h).relu() / 3 - h, fac(5)),
    "shift_and_relu": (lambda h: (h - 0.3).relu(), fac(5)),
    "power_of_itself": (lambda h: h * h, None),
    "sum_of_relu_and_tanh": (lambda h: h.relu() + h.tanh(), fac(5)),
    "relu_and_itself": (lambda h: h.relu() + h, fac(5)),
    "rectified_difference": (lambda h: h.relu() - (-h).relu(), None),
    "gate_of_itself": (lambda h: h * h.sigmoid(), fac(5)),
    "masked": (lambda h: h * (h > 0), None),
    "masked_above": (lambda h: h * (h > 0.2), None),
    "masked_above_mean": (lambda h: h * (h > h.mean(1, keepdim=True)), None),
    "masked_fill": (lambda h: h.masked_fill(h < 0, 0.5), None),
    "where": (lambda h: torch.where(h > 0, h, 0.1 * h), None),
    "maximum": (lambda h: torch.maximum(h, 0.5 * h), None),
    "maximum_of_number": (lambda h: torch.maximum(h, torch.full_like(h, 0.2)), None),
    "softmax": (lambda h: h.softmax(1), fac(5)),
    "log_softmax": (lambda h: h.log_softmax(1), fac(5)),
    "logsumexp": (lambda h: h - h.logsumexp(1, keepdim=True), None),
    "normalised": (lambda h: F.normalize(h, dim=1), None),
    "divided_by_norm": (lambda h: h / (h.norm(dim=1, keepdim=True) + 0.1), None),
    "divided_by_sum": (lambda h: h / (h.abs().sum(1, keepdim=True) + 0.1), None),
    "divided_by_maximum": (lambda h: h / (h.amax(1, keepdim=True) + 3), None),
    "standardised": (lambda h: (h - h.mean(1, keepdim=True)) / (h.std(1, keepdim=True) + 0.1), None),
    "layer_norm": (lambda h: F.layer_norm(h, (5,)), None),
    "local_response": (lambda h: F.local_response_norm(h[:, :, None], 3)[:, :, 0], None),
    "cumsum": (lambda h: h.cumsum(1), 1, "cumsum"),
    "cumprod": (lambda h: h.cumprod(1), 1, "cumprod"),
    "sorted": (lambda h: h.sort(1).values, None),
    "two_largest": (lambda h: h * (h >= h.topk(2, 1).values[:, 1:]), None),
    "argsorted": (lambda h: h.argsort(1).to(h), None),
    "argmax": (lambda h: h + h.argmax(1, keepdim=True), None),
    "median": (lambda h: h - h.median(1, keepdim=True).values, None),
    "flipped": (lambda h: h.relu().flip(1), None),
    "rolled": (lambda h: h.relu().roll(2, 1), None),
    "rolled_and_added": (lambda h: h.roll(2, 1) + h.relu(), None),
    "flipped_and_added": (lambda h: (h.flip(1) + h).relu(), None),
    "picked_by_list": (lambda h: h.relu()[:, [3, 1, 4, 0, 2]], None),
    "picked_twice": (lambda h: h.relu()[:, [3, 3, 4, 0, 2]], None),
    "every_other": (lambda h: torch.cat([h[:, ::2].relu(), h[:, 1::2].tanh()], 1), None),
    "one_left_out": (lambda h: F.pad(h[:, 1:].relu(), (1, 0)), None),
    "padded_with_one": (lambda h: F.pad(h[:, 1:].relu(), (0, 1), value=1.0), None),
    "two_kinds": (lambda h: torch.cat([F.gelu(h[:, :3]), h[:, 3:].relu()], 1), fac(3) * fac(2)),
    "two_kinds_by_split": (lambda h: torch.cat([f(p) for f, p in zip((F.gelu, torch.relu), h.split([3, 2], 1),
                                                                     strict=True)], 1), fac(3) * fac(2)),
    "two_kinds_swapped": (lambda h: torch.cat([h[:, 3:].relu(), F.gelu(h[:, :3])], 1), fac(3) * fac(2)),
    "narrowed": (lambda h: torch.cat([h.narrow(1, 0, 2).tanh(), h.narrow(1, 2, 3).relu()], 1), fac(2) * 4 * fac(3)),
    "unbound": (lambda h: torch.stack([part * (1 + place) for place, part in enumerate(h.relu().unbind(1))], 1), None),
    "set_first": (_set_first, None),
    "doubled_in_place": (_double_two, None),
    "doubled_in_place_late": (_double_two_late, None),
    "neighbours_in_place": (_add_neighbours, None),
    "through_a_view": (_through_a_view, None),
    "filled": (_filled, None),
    "into_empty": (_into_empty, None),
    "filled_from_scratch": (_filled_from_scratch, None),
    "scattered": (_scatter, None),
    "gathered": (lambda h: h.gather(1, torch.arange(5, device=h.device).flip(0).expand(h.shape[0], 5)).relu(), None),
    "plus_arange": (lambda h: (h + torch.arange(5, device=h.device)).relu(), None),
    "times_arange": (lambda h: h.relu() * torch.arange(5, device=h.device), None),
    "plus_ones": (lambda h: (h + torch.ones(5, device=h.device, dtype=h.dtype)).relu(), None),
    "eye": (lambda h: (h @ torch.eye(5, device=h.device, dtype=h.dtype)).relu(), None),
    "triangle": (lambda h: (h @ torch.ones(5, 5, device=h.device, dtype=h.dtype).tril()).relu(), None),
    "linspace": (lambda h: h * torch.linspace(0, 1, 5, device=h.device, dtype=h.dtype), None),
    "diagonal": (lambda h: torch.diag_embed(h).relu().sum(1), None),
    "gram": (_gram, None),
    "gram_of_halves": (lambda h: (h[:, :, None] * h.tanh()[:, None, :]).flatten(1).view(-1, 5, 5).amax(1), None),
    "batch_mean": (lambda h: (h - h.mean(0)).relu(), None),
    "batch_cumsum": (lambda h: h.cumsum(0).tanh(), None),
    "batch_mixed": (lambda h: (h @ h.t()).softmax(1) @ h, None),
    "transposed_twice": (lambda h: h.t().relu().t(), fac(5)),
    "outer_and_back": (lambda h: h[None].expand(3, -1, -1).sum(0).relu(), None),
    "repeated_and_summed": (lambda h: h.repeat(1, 2).view(-1, 2, 5).tanh().sum(1), None),
    "interleaved_and_summed": (lambda h: h.repeat_interleave(2, 1).view(-1, 5, 2).tanh().sum(2), None),
    "interleaved_and_mixed": (lambda h: h.repeat_interleave(2, 1).view(-1, 2, 5).tanh().sum(1), None),
    "fourier": (lambda h: torch.fft.fft(h, dim=1).real, None),
    "convolved": (lambda h: F.avg_pool1d(h[:, None], 3, 1, 1)[:, 0], None),
    "softmax_of_batch": (lambda h: h.softmax(0), None),
    "opaque": (lambda h: Opaque.apply(h), 1, "Opaque"),
    "opaque_cumsum": (lambda h: OpaqueCumsum.apply(h), 1, "OpaqueCumsum"),
    "opaque_by_another_name": (Opaque.apply, 1, "Opaque"),
    "opaque_cumsum_by_another_name": (OpaqueCumsum.apply, 1, "OpaqueCumsum"),
    "dropout": (lambda h: F.dropout(h.relu(), 0.5, training=False), fac(5)),
    "alpha_dropout": (lambda h: F.alpha_dropout(h.relu(), 0.5, training=False), fac(5)),
    "detached": (lambda h: h.detach().relu() + h - h.detach(), None),
    "addcmul": (lambda h: torch.addcmul(h, h.tanh(), h.sigmoid(), value=0.5), fac(5)),
    "lerp": (lambda h: torch.lerp(h, h.tanh(), 0.3), None),
    "hypot": (lambda h: torch.hypot(h, h.tanh()), None),
    "einsum": (lambda h: torch.einsum("bi,bi->bi", h, h.tanh()), None),
    "cosine": (lambda h: h * F.cosine_similarity(h, h.relu(), dim=1)[:, None], None),
    "batch_distance": (lambda h: torch.cdist(h, h).exp().mean(1, keepdim=True) * h, None),
    "complex_pairs": (lambda h: torch.view_as_real(torch.view_as_complex(torch.stack([h, h.tanh()], 2)) * 1j)[..., 0],
                      None),
    "quantile": (lambda h: h - h.quantile(0.3, dim=1, keepdim=True), None),
    "bucketed": (lambda h: torch.bucketize(h, torch.tensor([0.0, 0.5]).to(h)).to(h), None),
    "rms": (lambda h: F.rms_norm(h, (5,)), None),
    "renormed": (lambda h: torch.renorm(h, 2, 0, 0.5), None),
}  # fmt: skip


def _between(function: object, *known: object) -> Case:
    order, *pins = known
    return Case(
        lambda: Written(lambda m, x: m.last(function(m.first(x))), first=nn.Linear(3, 5), last=nn.Linear(5, 2)),
        ((3,),), order, tuple(pins),
    )  # fmt: skip


CASES = {name: _between(*entry) for name, entry in BETWEEN.items()}
