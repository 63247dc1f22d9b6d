"""Cases of attention: fused and apart, with and without biases, rotary positions, shared keys, masks, temperatures."""

from collections.abc import Callable
from dataclasses import replace
from math import factorial as fac
from typing import Any

import torch
import torch.nn.functional as F
from symmetry_cases import Case, Written
from torch import Tensor, nn

TOKENS, DIM, HEADS, SIZE = 5, 6, 2, 4
"""Tokens of `DIM` numbers, read by `HEADS` heads of `SIZE` each."""


def _heads(x: Tensor, heads: int = HEADS) -> Tensor:
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def _apart(
    change: Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]] = lambda m, q, k: (q, k),
    *,
    biases: str = "",
    mix: Callable[..., Tensor] | None = None,
    extra: Callable[[], dict[str, Any]] = dict,
    key_heads: int = HEADS,
) -> Case:
    """Queries, keys and values of three layers; `change` works on queries and keys, `mix` attends."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = _heads(m.q(x)), _heads(m.k(x), key_heads), _heads(m.v(x), key_heads)
        q, k = change(m, q, k)
        attend = mix or (lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v))
        return m.out(_joined(attend(m, q, k, v)))

    def build() -> nn.Module:
        wide, narrow = HEADS * SIZE, key_heads * SIZE
        sizes = {"q": (DIM, wide), "k": (DIM, narrow), "v": (DIM, narrow), "out": (wide, 3)}
        parts = {name: nn.Linear(*size, bias=name in biases.split()) for name, size in sizes.items()}
        return Written(forward, **parts, **extra())

    return Case(build, ((TOKENS, DIM),))


def _by_hand(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.transpose(2, 3)) * SIZE**-0.5).softmax(3) @ v


def _with_bias(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.transpose(2, 3)) * SIZE**-0.5 + m.table).softmax(3) @ v


def _talking(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Heads mix before the softmax (Shazeer et al. 2020)."""
    scores = torch.einsum("bhqk,hg->bgqk", q @ k.transpose(2, 3), m.mixing)
    return scores.softmax(3) @ v


def _linear(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k = F.elu(q) + 1, F.elu(k) + 1
    return (q @ (k.transpose(2, 3) @ v)) / (q @ k.sum(2)[:, :, :, None])


def _channels(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention between channels instead of tokens (XCiT)."""
    q, k = F.normalize(q, dim=2), F.normalize(k, dim=2)
    return ((q.transpose(2, 3) @ k) * m.temperature).softmax(3) @ v.transpose(2, 3)


def _channels_back(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _channels(m, q, k, v).transpose(2, 3)


def _rotary(x: Tensor) -> Tensor:
    angle = torch.arange(TOKENS, device=x.device, dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.3]).to(x)
    cos, sin = torch.cat([angle.cos()] * 2, 1), torch.cat([angle.sin()] * 2, 1)
    first, second = x.chunk(2, 3)
    return x * cos + torch.cat([-second, first], 3) * sin


def _rotary_interleaved(x: Tensor) -> Tensor:
    angle = torch.arange(TOKENS, device=x.device, dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.3]).to(x)
    pairs = x.unflatten(3, (2, 2))
    first, second = pairs[..., 0], pairs[..., 1]
    turned = [first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()]
    return torch.stack(turned, 4).flatten(3)


def _rotary_by_buffer(m: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, 3)
        return x * m.cos + torch.cat([-second, first], 3) * m.sin

    return turned(q), turned(k)


def _tables() -> dict[str, Tensor]:
    angle = torch.arange(TOKENS)[:, None] * torch.tensor([1.0, 0.3, 1.0, 0.3])
    return {"cos": angle.cos(), "sin": angle.sin()}


def _slopes(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each head its own constant slope (ALiBi), made in the forward pass."""
    places = torch.arange(TOKENS, device=q.device)
    slope = 0.5 ** torch.arange(1, HEADS + 1, device=q.device)
    distance = -(places[:, None] - places).abs() * slope[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=distance.to(q.dtype))


def _written_fused(parts: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], bias: bool) -> Case:
    """One layer for queries, keys and values; `parts` takes it apart to [B, heads, T, size]."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.out(_joined(_by_hand(m, *parts(m.qkv(x)))))

    return Case(
        lambda: Written(forward, qkv=nn.Linear(DIM, 3 * HEADS * SIZE, bias=bias), out=nn.Linear(HEADS * SIZE, 3)),
        ((TOKENS, DIM),),
    )


def _timm_parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.unflatten(2, (3, HEADS, SIZE)).permute(2, 0, 3, 1, 4).unbind(0)  # type: ignore[return-value]


def _heads_first_parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each head's queries, keys and values beside each other (GPT-NeoX)."""
    return _heads(x).chunk(3, 3)  # type: ignore[return-value]


def _interleaved_parts(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.unflatten(2, (HEADS, SIZE, 3)).permute(4, 0, 2, 1, 3).unbind(0)  # type: ignore[return-value]


def _torch_attention(**arguments: Any) -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.out(m.attention(x, x, x, need_weights=False)[0])

    attention = {"embed_dim": DIM, "num_heads": HEADS, "batch_first": True, **arguments}
    return Case(
        lambda: Written(forward, attention=nn.MultiheadAttention(**attention), out=nn.Linear(DIM, 3)),
        ((TOKENS, DIM),),
    )


def _pooled(m: Any, x: Tensor) -> Tensor:
    """A learned query (attention pooling)."""
    h = m.first(x)
    return m.out(F.scaled_dot_product_attention(m.query.expand(x.shape[0], 1, 8), m.k(h), m.v(h))[:, 0])


def _block(m: Any, x: Tensor) -> Tensor:
    h = m.embed(x)
    y = m.norm(h)
    q, k, v = _heads(m.q(y)), _heads(m.k(y)), _heads(m.v(y))
    h = h + m.out(_joined(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
    return m.head(h)


def _block_parts() -> dict[str, Any]:
    parts = {"embed": nn.Linear(DIM, 6), "norm": nn.LayerNorm(6), "out": nn.Linear(8, 6), "head": nn.Linear(6, 3)}
    return parts | {name: nn.Linear(6, 8) for name in "qkv"}


def _norm(shape: int, kind: type[nn.Module] = nn.RMSNorm) -> Callable[[], dict[str, Any]]:
    return lambda: {"q_norm": kind(shape), "k_norm": kind(shape)}


def _normed(m: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return m.q_norm(q), m.k_norm(k)


def _parameter(name: str, *shape: int) -> Callable[[], dict[str, Any]]:
    return lambda: {name: nn.Parameter(torch.randn(*shape))}


CASES = {
    "apart": _apart(),
    "apart_biases": _apart(biases="q k v out"),
    "apart_bias_of_keys": _apart(biases="k"),
    "apart_bias_of_queries": _apart(biases="q"),
    "by_hand": _apart(mix=_by_hand, biases="q k v out"),
    "causal": _apart(mix=lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
    "masked": _apart(mix=lambda m, q, k, v: F.scaled_dot_product_attention(
        q, k, v, attn_mask=torch.ones(TOKENS, TOKENS, dtype=torch.bool, device=q.device).tril())),
    "einsum": _apart(mix=lambda m, q, k, v: torch.einsum(
        "bhqk,bhkd->bhqd", torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(-1), v)),
    "sigmoid": _apart(mix=lambda m, q, k, v: (q @ k.transpose(2, 3)).sigmoid() @ v, biases="q k v out"),
    "without_softmax": _apart(mix=lambda m, q, k, v: q @ k.transpose(2, 3) @ v),
    "relu_of_values": _apart(mix=lambda m, q, k, v: _by_hand(m, q, k, v.relu())),
    "relu_after": _apart(mix=lambda m, q, k, v: _by_hand(m, q, k, v).relu()),
    "bias_table": _apart(mix=_with_bias, extra=_parameter("table", HEADS, TOKENS, TOKENS), biases="q k v out"),
    "bias_for_all_heads": _apart(mix=_with_bias, extra=_parameter("table", TOKENS, TOKENS)),
    "bias_buffer": _apart(mix=_with_bias, extra=lambda: {"table": torch.randn(HEADS, TOKENS, TOKENS)}),
    "slopes": _apart(mix=_slopes),
    "talking_heads": _apart(mix=_talking, extra=_parameter("mixing", HEADS, HEADS)),
    "linear_attention": _apart(mix=_linear),
    "channel_attention": _apart(mix=_channels_back, extra=_parameter("temperature", HEADS, 1, 1)),
    "temperatures": _apart(lambda m, q, k: (q * m.temperature, k), extra=_parameter("temperature", HEADS, 1, 1)),
    "cosine_attention": _apart(lambda m, q, k: (F.normalize(q, dim=3) * m.scale.exp(), F.normalize(k, dim=3)),
                               extra=_parameter("scale", HEADS, 1, 1)),
    "query_key_norm": _apart(_normed, extra=_norm(SIZE)),
    "query_key_layer_norm": _apart(_normed, extra=_norm(SIZE, nn.LayerNorm), biases="q k"),
    "norm_of_all_heads": _apart(lambda m, q, k: (_heads(m.q_norm(_joined(q))), _heads(m.k_norm(_joined(k)))),
                                extra=_norm(HEADS * SIZE)),
    "norm_of_values": _apart(mix=lambda m, q, k, v: _by_hand(m, q, k, m.norm(v)),
                             extra=lambda: {"norm": nn.LayerNorm(SIZE)}),
    "rotary": _apart(lambda m, q, k: (_rotary(q), _rotary(k))),
    "rotary_biases": _apart(lambda m, q, k: (_rotary(q), _rotary(k)), biases="q k v out"),
    "rotary_interleaved": _apart(lambda m, q, k: (_rotary_interleaved(q), _rotary_interleaved(k))),
    "rotary_by_buffer": _apart(_rotary_by_buffer, extra=_tables),
    "rotary_of_a_half": _apart(lambda m, q, k: (torch.cat([q[..., :2], _rotary(q)[..., 2:]], 3),
                                                torch.cat([k[..., :2], _rotary(k)[..., 2:]], 3))),
    "rotary_and_norm": _apart(lambda m, q, k: tuple(map(_rotary, _normed(m, q, k))), extra=_norm(SIZE)),
    "one_key_head": _apart(mix=lambda m, q, k, v: _by_hand(m, q, k.expand_as(q), v.expand_as(q)), key_heads=1),
    "one_key_head_grouped": _apart(mix=lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
                                   key_heads=1),
    "repeated_key_heads": _apart(mix=lambda m, q, k, v: _by_hand(m, q, k.repeat_interleave(2, 1),
                                                                 v.repeat_interleave(2, 1)), key_heads=1),
    "queries_are_keys": _apart(lambda m, q, k: (q, q)),
    "keys_are_values": _apart(mix=lambda m, q, k, v: _by_hand(m, q, k, k + v)),
    "queries_are_shared": _apart(lambda m, q, k: (q + q.flip(1), k)),
    "heads_rolled": _apart(lambda m, q, k: (q.roll(1, 1), k)),
    "heads_softmax": _apart(mix=lambda m, q, k, v: (q @ k.transpose(2, 3)).softmax(1) @ v),
    "second_head_only": _apart(mix=lambda m, q, k, v: torch.cat([v[:, :1], _by_hand(m, q, k, v)[:, 1:]], 1)),
    "fused_timm": _written_fused(_timm_parts, bias=True),
    "fused_heads_first": _written_fused(_heads_first_parts, bias=True),
    "fused_interleaved": _written_fused(_interleaved_parts, bias=False),
    "torch": _torch_attention(),
    "torch_bias_kv": _torch_attention(add_bias_kv=True),
    "torch_zero_attention": _torch_attention(add_zero_attn=True),
    "torch_plain": _torch_attention(bias=False),
    "torch_weights": Case(lambda: Written(lambda m, x: m.attention(x, x, x), attention=nn.MultiheadAttention(
        DIM, HEADS, batch_first=True)), ((TOKENS, DIM),)),
    "torch_cross": Case(lambda: Written(lambda m, x, y: m.attention(m.first(x), y, y, need_weights=False)[0],
                                        first=nn.Linear(3, DIM), attention=nn.MultiheadAttention(
        DIM, HEADS, batch_first=True, kdim=4, vdim=4)), ((TOKENS, 3), (7, 4))),
    "torch_decoder_layer": Case(lambda: Written(
        lambda m, x, y: m.head(m.layer(m.first(x), m.second(y))), first=nn.Linear(3, 8), second=nn.Linear(3, 8),
        layer=nn.TransformerDecoderLayer(8, 2, 10, batch_first=True), head=nn.Linear(8, 2)), ((5, 3), (4, 3))),
    "torch_transformer": Case(lambda: Written(
        lambda m, x, y: m.head(m.body(m.first(x), m.first(y))), first=nn.Linear(3, 8), head=nn.Linear(8, 2),
        body=nn.Transformer(8, 2, 1, 1, 10, batch_first=True, norm_first=True)), ((5, 3), (4, 3))),
    "learned_query": Case(lambda: Written(_pooled, first=nn.Linear(3, 6), k=nn.Linear(6, 8), v=nn.Linear(6, 8),
                                          out=nn.Linear(8, 2), query=nn.Parameter(torch.randn(1, 1, 8))), ((5, 3),)),
    "block": Case(lambda: Written(_block, **_block_parts()), ((TOKENS, DIM),)),
    "flattened_tokens": Case(lambda: Written(lambda m, x: m.last(m.first(x).relu().flatten(1)), first=nn.Linear(3, 4),
                                             last=nn.Linear(20, 2)), ((5, 3),)),
    "class_token": Case(lambda: Written(lambda m, x: m.last(torch.cat([m.token.expand(x.shape[0], 1, 4), m.first(x)], 1)
                                                            .tanh()[:, 0:3].sum(1)), first=nn.Linear(3, 4),
                                        token=nn.Parameter(torch.randn(1, 1, 4)), last=nn.Linear(4, 2)), ((5, 3),),
                        fac(4) * 2**4),
}  # fmt: skip

_VALUES = fac(SIZE) ** HEADS * 2 ** (HEADS * SIZE)
"""Renumberings and signs of the values of all heads, or of queries and keys together."""
_ALL = fac(HEADS) * _VALUES**2
_TORCH = fac(2) * (fac(3) * 2**3) ** 4

_ORDERS = {
    **dict.fromkeys(("apart", "apart_biases", "apart_bias_of_keys", "apart_bias_of_queries", "by_hand", "causal",
                     "masked", "einsum", "sigmoid", "bias_table", "bias_for_all_heads", "bias_buffer", "heads_rolled",
                     "heads_softmax", "fused_timm", "fused_heads_first", "fused_interleaved"), _ALL),
    **dict.fromkeys(("relu_of_values", "relu_after"), fac(HEADS) * _VALUES * fac(SIZE) ** HEADS),
    **dict.fromkeys(("torch", "torch_bias_kv", "torch_zero_attention", "torch_plain", "torch_cross"),
                    _TORCH * fac(6) * 2**6),
    "torch_weights": _TORCH,
    "block": _ALL * fac(6) * 2**6,
    "learned_query": (fac(8) * 2**8) ** 2 * fac(6) * 2**6,
    "flattened_tokens": fac(4),
}  # fmt: skip
CASES = {name: replace(case, order=_ORDERS.get(name, case.order)) for name, case in CASES.items()}
