"""Cases of several layers: residual streams, gates, shared weights, recurrences, weights that are computed."""

from collections.abc import Callable
from math import factorial as fac
from typing import Any

import torch
import torch.nn.functional as F
from symmetry_cases import Case, Written
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm


def _case(
    forward: Callable[..., Any],
    parts: Callable[[], dict[str, Any]],
    *shapes: tuple[int, ...],
    order: int | None = None,
    words: int = 0,
) -> Case:
    return Case(lambda: Written(forward, **parts()), shapes, order, words=words)


def _sequential(*shape: int, order: int | None = None, of: Callable[[], list[nn.Module]]) -> Case:
    return Case(lambda: nn.Sequential(*of()), (shape,), order)


def _linears(**sizes: tuple[int, int]) -> Callable[[], dict[str, Any]]:
    return lambda: {name: nn.Linear(*size) for name, size in sizes.items()}


def _residual(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.last(h + m.narrow(m.widen(h).relu()))


def _rectified_residual(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).relu()
    return m.last((h + m.narrow(m.widen(h).relu())).relu())


def _dense(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).relu()
    h = torch.cat([h, m.second(h).tanh()], 1)
    h = torch.cat([h, m.third(h).relu()], 1)
    return m.last(h)


def _tied_twice(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).relu()
    return m.last(m.again(m.again(h).relu()).relu())


def _unrolled(m: Any, x: Tensor) -> Tensor:
    state, cell = torch.zeros(x.shape[0], 5).to(x), torch.zeros(x.shape[0], 5).to(x)
    for step in x.unbind(1):
        state, cell = m.cell(step, (state, cell))
    return m.last(state)


def _unrolled_gru(m: Any, x: Tensor) -> Tensor:
    state = x.new_zeros(x.shape[0], 5)
    for step in range(x.shape[1]):
        state = m.cell(x[:, step], state)
    return m.last(state)


def _experts(m: Any, x: Tensor) -> Tensor:
    h = torch.einsum("bi,eoi->beo", x, m.up).relu()
    return (torch.einsum("beo,eyo->bey", h, m.down) * m.gate(x).softmax(1)[:, :, None]).sum(1)


def _listed_experts(m: Any, x: Tensor) -> Tensor:
    outputs = torch.stack([m.one(x), m.two(x).relu()], 1)
    return m.last((outputs * m.gate(x).softmax(1)[:, :, None]).sum(1))


def _squeezed(m: Any, x: Tensor) -> Tensor:
    h = m.first(x).relu()
    return m.last(h * m.expand(m.squeeze(h).relu()).sigmoid())


def _collected(m: Any, x: Tensor) -> Tensor:
    outputs = []
    for layer in (m.first, m.second):
        x = layer(x).relu()
        outputs.append(x)
    return m.last(torch.stack(outputs, 1).amax(1))


def _hyper(m: Any, x: Tensor) -> Tensor:
    """A layer whose weights another layer computes."""
    weight = m.makes(x).view(-1, 5, 3)
    return m.last(torch.bmm(weight, x[:, :, None])[:, :, 0].relu())


def _factor(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


MLP = _linears(first=(3, 5), last=(5, 2))
STREAM = _linears(first=(3, 5), widen=(5, 7), narrow=(7, 5), last=(5, 2))
TWO = _linears(one=(3, 4), two=(3, 4), last=(4, 2))

CASES = {
    "two_outputs": _case(lambda m, x: (m.last(m.first(x).relu()), m.first(x)), MLP, (3,), order=1),
    "named_outputs": _case(lambda m, x: {"y": m.last(h := m.first(x).relu()), "size": h.sum(1)}, MLP, (3,)),
    "residual": _case(_residual, STREAM, (3,)),
    "rectified_residual": _case(_rectified_residual, STREAM, (3,), order=fac(5) * fac(7)),
    "residual_from_the_input": _case(lambda m, x: m.last(x + m.narrow(m.widen(x).tanh())),
                                     _linears(widen=(3, 6), narrow=(6, 3), last=(3, 2)), (3,), order=fac(6) * 2**6),
    "dense": _case(_dense, _linears(first=(3, 4), second=(4, 3), third=(7, 2), last=(9, 2)), (3,),
                   order=fac(4) * fac(3) * 2**3 * fac(2)),
    "doubled_by_concat": _case(lambda m, x: m.last(torch.cat([h := m.first(x).relu(), h], 1)),
                               _linears(first=(3, 5), last=(10, 2)), (3,), order=fac(5)),
    "concat_of_itself_and_its_square": _case(lambda m, x: m.last(torch.cat([h := m.first(x), h * h], 1)),
                                             _linears(first=(3, 5), last=(10, 2)), (3,)),
    "concat_with_the_input": _case(lambda m, x: m.last(torch.cat([x, m.first(x).tanh()], 1)),
                                   _linears(first=(3, 5), last=(8, 2)), (3,), order=fac(5) * 2**5),
    "stacked_and_summed": _case(lambda m, x: m.last(torch.stack([m.one(x).relu(), m.two(x).relu()]).sum(0)), TWO, (3,),
                                order=fac(4)),
    "sum_of_two": _case(lambda m, x: m.last(m.one(x).relu() + m.two(x).tanh()), TWO, (3,), order=fac(4)),
    "product_of_two": _case(lambda m, x: m.last(m.one(x) * m.two(x)), TWO, (3,), order=fac(4) * 2**8),
    "quotient_of_two": _case(lambda m, x: m.last(m.one(x) / (m.two(x).sigmoid() + 1)), TWO, (3,), order=fac(4) * 2**4),
    "maximum_of_two": _case(lambda m, x: m.last(torch.maximum(m.one(x), m.two(x))), TWO, (3,)),
    "minimum_of_three": _case(lambda m, x: m.last(torch.minimum(m.one(x), m.two(x)).relu() + m.one(x)), TWO, (3,)),
    "where_of_two": _case(lambda m, x: m.last(torch.where(m.one(x) > m.two(x), m.one(x), m.two(x))), TWO, (3,)),
    "outer_product": _case(lambda m, x: m.last((m.one(x)[:, :, None] * m.two(x)[:, None, :]).flatten(1)),
                           _linears(one=(3, 4), two=(3, 5), last=(20, 2)), (3,)),
    "outer_square": _case(lambda m, x: m.last(((h := m.one(x).relu())[:, :, None] * h[:, None, :]).flatten(1)),
                          _linears(one=(3, 4), last=(16, 2)), (3,)),
    "outer_sum": _case(lambda m, x: m.last((m.one(x)[:, :, None] + m.two(x)[:, None, :]).tanh().flatten(1)),
                       _linears(one=(3, 4), two=(3, 5), last=(20, 2)), (3,)),
    "dot_product": _case(lambda m, x: m.last((m.one(x) * m.two(x)).sum(1, keepdim=True) * m.one(x).relu()), TWO, (3,)),
    "matrix_of_hidden": _case(lambda m, x: m.last((m.one(x).view(-1, 2, 2) @ m.two(x).view(-1, 2, 2)).flatten(1)), TWO,
                              (3,)),
    "swiglu": _case(lambda m, x: m.last(F.silu(m.one(x)) * m.two(x)), TWO, (3,), order=fac(4) * 2**4),
    "fused_swiglu": _case(lambda m, x: m.last(F.silu((p := m.both(x).chunk(2, 1))[0]) * p[1]),
                          _linears(both=(3, 8), last=(4, 2)), (3,), order=fac(4) * 2**4),
    "glu": _case(lambda m, x: m.last(F.glu(m.both(x), 1)), _linears(both=(3, 8), last=(4, 2)), (3,),
                 order=fac(4) * 2**4),
    "gate_of_tanh": _case(lambda m, x: m.last(m.one(x).tanh() * m.two(x).sigmoid()), TWO, (3,), order=fac(4) * 2**4),
    "gate_of_relu": _case(lambda m, x: m.last(m.one(x).relu() * m.two(x)), TWO, (3,), order=fac(4) * 2**4),
    "gate_of_one": _case(lambda m, x: m.last(m.first(x).relu() * m.gate(x).sigmoid()),
                         _linears(first=(3, 5), gate=(3, 1), last=(5, 2)), (3,), order=fac(5)),
    "squeeze_and_excite": _case(_squeezed, _linears(first=(3, 6), squeeze=(6, 3), expand=(3, 6), last=(6, 2)), (3,),
                                order=fac(6) * fac(3)),
    "maxout": _case(lambda m, x: m.last(m.first(x).view(-1, 4, 3).amax(2)), _linears(first=(3, 12), last=(4, 2)), (3,),
                    order=fac(4) * fac(3) ** 4),
    "maxout_across": _case(lambda m, x: m.last(m.first(x).view(-1, 3, 4).amax(1)), _linears(first=(3, 12), last=(4, 2)),
                           (3,)),
    "collected": _case(_collected, _linears(first=(3, 5), second=(5, 5), last=(5, 2)), (3,), order=fac(5)),
    "shared_layer": _case(_tied_twice, _linears(first=(3, 5), again=(5, 5), last=(5, 2)), (3,), order=fac(5)),
    "shared_layer_of_inputs": _case(lambda m, x, y: m.last(m.first(x).relu() + m.first(y).tanh()), MLP, (3,), (3,),
                                    order=fac(5)),
    "siamese_difference": _case(lambda m, x, y: m.last((m.first(x) - m.first(y)).abs()), MLP, (3,), (3,)),
    "siamese_dot": _case(lambda m, x, y: (m.first(x) * m.first(y)).sum(1), MLP, (3,), (3,)),
    "siamese_distance": _case(lambda m, x, y: F.pairwise_distance(m.first(x).relu(), m.first(y).relu()), MLP, (3,),
                              (3,)),
    "transposed_weight": _case(lambda m, x: F.linear(m.first(x).relu(), m.first.weight.t()), _linears(first=(3, 5)),
                               (3,), order=fac(5)),
    "transposed_weight_of_tanh": _case(lambda m, x: F.linear(m.first(x).tanh(), m.first.weight.t()),
                                       _linears(first=(3, 5)), (3,), order=fac(5) * 2**5),
    "weight_as_bias": _case(lambda m, x: m.last((m.first(x) + m.last.weight.sum(0)).relu()), MLP, (3,)),
    "sliced_weight": _case(lambda m, x: F.linear(F.linear(x, m.first.weight[:3]).relu(), m.last.weight[:, :3]), MLP,
                           (3,)),
    "one_weight_in_two_slices": _case(lambda m, x: F.linear(F.linear(x, m.all[:5]).relu(), m.all[5:].t()),
                                      lambda: {"all": _factor(10, 3)}, (3,)),
    "joined_weights": _case(lambda m, x: m.last(F.linear(x, torch.cat([m.one.weight, m.two.weight])).relu()),
                            _linears(one=(3, 2), two=(3, 3), last=(5, 2)), (3,)),
    "flipped_weight": _case(lambda m, x: F.linear(m.first(x).relu(), m.last.weight.flip(1)), MLP, (3,)),
    "weight_of_absolutes": _case(lambda m, x: F.linear(m.first(x).relu(), m.last.weight.abs()), MLP, (3,)),
    "weight_of_softmax": _case(lambda m, x: F.linear(m.first(x).relu(), m.last.weight.softmax(1)), MLP, (3,)),
    "weight_of_cumsum": _case(lambda m, x: F.linear(m.first(x).relu(), m.last.weight.cumsum(1)), MLP, (3,)),
    "weight_normalised": _case(lambda m, x: F.linear(m.first(x).relu(), F.normalize(m.last.weight, dim=1)), MLP, (3,)),
    "weight_standardised": _case(
        lambda m, x: m.last(F.linear(x, (w := m.first.weight) - w.mean(1, True) / w.std(1, keepdim=True)).relu()), MLP,
        (3,)),
    "weight_times_mask": _case(lambda m, x: F.linear(m.first(x).relu(), m.last.weight * m.mask),
                               lambda: {**MLP(), "mask": (torch.arange(10) % 3 > 0).float().view(2, 5)}, (3,)),
    "low_rank_addition": _case(lambda m, x: m.last((m.first(x) + x @ m.a @ m.b).relu()),
                               lambda: {**MLP(), "a": _factor(3, 2), "b": _factor(2, 5)}, (3,)),
    "weight_norm": _sequential(3, of=lambda: [weight_norm(nn.Linear(3, 5)), nn.ReLU(), weight_norm(nn.Linear(5, 2))]),
    "spectral_norm": _sequential(3, of=lambda: [spectral_norm(nn.Linear(3, 5)), nn.ReLU(), nn.Linear(5, 2)]),
    "orthogonal": _sequential(4, of=lambda: [orthogonal(nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 2)]),
    "linear_linear": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.Linear(5, 2)]),
    "deep_linear": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)]),
    "low_rank": _sequential(3, of=lambda: [nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2), nn.Linear(2, 6), nn.Tanh(),
                                           nn.Linear(6, 2)]),
    "square_everywhere": _sequential(5, of=lambda: [nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5), nn.Tanh(),
                                                    nn.Linear(5, 5)], order=fac(5) * fac(5) * 2**5),
    "without_biases": _sequential(3, of=lambda: [nn.Linear(3, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)],
                                  order=fac(5)),
    "bilinear": _case(lambda m, x: m.last(m.form(m.first(x).tanh(), m.first(x).relu())),
                      lambda: {**_linears(first=(3, 5), last=(4, 2))(), "form": nn.Bilinear(5, 5, 4)}, (3,)),
    "prelu": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.PReLU(5), nn.Linear(5, 2)], order=fac(5)),
    "prelu_of_one": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.PReLU(), nn.Linear(5, 2)], order=fac(5)),
    "batch_norm": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)],
                              order=fac(5) * 2**5),
    "batch_norm_of_tanh": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)],
                                      order=fac(5) * 2**10),
    "batch_norm_after": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 2)],
                                    order=fac(5) * 2**5),
    "batch_norm_plain": _sequential(3, of=lambda: [nn.Linear(3, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU(),
                                                   nn.Linear(5, 2)]),
    "batch_norm_without_statistics": _sequential(
        4, 6, of=lambda: [nn.Conv1d(4, 5, 1), nn.BatchNorm1d(5, track_running_stats=False), nn.ReLU(),
                          nn.Conv1d(5, 2, 1)]),
    "batch_norm_of_the_input": _sequential(3, of=lambda: [nn.BatchNorm1d(3), nn.Linear(3, 5), nn.ReLU(),
                                                          nn.Linear(5, 2)]),
    "layer_norm": _sequential(3, of=lambda: [nn.Linear(3, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)],
                              order=fac(6)),
    "layer_norm_plain": _sequential(3, of=lambda: [nn.Linear(3, 6), nn.LayerNorm(6, elementwise_affine=False),
                                                   nn.GELU(), nn.Linear(6, 2)], order=fac(6)),
    "layer_norm_linear": _sequential(3, of=lambda: [nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 2)],
                                     order=fac(6) * 2**6),
    "rms_norm": _sequential(3, of=lambda: [nn.Linear(3, 6), nn.RMSNorm(6), nn.GELU(), nn.Linear(6, 2)]),
    "group_norm": _sequential(3, of=lambda: [nn.Linear(3, 6), nn.GroupNorm(2, 6), nn.GELU(), nn.Linear(6, 2)],
                              order=2 * fac(3) ** 2),
    "token_mixing": _case(lambda m, x: m.last((x := m.first(x) + m.across(x.mT).mT).tanh() + x),
                          _linears(first=(3, 3), across=(5, 5), last=(3, 2)), (5, 3)),
    "mixer": _case(lambda m, x: m.last((h := m.first(x)) + m.back(m.across(h.transpose(1, 2)).relu()).transpose(1, 2)),
                   _linears(first=(3, 4), across=(5, 6), back=(6, 5), last=(4, 2)), (5, 3)),
    "scalar_parameters": _case(lambda m, x: m.last((m.first(x) * m.scale).relu() * m.scale + m.shift),
                               lambda: {**MLP(), "scale": _factor(1), "shift": _factor(())}, (3,), order=fac(5)),
    "layer_scale": _case(lambda m, x: m.last(m.first(x).relu() * m.scale),
                         lambda: {**MLP(), "scale": _factor(5)}, (3,)),
    "embedding": _case(lambda m, x: m.last(m.embed(x).mean(1).tanh()),
                       lambda: {"embed": nn.Embedding(11, 6), "last": nn.Linear(6, 2)}, (4,), words=11),
    "embedding_bag": _case(lambda m, x: m.last(m.embed(x).relu()),
                           lambda: {"embed": nn.EmbeddingBag(11, 6), "last": nn.Linear(6, 2)}, (4,), words=11),
    "embedding_of_positions": _case(
        lambda m, x: m.last((m.embed(x) + m.place(torch.arange(4, device=x.device))).relu()),
        lambda: {"embed": nn.Embedding(11, 6), "place": nn.Embedding(4, 6), "last": nn.Linear(6, 2)}, (4,), words=11,
        order=fac(6)),
    "embedding_tied_head": _case(lambda m, x: F.linear(m.middle(m.embed(x)).relu(), m.embed.weight),
                                 lambda: {"embed": nn.Embedding(11, 6), "middle": nn.Linear(6, 6)}, (4,), words=11),
    "one_hot": _case(lambda m, x: m.last(m.first(F.one_hot(x, 11).to(m.first.weight.dtype)).relu()),
                     _linears(first=(11, 5), last=(5, 2)), (4,), words=11, order=fac(5)),
    "lstm_cell": _case(_unrolled, lambda: {"cell": nn.LSTMCell(3, 5), "last": nn.Linear(5, 2)}, (4, 3),
                       order=fac(5) * 2**5),
    "gru_cell": _case(_unrolled_gru, lambda: {"cell": nn.GRUCell(3, 5), "last": nn.Linear(5, 2)}, (4, 3)),
    "rnn_tanh": _case(lambda m, x: m.last(m.cell(x)[0][:, -1]),
                      lambda: {"cell": nn.RNN(3, 5, batch_first=True), "last": nn.Linear(5, 2)}, (4, 3)),
    "rnn_relu": _case(lambda m, x: m.last(m.cell(x)[1][-1]),
                      lambda: {"cell": nn.RNN(3, 5, 2, "relu", batch_first=True), "last": nn.Linear(5, 2)}, (4, 3)),
    "lstm_both_ways": _case(lambda m, x: m.last(m.cell(x)[0].relu().mean(1)),
                            lambda: {"cell": nn.LSTM(3, 5, 2, batch_first=True, bidirectional=True),
                                     "last": nn.Linear(10, 2)}, (4, 3)),
    "lstm_projected": _case(lambda m, x: m.last(m.cell(x)[0].mean(1)),
                            lambda: {"cell": nn.LSTM(3, 6, 2, batch_first=True, proj_size=4), "last": nn.Linear(4, 2)},
                            (4, 3)),
    "lstm_states_out": _case(lambda m, x: m.cell(x)[1][0], lambda: {"cell": nn.LSTM(3, 5, batch_first=True)}, (4, 3)),
    "gru_over_hidden": _case(lambda m, x: m.last(m.cell(m.first(x).relu())[0].flatten(1)),
                             lambda: {"first": nn.Linear(3, 6), "cell": nn.GRU(6, 5, batch_first=True, bias=False),
                                      "last": nn.Linear(20, 2)}, (4, 3)),
    "experts": _case(_experts, lambda: {"up": _factor(4, 5, 3), "down": _factor(4, 2, 5), "gate": nn.Linear(3, 4)},
                     (3,)),
    "listed_experts": _case(_listed_experts, _linears(one=(3, 5), two=(3, 5), gate=(3, 2), last=(5, 2)), (3,),
                            order=fac(5)),
    "computed_weights": _case(_hyper, _linears(makes=(3, 15), last=(5, 2)), (3,)),
}  # fmt: skip
