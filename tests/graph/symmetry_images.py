"""Cases of convolutions: groups, shuffles, pooling, padding, flattening, normalisation."""

from collections.abc import Callable
from math import factorial as fac
from typing import Any

import torch
import torch.nn.functional as F
from symmetry_cases import Case, Written
from torch import Tensor, nn


def _between(function: Callable[[Tensor], Tensor], order: int | None = None, after: int = 8) -> Case:
    """Eight channels of 6x6 between two convolutions; `after` channels arrive."""
    return Case(
        lambda: Written(lambda m, x: m.last(function(m.first(x))), first=nn.Conv2d(3, 8, 3, padding=1),
                        last=nn.Conv2d(after, 2, 1)),
        ((3, 6, 6),), order,
    )  # fmt: skip


def _flat(function: Callable[[Tensor], Tensor], features: int, order: int | None = None) -> Case:
    """Eight channels of 6x6, and a linear layer of what the function makes of them."""
    return Case(
        lambda: Written(lambda m, x: m.last(function(m.first(x))), first=nn.Conv2d(3, 8, 3, padding=1),
                        last=nn.Linear(features, 2)),
        ((3, 6, 6),), order,
    )  # fmt: skip


def _layers(order: int | None, of: Callable[[], list[nn.Module]], *shape: int) -> Case:
    return Case(lambda: nn.Sequential(*of()), (shape or (3, 6, 6),), order)


def _shuffled(h: Tensor) -> Tensor:
    return h.view(-1, 2, 4, 6, 6).transpose(1, 2).reshape(-1, 8, 6, 6)


def _space_to_depth(h: Tensor) -> Tensor:
    return torch.cat([h[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)


def _attention_of_places(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).relu()
    mask = m.mask(torch.cat([h.mean(1, keepdim=True), h.amax(1, keepdim=True)], 1)).sigmoid()
    return m.last(h * mask)


def _attention_of_channels(m: Any, x: Tensor) -> Tensor:
    """A convolution over the channels themselves."""
    h = m.first(x).relu()
    gate = m.across(h.mean((2, 3))[:, None]).sigmoid()[:, 0]
    return m.last(h * gate[:, :, None, None])


def _residual_down(m: Any, x: Tensor) -> Tensor:
    h = m.norm0(m.first(x)).relu()
    h = (m.norm1(m.down(h)) + m.norm2(m.side(h))).relu()
    return m.last(h.mean((2, 3)))


def _padded_residual(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).relu()
    h = (F.pad(h, (0, 0, 0, 0, 2, 2)) + m.wide(h)).relu()
    return m.last(h)


def _channels_last_norm(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).permute(0, 2, 3, 1)
    return m.last(m.norm(h).permute(0, 3, 1, 2))


def _correlation(m: Any, x: Tensor) -> Tensor:
    a, b = m.first(x).relu().flatten(2), m.last(x).tanh().flatten(2)
    return (a @ b.transpose(1, 2)).sum(1)


def _parted(m: Any, x: Tensor) -> Tensor:
    """CSP and Res2Net: a part of the channels goes on, the rest joins later."""
    h = m.first(x).relu()
    going, waiting = h.split([3, 5], 1)
    return m.last(torch.cat([m.middle(going).relu() + going, waiting], 1))


CASES = {
    "relu": _between(torch.relu, fac(8)),
    "pooled_maximum": _between(lambda h: F.max_pool2d(h.relu(), 2), fac(8)),
    "pooled_maximum_of_tanh": _between(lambda h: F.max_pool2d(h.tanh(), 2), fac(8)),
    "pooled_mean_of_tanh": _between(lambda h: F.avg_pool2d(h.tanh(), 2), fac(8) * 2**8),
    "pooled_norm": _between(lambda h: F.lp_pool2d(h.relu(), 2, 2), None),
    "pooled_adaptively": _between(lambda h: F.adaptive_avg_pool2d(h.relu(), 3), fac(8)),
    "pooled_with_places": _between(lambda h: F.max_unpool2d(*F.max_pool2d(h.relu(), 2, return_indices=True), 2), None),
    "interpolated": _between(lambda h: F.interpolate(h.relu(), scale_factor=2, mode="bilinear"), fac(8)),
    "interpolated_nearest": _between(lambda h: F.interpolate(h.tanh(), scale_factor=2), fac(8) * 2**8),
    "upsampled_bicubic": _between(lambda h: F.interpolate(h.tanh(), size=9, mode="bicubic"), None),
    "reflected": _between(lambda h: F.pad(h.relu(), (1, 1, 1, 1), mode="reflect"), None),
    "replicated": _between(lambda h: F.pad(h.relu(), (1, 1, 1, 1), mode="replicate"), None),
    "circular": _between(lambda h: F.pad(h.relu(), (1, 1, 1, 1), mode="circular"), None),
    "padded_with_one": _between(lambda h: F.pad(h.relu(), (1, 1, 1, 1), value=1.0), fac(8)),
    "padded_channels": _between(lambda h: F.pad(h.relu(), (0, 0, 0, 0, 1, 2)), fac(8) * fac(2) * 2**3, 11),
    "shuffled": _between(lambda h: _shuffled(h).relu(), None),
    "shuffled_and_added": _between(lambda h: _shuffled(h).relu() + h, None),
    "channel_shuffle": _between(lambda h: F.channel_shuffle(h.relu(), 2), None),
    "pixel_shuffled": _between(lambda h: F.pixel_shuffle(h.relu(), 2), fac(2), 2),
    "pixel_unshuffled": _between(lambda h: F.pixel_unshuffle(h.relu(), 2), fac(8), 32),
    "space_to_depth": _between(lambda h: _space_to_depth(h.relu()), fac(8), 32),
    "rolled": _between(lambda h: h.relu().roll((1, 2), (2, 3)), fac(8)),
    "flipped": _between(lambda h: h.relu().flip(3) + h.flip(2), fac(8)),
    "rotated": _between(lambda h: h.relu().rot90(1, (2, 3)), fac(8)),
    "transposed": _between(lambda h: h.relu().transpose(2, 3) + h, fac(8)),
    "temporal_shift": _between(lambda h: torch.cat([h[:, :2].roll(1, 0), h[:, 2:4].roll(-1, 0), h[:, 4:]], 1).relu(),
                               None),
    "unfolded": _between(lambda h: F.fold(F.unfold(h.relu(), 2, stride=2), 6, 2, stride=2), None),
    "unfolded_patches": _between(lambda h: h.unfold(2, 2, 2).unfold(3, 2, 2).tanh().mean((4, 5)), None),
    "misread": _between(lambda h: h.relu().reshape(-1, 6, 6, 8).permute(0, 3, 1, 2), None),
    "misread_and_added": _between(lambda h: h.relu().reshape(-1, 6, 8, 6).transpose(1, 2) + h, None),
    "softmax_of_places": _between(lambda h: h * h.flatten(2).softmax(2).view_as(h), fac(8)),
    "softmax_of_channels": _between(lambda h: h.softmax(1), fac(8)),
    "normalised_channels": _between(lambda h: F.normalize(h, dim=1), None),
    "squared_channels": _between(lambda h: h.relu().square(), None),
    "cumsum_of_places": _between(lambda h: h.relu().cumsum(2), None),
    "instance_norm_plain": _between(lambda h: F.instance_norm(h).relu(), None),
    "grid_sampled": _between(lambda h: F.grid_sample(h.relu(), F.affine_grid(
        torch.eye(2, 3, dtype=h.dtype)[None].expand(h.shape[0], 2, 3).to(h.device), list(h.shape), align_corners=False,
    ), align_corners=False), None),
    "flattened": _flat(lambda h: h.relu().flatten(1), 288, fac(8)),
    "flattened_tanh": _flat(lambda h: F.avg_pool2d(h, 2).tanh().flatten(1), 72, fac(8) * 2**8),
    "flattened_channels_last": _flat(lambda h: h.relu().permute(0, 2, 3, 1).flatten(1), 288, fac(8)),
    "flattened_mixed": _flat(lambda h: h.relu().permute(0, 2, 1, 3).reshape(-1, 288), 288, fac(8)),
    "global_mean": _flat(lambda h: h.relu().mean((2, 3)), 8, fac(8)),
    "global_maximum": _flat(lambda h: h.relu().amax((2, 3)), 8, fac(8)),
    "global_mean_and_maximum": _flat(lambda h: torch.cat([h.relu().mean((2, 3)), h.relu().amax((2, 3))], 1),
                                     16, fac(8)),
    "generalised_mean": _flat(lambda h: h.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3), 8, None),
    "argmax_of_places": _flat(lambda h: h.relu().flatten(2).argmax(2).to(h), 8, None),
    "covariance": _flat(lambda h: (h.flatten(2) @ h.flatten(2).transpose(1, 2)).flatten(1), 64, None),
    "pyramid": _flat(lambda h: torch.cat([F.adaptive_max_pool2d(h.relu(), n).flatten(1) for n in (1, 2)], 1),
                     40, fac(8)),
    "grouped": _layers(fac(2) * fac(4) ** 4, lambda: [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2),
                                                      nn.ReLU(), nn.Conv2d(8, 2, 1)]),
    "grouped_wider": _layers(None, lambda: [nn.Conv2d(3, 4, 1), nn.Tanh(), nn.Conv2d(4, 12, 3, groups=2), nn.ReLU(),
                                            nn.Conv2d(12, 2, 1)]),
    "grouped_twice": _layers(None, lambda: [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2), nn.ReLU(),
                                            nn.Conv2d(8, 8, 1, groups=4), nn.ReLU(), nn.Conv2d(8, 2, 1)]),
    "grouped_at_odds": _layers(None, lambda: [nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=2), nn.ReLU(),
                                              nn.Conv2d(6, 6, 1, groups=3), nn.ReLU(), nn.Conv2d(6, 2, 1)]),
    "grouped_from_the_input": _layers(None, lambda: [nn.Conv2d(4, 8, 1, groups=2), nn.ReLU(), nn.Conv2d(8, 2, 1)],
                                      4, 6, 6),
    "grouped_to_the_output": _layers(None, lambda: [nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1, groups=2)],
                                     4, 6, 6),
    "grouped_and_shuffled": Case(lambda: Written(
        lambda m, x: m.last(m.two(_shuffled(m.one(m.first(x)).relu())).relu()), first=nn.Conv2d(3, 8, 1),
        one=nn.Conv2d(8, 8, 1, groups=2), two=nn.Conv2d(8, 8, 1, groups=4), last=nn.Conv2d(8, 2, 1)), ((3, 6, 6),)),
    "depthwise": _layers(fac(6), lambda: [nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU(),
                                          nn.Conv2d(6, 2, 1)]),
    "depthwise_tanh": _layers(fac(6) * 2**12, lambda: [nn.Conv2d(3, 6, 1), nn.Tanh(), nn.Conv2d(6, 6, 3, groups=6),
                                                       nn.Tanh(), nn.Conv2d(6, 2, 1)]),
    "depthwise_doubled": _layers(fac(4) * 2**4, lambda: [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4),
                                                         nn.ReLU(), nn.Conv2d(8, 2, 1)]),
    "depthwise_of_the_input": _layers(None, lambda: [nn.Conv2d(3, 6, 3, groups=3), nn.ReLU(), nn.Conv2d(6, 2, 1)]),
    "transposed_convolution": _layers(fac(6), lambda: [nn.Conv2d(3, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 2, 2, 2)]),
    "transposed_grouped": _layers(fac(2) * fac(3) ** 2 * fac(2) ** 2, lambda: [
        nn.Conv2d(3, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 1)]),
    "one_dimension": _layers(fac(6) * 2**6, lambda: [nn.Conv1d(3, 6, 3, dilation=2), nn.Tanh(), nn.Conv1d(6, 2, 2)],
                             3, 9),
    "three_dimensions": _layers(fac(6), lambda: [nn.Conv3d(2, 6, 2, padding=1), nn.ReLU(), nn.MaxPool3d(2),
                                                 nn.ConvTranspose3d(6, 2, 2)], 2, 4, 4, 4),
    "reflecting_convolution": _layers(fac(6), lambda: [nn.Conv2d(3, 6, 1), nn.ReLU(),
                                                       nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect")]),
    "flatten_and_unflatten": _layers(None, lambda: [nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(144, 72),
                                                    nn.ReLU(), nn.Unflatten(1, (2, 6, 6)), nn.Conv2d(2, 2, 1)]),
    "batch_norm": _layers(fac(6) * 2**6, lambda: [nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(),
                                                  nn.Conv2d(6, 2, 1)]),
    "group_norm": _layers(fac(2) * fac(3) ** 2, lambda: [nn.Conv2d(3, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(),
                                                         nn.Conv2d(6, 2, 1)]),
    "group_norm_of_all": _layers(fac(6), lambda: [nn.Conv2d(3, 6, 1), nn.GroupNorm(1, 6), nn.ReLU(),
                                                  nn.Conv2d(6, 2, 1)]),
    "instance_norm": _layers(None, lambda: [nn.Conv2d(3, 6, 1), nn.InstanceNorm2d(6, affine=True), nn.ReLU(),
                                            nn.Conv2d(6, 2, 1)]),
    "instance_norm_tracking": _layers(None, lambda: [nn.Conv2d(3, 6, 1), nn.InstanceNorm2d(6, affine=True,
        track_running_stats=True), nn.ReLU(), nn.Conv2d(6, 2, 1)]),
    "layer_norm_of_all": _layers(fac(6), lambda: [nn.Conv2d(3, 6, 1), nn.LayerNorm((6, 6, 6)), nn.ReLU(),
                                                  nn.Conv2d(6, 2, 1)]),
    "layer_norm_of_places": _layers(None, lambda: [nn.Conv2d(3, 6, 1), nn.LayerNorm((6, 6)), nn.ReLU(),
                                                   nn.Conv2d(6, 2, 1)]),
    "layer_norm_of_channels": Case(lambda: Written(_channels_last_norm, first=nn.Conv2d(3, 6, 1), norm=nn.LayerNorm(6),
                                                   last=nn.Conv2d(6, 2, 1)), ((3, 6, 6),), fac(6) * 2**6),
    "attention_of_places": Case(lambda: Written(_attention_of_places, first=nn.Conv2d(3, 6, 1), mask=nn.Conv2d(2, 1, 3,
                                padding=1), last=nn.Conv2d(6, 2, 1)), ((3, 6, 6),)),
    "attention_of_channels": Case(lambda: Written(
        _attention_of_channels, first=nn.Conv2d(3, 6, 1), last=nn.Conv2d(6, 2, 1),
        across=nn.Conv1d(1, 1, 3, padding=1)),
        ((3, 6, 6),)),
    "residual_down": Case(lambda: Written(
        _residual_down, first=nn.Conv2d(3, 4, 1), norm0=nn.BatchNorm2d(4), down=nn.Conv2d(4, 6, 3, 2, 1),
        norm1=nn.BatchNorm2d(6), side=nn.Conv2d(4, 6, 1, 2), norm2=nn.BatchNorm2d(6), last=nn.Linear(6, 2)),
        ((3, 6, 6),), fac(4) * 2**4 * fac(6) * 2**12),
    "padded_residual": Case(lambda: Written(_padded_residual, first=nn.Conv2d(3, 4, 1), wide=nn.Conv2d(4, 8, 1),
                                            last=nn.Conv2d(8, 2, 1)), ((3, 6, 6),)),
    "correlation": Case(lambda: Written(_correlation, first=nn.Conv2d(3, 4, 1), last=nn.Conv2d(3, 5, 1)), ((3, 6, 6),)),
    "parted": Case(lambda: Written(_parted, first=nn.Conv2d(3, 8, 1), middle=nn.Conv2d(3, 3, 3, padding=1),
                                   last=nn.Conv2d(8, 2, 1)), ((3, 6, 6),), fac(3) * fac(5)),
}  # fmt: skip
