"""The layer reading: what each tensor is, and that layer-wise encoders do not see the order of its axes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from peace.encoders.layer_gnn import LayerGNN
from peace.errors import InputError
from peace.graph.families.candidate import on_meta
from peace.graph.layer_reading import LayerReading, read_layers
from peace.graph.layer_roles import TensorRole
from peace.zoo.checkpoint import open_checkpoint

DATA = os.environ.get("PEACE_DATA")


def read(**shapes: tuple[int, ...]) -> LayerReading:
    """The reading of tensors of these shapes; `__` stands for a dot, `_I` at the end for integers."""
    return read_layers({name: torch.empty(shape, device="meta") for name, shape in dotted(shapes).items()})


def dotted(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {name.replace("__", "."): shape for name, shape in shapes.items()}


def kinds(reading: LayerReading) -> dict[str, str]:
    return {role.name: role.kind for role in reading.roles}


def role(reading: LayerReading, name: str) -> TensorRole:
    return next(role for role in reading.roles if role.name == name)


def of_timm(name: str) -> LayerReading:
    return read_layers(on_meta(timm.create_model, name).state_dict())


def test_a_vision_transformer() -> None:
    reading = of_timm("vit_tiny_patch16_224")
    block = {name.removeprefix("blocks.3."): kind for name, kind in kinds(reading).items() if "blocks.3." in name}
    assert block == {
        "norm1.weight": "norm scale", "norm1.bias": "norm shift", "attn.qkv.weight": "fused qkv",
        "attn.qkv.bias": "bias", "attn.proj.weight": "attention output", "attn.proj.bias": "bias",
        "norm2.weight": "norm scale", "norm2.bias": "norm shift", "mlp.fc1.weight": "mlp", "mlp.fc1.bias": "bias",
        "mlp.fc2.weight": "mlp", "mlp.fc2.bias": "bias",
    }  # fmt: skip
    assert {name: kind for name, kind in kinds(reading).items() if "blocks" not in name} == {
        "cls_token": "token", "pos_embed": "position table", "patch_embed.proj.weight": "conv",
        "patch_embed.proj.bias": "bias", "norm.weight": "norm scale", "norm.bias": "norm shift",
        "head.weight": "head", "head.bias": "bias",
    }  # fmt: skip
    table = role(reading, "pos_embed")
    assert (table.n_out, table.n_in, table.taps, table.order) == (192, 1, (197,), (2, 0, 1))
    patches = role(reading, "patch_embed.proj.weight")
    assert (patches.n_out, patches.n_in, patches.taps, patches.bias) == (192, 3, (16, 16), "patch_embed.proj.bias")
    assert role(reading, "patch_embed.proj.bias").owner == "patch_embed.proj.weight"
    assert reading.layouts == ("OIHW", "OIHW")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenetv3_small_050", {"depthwise conv": 11, "norm mean": 34, "norm variance": 34, "index": 34, "head": 1}),
        ("convnext_atto", {"depthwise conv": 12, "layer scale": 12, "conv": 28, "head": 1}),
        ("swin_tiny_patch4_window7_224", {"fused qkv": 12, "attention output": 12, "position table": 12, "mlp": 24}),
        ("resnet18", {"conv": 20, "head": 1, "norm scale": 20, "norm shift": 20, "index": 20, "bias": 1}),
        ("mixer_s32_224", {"mlp": 32, "conv": 1, "head": 1, "norm scale": 17}),
    ],
)
def test_how_many_tensors_of_each_kind_a_model_has(name: str, expected: dict[str, int]) -> None:
    found = of_timm(name).kinds
    assert {kind: found.get(kind, 0) for kind in expected} == expected


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("bert.encoder.layer.0.attention.self.query.weight", (8, 8), "query"),
        ("bert.encoder.layer.0.attention.self.key.weight", (8, 8), "key"),
        ("bert.encoder.layer.0.attention.self.value.weight", (8, 8), "value"),
        ("bert.encoder.layer.0.attention.output.dense.weight", (8, 8), "attention output"),
        ("bert.encoder.layer.0.attention.output.LayerNorm.weight", (8,), "norm scale"),
        ("bert.encoder.layer.0.intermediate.dense.weight", (32, 8), "mlp"),
        ("bert.embeddings.word_embeddings.weight", (99, 8), "embedding"),
        ("bert.embeddings.position_embeddings.weight", (16, 8), "position table"),
        ("model.layers.0.self_attn.q_proj.weight", (8, 8), "query"),
        ("model.layers.0.self_attn.k_proj.weight", (2, 8), "key"),
        ("model.layers.0.self_attn.o_proj.weight", (8, 8), "attention output"),
        ("model.layers.0.mlp.gate_proj.weight", (32, 8), "mlp"),
        ("model.layers.0.input_layernorm.weight", (8,), "norm scale"),
        ("model.embed_tokens.weight", (99, 8), "linear"),
        ("lm_head.weight", (99, 8), "head"),
        ("h.0.attn.c_attn.weight", (8, 24), "fused qkv"),
        ("wpe.weight", (16, 8), "position table"),
        ("self_attn.in_proj_weight", (24, 8), "fused qkv"),
        ("lstm.weight_ih_l0_reverse", (32, 8), "recurrent"),
        ("block.depthwise.weight", (8, 1, 3, 3), "depthwise conv"),
        ("up.deconv.weight", (8, 4, 2, 2), "transposed conv"),
        ("blocks.0.ls1.gamma", (8,), "layer scale"),
        ("act.weight", (8,), "slope"),
        ("experts.gate", (4, 8, 8), "tensor"),
        ("logit_scale", (), "scalar"),
        ("freqs", (9,), "vector"),
        ("bn/moving_variance", (8,), "norm variance"),
    ],
)
def test_what_a_name_and_a_shape_say(name: str, shape: tuple[int, ...], kind: str) -> None:
    assert kinds(read_layers({name: torch.empty(shape)})) == {name: kind}


def test_biases_go_with_their_weights() -> None:
    reading = read(
        fc__weight=(3, 2), fc__bias=(3,), gru__weight_ih_l0=(9, 2), gru__bias_ih_l0=(9,), bn__weight=(4,),
        bn__bias=(4,), bn__running_mean=(4,), bn__running_var=(4,), lone__bias=(5,), odd__weight=(3, 2), odd__bias=(7,),
        a__in_proj_weight=(6, 2), a__in_proj_bias=(6,),
    )  # fmt: skip
    assert {one.name: one.bias for one in reading.roles if one.bias} == {
        "fc.weight": "fc.bias", "gru.weight_ih_l0": "gru.bias_ih_l0", "bn.weight": "bn.bias",
        "bn.running_var": "bn.running_mean", "a.in_proj_weight": "a.in_proj_bias",
    }  # fmt: skip
    found = kinds(reading)
    assert (found["bn.bias"], found["bn.running_mean"], found["lone.bias"]) == ("norm shift", "norm mean", "bias")
    # A vector of another size is nobody's bias.
    assert role(reading, "odd.bias").owner is None
    assert [one.name for one in reading.layers] == [
        "fc.weight", "gru.weight_ih_l0", "bn.weight", "bn.running_var", "lone.bias", "odd.weight", "odd.bias",
        "a.in_proj_weight",
    ]  # fmt: skip


def test_one_convolution_of_a_grey_image_is_not_depthwise_but_several_are() -> None:
    assert kinds(read(a__weight=(8, 1, 3, 3), b__weight=(8, 8, 3, 3))) == {"a.weight": "conv", "b.weight": "conv"}
    assert kinds(read(a__weight=(8, 1, 3, 3), b__weight=(8, 1, 3, 3)))["b.weight"] == "depthwise conv"


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"c.weight": (8, 4, 3, 3), "c.bias": (8,)}, ("OIHW", (8, 4, (3, 3)))),
        ({"c/kernel": (3, 3, 4, 8), "c/bias": (8,)}, ("HWIO", (8, 4, (3, 3)))),
        ({"c/kernel": (5, 4, 8), "c/bias": (8,)}, ("HWIO", (8, 4, (5,)))),
        ({"c/Conv2D": (8, 3, 3, 4), "other": (8,)}, ("OHWI", (8, 4, (3, 3)))),
        ({"d/depthwise_kernel": (3, 3, 6, 1), "c/kernel": (3, 3, 4, 8), "c/bias": (8,)}, ("HWIO", (6, 1, (3, 3)))),
    ],
)
def test_the_layout_of_convolutions(
    shapes: dict[str, tuple[int, ...]], expected: tuple[str, tuple[int, int, tuple[int, ...]]]
) -> None:
    reading = read_layers({name: torch.empty(shape) for name, shape in shapes.items()})
    first = reading.roles[0]
    assert (reading.layouts[1], (first.n_out, first.n_in, first.taps)) == expected


def test_the_layout_of_linear_weights_is_the_files_not_the_tensors() -> None:
    # A square weight says nothing by itself; its neighbours do.
    reading = read(a__weight=(4, 4), a__bias=(4,), b__weight=(4, 7), b__bias=(7,))
    assert reading.layouts[0] == "HWIO"
    assert [role(reading, name).order for name in ("a.weight", "b.weight")] == [(1, 0), (1, 0)]


def test_integers() -> None:
    reading = read_layers(
        {
            "index": torch.zeros(4, 4, dtype=torch.int64), "steps": torch.tensor(3),
            "fc.weight": torch.zeros(3, 2, dtype=torch.int8), "fc.bias": torch.zeros(3, dtype=torch.int32),
        }
    )  # fmt: skip
    assert kinds(reading) == {"index": "index", "steps": "index", "fc.weight": "head", "fc.bias": "bias"}


@pytest.mark.skipif(not DATA, reason="PEACE_DATA does not name the folder of real checkpoints")
def test_the_layouts_of_the_wild_are_those_that_its_manifest_says() -> None:
    folder = Path(DATA or "") / "wild"
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    wrong = []
    for line in lines:
        tensors = open_checkpoint(folder / line["file"]).tensors
        linear, convolution = read_layers(tensors).layouts
        said = line["layout"]
        expected = "HWIO" if "HWIO" in said or "numpy" in said else "OHWI" if "OHWI" in said else "OIHW"
        if any(tensor.ndim > 2 for tensor in tensors.values()) and convolution != expected:
            wrong.append(line["id"])
        if any(tensor.ndim == 2 for tensor in tensors.values()) and (linear == "HWIO") != (expected == "HWIO"):
            wrong.append(line["id"])
    assert len(lines) == 184 and wrong == []


# --- what layer-wise encoders see


class Small(nn.Module):
    """One of each: convolution, depthwise, norm with statistics, table, token, attention, recurrence, scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.depthwise = nn.Conv2d(5, 5, 3, groups=5)
        self.bn = nn.BatchNorm2d(5)
        self.pos_embed = nn.Parameter(torch.ones(1, 4, 6))
        self.cls_token = nn.Parameter(torch.ones(1, 1, 6))
        self.attn = nn.MultiheadAttention(6, 2)
        self.embedding = nn.Embedding(7, 6)
        self.gru = nn.GRU(6, 3)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.head = nn.Linear(3, 4)


def stacked(module: nn.Module, models: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(models, *tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point()
    }


def renumbered(reading: LayerReading, tensors: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Each tensor with its outputs (its bias too) and its inputs renumbered, independently of all others."""
    moved = dict(tensors)
    for one in reading.layers:
        tensor = tensors[one.name]
        if one.n_out > 1:
            out = torch.randperm(one.n_out, generator=generator)
            tensor = tensor.index_select(1 + (one.order[0] if one.order else 0), out)
            if one.bias:
                moved[one.bias] = tensors[one.bias][:, out]
        if one.n_in > 1:
            inward = torch.randperm(one.n_in, generator=generator)
            tensor = tensor.index_select(1 + one.order[1], inward)
        moved[one.name] = tensor
    return moved


def embedded(reading: LayerReading, tensors: dict[str, Tensor]) -> Tensor:
    torch.manual_seed(1)
    encoder = LayerGNN(hidden_dim=8).double()
    with torch.no_grad():
        return encoder(reading.stack(tensors))


def relative(first: Tensor, second: Tensor) -> float:
    return ((first - second).norm(dim=-1) / second.norm(dim=-1)).max().item()


def test_every_number_is_in_the_graph_once() -> None:
    module = Small()
    reading, tensors = read_layers(module.state_dict()), stacked(module)
    stack = reading.stack(tensors)
    numbers = torch.cat([part.flatten() for part in (*stack.weights, *stack.biases) if part is not None])
    expected = torch.cat([tensor.flatten() for tensor in tensors.values()])
    torch.testing.assert_close(numbers.sort().values, expected.sort().values, rtol=0, atol=0)
    assert {(axis.permutable, axis.scaling) for axis in stack.graph.axes} == {(True, "none")}
    assert len(stack.graph.axes) == 2 * len(stack.graph.layers)


def test_a_layer_wise_encoder_does_not_see_the_order_of_any_axis() -> None:
    module = Small()
    reading, tensors = read_layers(module.state_dict()), stacked(module)
    generator = torch.Generator().manual_seed(2)
    before = embedded(reading, tensors)
    for _ in range(3):
        moved = renumbered(reading, tensors, generator)
        assert sum(not torch.equal(moved[name], tensors[name]) for name in tensors) > len(tensors) / 2
        assert relative(embedded(reading, moved), before) < 1e-10


def test_control_it_does_see_a_renumbering_of_one_of_two_tensors_that_belong_together() -> None:
    module = Small()
    reading, tensors = read_layers(module.state_dict()), stacked(module)
    moved = tensors | {"head.bias": tensors["head.bias"].flip(1)}
    change = (embedded(reading, moved) - embedded(reading, tensors)).norm(dim=-1)
    place = [one.name for one in reading.layers].index("head.weight")
    assert change[:, place].min() > 1e-4
    assert change.sum() == change[:, place].sum()


def test_it_sees_every_tensor() -> None:
    module = Small()
    reading, tensors = read_layers(module.state_dict()), stacked(module)
    before = embedded(reading, tensors)
    for place, one in enumerate(reading.layers):
        for name in filter(None, (one.name, one.bias)):
            generator = torch.Generator().manual_seed(100 + place)
            other = torch.randn(tensors[name].shape, generator=generator, dtype=torch.float64)
            if one.n_out == one.n_in == 1:
                continue  # a single number is normalised away by its degree
            changed = (embedded(reading, tensors | {name: other}) - before).norm(dim=-1)
            assert changed[:, place].min() > 1e-6, name


def test_a_missing_tensor_is_refused() -> None:
    module = Small()
    tensors: dict[str, Any] = stacked(module)
    reading = read_layers(module.state_dict())
    del tensors["head.weight"]
    with pytest.raises(InputError, match=r"tensors of the reading are missing: got head\.weight"):
        reading.stack(tensors)
