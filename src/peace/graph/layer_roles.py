"""What a tensor is in its network, told from its name and shape alone."""

import re
from dataclasses import dataclass
from math import prod
from typing import Literal

Kind = Literal[
    "linear", "conv", "depthwise conv", "transposed conv", "recurrent", "fused qkv", "query", "key", "value",
    "attention output", "mlp", "embedding", "position table", "token", "head", "bias", "norm scale", "norm shift",
    "norm mean", "norm variance", "layer scale", "slope", "scalar", "vector", "tensor", "index",
]  # fmt: skip

CONVOLUTIONS: tuple[Kind, ...] = ("conv", "depthwise conv", "transposed conv")
"""The kinds that have taps."""

_TOKEN = re.compile(r"(cls|dist|class|mask|reg|register|query)_?(token|embedding)s?")
_POSITION = re.compile(r"pos(ition(al)?)?_?(emb\w*|ids|table|encoding|bias\w*)|wpe|rel(ative)?_pos\w*")
_FUSED = re.compile(r"qkv\w*|wqkv|c_attn|in_proj(_weight)?|query_key_value|to_qkv|kv(_proj)?|to_kv")
_SEPARATE = re.compile(r"(to_|w_?)?(q|k|v|query|key|value)(_?(proj|lin|linear|weight))?")
_ATTENTION = re.compile(r"\w*(attn|attention)\w*")
_ATTENTION_OUT = re.compile(r"(to_)?(c_|o_|out_)?(proj|projection|lin|out|output|dense|wo)(_?\d+)?")
_MLP = re.compile(r"(\w+_)?mlp\w*|ffn\w*|feed_?forward|intermediate|c_fc|(up|down|gate)_proj")
_EMBEDDING = re.compile(r"\w*embed(ding)?s?(_layer)?|wte|emb")
_HEAD = re.compile(r"\w*head\w*|\w*classifier\w*|logits?|lm_head|score|final_\w+|(action|value)_net")
_CONV = re.compile(r"weights?|\w*kernel|w|filters?|v?\d+|variable(_\d+)?|\w*conv\w*|depthwise")
_DEPTHWISE = re.compile(r"\w*depth_?wise\w*|dw_?(conv)?\d*|\w*_dconv")
_TRANSPOSED = re.compile(r"\w*(transpose|deconv)\w*")
_RECURRENT = re.compile(r"weight_(ih|hh|hr)(_l\d+)?(_reverse)?|recurrent_kernel")
_NORM = re.compile(r"\w*norm\w*|\w*bn\w*|ln_?\w*")
_SLOPE = re.compile(r"\w*(relu|alpha)\w*|act(ivation)?\d*")
_SCALE = re.compile(r"gamma(_?\d+)?|ls\d?|layer_?scale\w*|lambda\w*|scale")
_BIAS = re.compile(r"\w*bias(es|add)?|b|beta")


def words(name: str) -> list[str]:
    """Returns the parts of a tensor's name in lower case: those of its module's path, then its own."""
    return [part for part in re.split(r"[./;]", re.sub(r":\d+$", "", name).lower()) if part]


def matrix_kind(name: str, shape: tuple[int, ...], has_bias: bool) -> Kind:
    """Returns what a tensor of two or more dimensions is.

    Args:
        name: Its name.
        shape: Out, in, taps.
        has_bias: Whether a bias goes with it.
    """
    parts = words(name)

    def some(pattern: re.Pattern[str]) -> bool:
        return any(pattern.fullmatch(part) for part in parts)

    if some(_TOKEN) and not has_bias:
        return "token"
    if some(_POSITION) and not has_bias:
        return "position table"
    if some(_RECURRENT):
        return "recurrent"
    if len(shape) > 2:
        return _many_dimensions(parts, shape)
    if some(_FUSED):
        return "fused qkv"
    if any(separate := [match[2] for part in parts if (match := _SEPARATE.fullmatch(part))]):
        return {"q": "query", "k": "key", "v": "value"}[separate[-1][0]]
    if some(_ATTENTION) and some(_ATTENTION_OUT):
        return "attention output"
    if some(_MLP):
        return "mlp"
    if some(_HEAD) or parts[0] == "fc":
        return "head"
    return "embedding" if some(_EMBEDDING) and not has_bias else "linear"


def _many_dimensions(parts: list[str], shape: tuple[int, ...]) -> Kind:
    if not _CONV.fullmatch(parts[-1]):
        return "tensor"
    if any(_TRANSPOSED.fullmatch(part) for part in parts):
        return "transposed conv"
    return "depthwise conv" if any(_DEPTHWISE.fullmatch(part) for part in parts) else "conv"


def vector_kind(name: str, normalises: bool) -> Kind:
    """Returns what a tensor of one dimension is that is no layer's bias.

    Args:
        name: Its name.
        normalises: Whether its module has a scale and a shift, or running statistics.
    """
    parts = words(name)
    last = parts[-1]
    if re.fullmatch(r"(running|moving)_mean", last):
        return "norm mean"
    if re.fullmatch(r"(running|moving)_var(iance)?", last):
        return "norm variance"
    if any(_SLOPE.fullmatch(part) for part in parts):
        return "slope"
    if normalises or any(_NORM.fullmatch(part) for part in parts[:-1]):
        return "norm shift" if _BIAS.fullmatch(last) else "norm scale"
    if any(_SCALE.fullmatch(part) for part in parts):
        return "layer scale"
    return "bias" if _BIAS.fullmatch(last) else "vector"


@dataclass(frozen=True)
class TensorRole:
    """What one tensor is.

    Attributes:
        name: In the state dict.
        kind: What it does.
        order: Its dimensions in the order out, in, taps; none for what has fewer than two.
        n_out: Size of its out axis; 1 for a scalar.
        n_in: Size of its in axis; 1 for vectors and position tables.
        taps: Kernel positions, or the places of a position table.
        bias: The vector that is added to what it writes.
        owner: Of a bias: the tensor that it goes with.
    """

    name: str
    kind: Kind
    order: tuple[int, ...] = ()
    n_out: int = 1
    n_in: int = 1
    taps: tuple[int, ...] = ()
    bias: str | None = None
    owner: str | None = None

    @property
    def n_tap(self) -> int:
        """Number of taps."""
        return prod(self.taps)
