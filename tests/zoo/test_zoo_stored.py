"""Weights as numbers, whatever they are stored as."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from peace.errors import InputError
from peace.zoo.checkpoint import open_checkpoint
from peace.zoo.mapped import MappedTensors
from peace.zoo.quantised import scalings
from peace.zoo.readers import open_tensors
from peace.zoo.stored import StoredWeights

GENERATOR = torch.Generator().manual_seed(0)


def stored(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> StoredWeights:
    save_file(tensors, path)
    return StoredWeights(open_checkpoint(path), dtype)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_every_float_is_read_as_what_it_stands_for(tmp_path: Path, dtype: torch.dtype) -> None:
    weight = torch.randn(5, 3, generator=GENERATOR).to(dtype)
    found = stored(tmp_path / "m.safetensors", {"a.weight": weight})
    assert list(found) == ["a.weight"] and found.shapes["a.weight"].shape == (5, 3)
    assert found["a.weight"].dtype == torch.float32 and torch.equal(found["a.weight"], weight.float())
    assert found.bytes("a.weight") == weight.nbytes


def test_a_float_of_the_wanted_type_is_a_view_of_the_file_that_writing_does_not_change(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    # A tensor of three bytes puts the next one where no float may stand.
    weights = {"a": torch.randn(4000, generator=GENERATOR), "b": torch.tensor([1, 2, 3], dtype=torch.uint8)}
    save_file(weights, path)
    found = open_tensors(path)
    assert isinstance(found, MappedTensors) and list(found) == ["a", "b"]
    tensor = found["a"]
    tensor.zero_()
    assert torch.equal(found["a"], weights["a"]) and torch.equal(found["b"], weights["b"])


def test_a_misplaced_float_is_read(tmp_path: Path) -> None:
    numbers = torch.randn(7, generator=GENERATOR)
    header = json.dumps({
        "odd": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "w": {"dtype": "F32", "shape": [7], "data_offsets": [3, 31]},
    }).encode()  # fmt: skip
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"abc" + numbers.numpy().tobytes())
    assert torch.equal(open_tensors(path)["w"], numbers)


Q = torch.tensor([[-128, 2, 3], [4, -5, 127]], dtype=torch.int8)
SCALED: dict[str, tuple[dict[str, Tensor], Tensor]] = {
    "one scale": ({"l.weight": Q, "l.weight_scale": torch.tensor(0.5)}, 0.5 * Q.float()),
    "one an output": (
        {"l.weight": Q, "l.weight_scale": torch.tensor([[2.0], [3.0]]), "l.input_scale": torch.tensor(9.0)},
        torch.tensor([[-256.0, 4, 6], [12, -15, 381]]),
    ),
    "a vector and a zero point": (
        {"l.weight": Q, "l.scale": torch.tensor([2.0, 3.0]), "l.zero_point": torch.tensor([1, -1])},
        torch.tensor([[-258.0, 2, 4], [15, -12, 384]]),
    ),
    "bitsandbytes": ({"l.weight": Q, "l.SCB": torch.tensor([127.0, 254.0])}, Q.float() * torch.tensor([[1.0], [2.0]])),
    "ONNX": (
        {"w_quantized": Q.view(torch.uint8), "w_scale": torch.tensor(0.25), "w_zero_point": torch.tensor(128)},
        0.25 * (Q.view(torch.uint8).float() - 128),
    ),
    "eight-bit floats": (
        {"l.weight": torch.ones(2, 3).to(torch.float8_e4m3fn), "l.weight_scale": torch.tensor([3.0])},
        torch.full((2, 3), 3.0),
    ),
    "blocks": (
        {"l.weight": torch.ones(130, 2).to(torch.float8_e4m3fn), "l.weight_scale_inv": torch.tensor([[2.0], [5.0]])},
        torch.cat([torch.full((128, 2), 2.0), torch.full((2, 2), 5.0)]),
    ),
}


@pytest.mark.parametrize("case", SCALED)
def test_scales_are_multiplied_in_and_are_no_weights(tmp_path: Path, case: str) -> None:
    tensors, expected = SCALED[case]
    bias = {"l.bias": torch.ones(2)}
    found = stored(tmp_path / "m.safetensors", tensors | bias)
    (name,) = found.keys() - bias.keys()
    assert torch.allclose(found[name], expected, rtol=1e-6)
    assert torch.equal(found["l.bias"], bias["l.bias"])


def test_what_is_no_weight_is_left_out(tmp_path: Path) -> None:
    tensors = {"w": torch.ones(2, 2), "count": torch.tensor(3), "mask": torch.ones(2, 2, dtype=torch.uint8),
               "shape": torch.ones(4, dtype=torch.int32), "none": torch.ones(0, 3),
               "inf": torch.tensor(torch.inf), "logit": torch.tensor(2.0)}  # fmt: skip
    assert set(stored(tmp_path / "m.safetensors", tensors)) == {"w", "logit"}
    # Integers without a scale are weights where nothing else is; their biases have 32 bits.
    whole = stored(tmp_path / "i.safetensors", {"w": Q, "b": torch.ones(2, dtype=torch.int32)})
    assert torch.equal(whole["w"], Q.float()) and torch.equal(whole["b"], torch.ones(2))
    with pytest.raises(InputError, match=r"no weights in .*: got count, expected tensors of numbers"):
        stored(tmp_path / "n.safetensors", {"count": torch.ones(3, dtype=torch.int64)})


NORM = torch.ones(4)
BYTES = torch.ones(4, 8, dtype=torch.uint8)
PACKED: dict[str, tuple[dict[str, Tensor], str]] = {
    "MLX": ({"l.weight": BYTES.to(torch.uint32), "l.scales": torch.ones(4, 2), "l.biases": torch.ones(4, 2)}, "U32"),
    "MXFP4": ({"e.up_blocks": BYTES[None], "e.up_scales": BYTES[None] + 1}, "uint8"),
    "NVFP4": ({"l.weight": BYTES, "l.weight_scale": torch.ones(4, 2).to(torch.float8_e4m3fn)}, "uint8"),
    "groups": ({"l.weight": BYTES, "l.scales": torch.ones(4, 2)}, "uint8"),
    "nothing": ({"l.weight": BYTES}, "uint8"),
    "words": ({"l.weight": BYTES.to(torch.int32), "l.scales": torch.ones(4, 2)}, "int32"),
}


@pytest.mark.parametrize("case", PACKED)
def test_packed_weights_are_refused_by_name(tmp_path: Path, case: str) -> None:
    tensors, kind = PACKED[case]
    name = next(iter(tensors))
    with pytest.raises(InputError, match=rf"packed weights that PEACE cannot unpack in .*got '{name}' of type {kind},"):
        stored(tmp_path / "m.safetensors", tensors | {"norm.weight": NORM, "head.weight": torch.ones(3, 4)})


def test_a_type_of_torch_alone_is_refused_too(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2, 2), "fourier": torch.ones(2, 2, dtype=torch.complex64)}, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"weights that PEACE cannot read in .*got 'fourier' of type complex64"):
        StoredWeights(open_checkpoint(tmp_path / "m.pt"))


def test_masks_and_vectors_beside_scales_are_no_packed_weights(tmp_path: Path) -> None:
    tensors = {"l.weight": Q, "l.scales": torch.ones(2), "l.mask": torch.ones(2, 3, dtype=torch.bool),
               "l.order": torch.ones(2, 3, dtype=torch.int64), "l.bits": torch.ones(2, dtype=torch.uint32),
               "other.mask": BYTES}  # fmt: skip
    assert set(stored(tmp_path / "m.safetensors", tensors)) == {"l.weight"}


def test_bytes_of_unknown_unit_are_read_alone_and_refused_beside_floats(tmp_path: Path) -> None:
    assert set(stored(tmp_path / "m.safetensors", {"l.weight": Q, "scalar": torch.tensor(2.0)})) == {
        "l.weight",
        "scalar",
    }
    for name, other in {"head.weight": torch.ones(3, 4), "norm.weight": NORM}.items():
        with pytest.raises(InputError, match=r"eight bits without a scale in .*got 'l.weight' beside floats"):
            stored(tmp_path / "m.safetensors", {"l.weight": Q, name: other})


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    broken = stored(tmp_path / "m.safetensors", {"a": torch.ones(3, 3), "b": torch.tensor([1.0, torch.nan, torch.inf])})
    assert torch.equal(broken["a"], torch.ones(3, 3))
    with pytest.raises(InputError, match=r"NaN or infinite weights in .*: got 2 of 3 in 'b'"):
        broken["b"]
    # Large numbers whose sum alone is not finite are weights.
    large = torch.full((4,), 3e38)
    assert torch.equal(stored(tmp_path / "l.safetensors", {"w": large})["w"], large)
    with pytest.raises(InputError, match=r"packed in fewer than eight bits.*'l.qweight'"):
        scalings({"l.qweight": torch.ones(2, 2, dtype=torch.int32)})
    with pytest.raises(InputError, match=r"scales do not fit.*'l.scale': got \(4,\), expected one for all of \(2, 3\)"):
        stored(tmp_path / "s.safetensors", {"l.weight": Q, "l.scale": torch.ones(4)})["l.weight"]


def test_torch_files_and_shards_are_read_alike(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(3, 4, generator=GENERATOR), "b.weight": torch.randn(2, 3, generator=GENERATOR)}
    torch.save({"state_dict": tensors}, tmp_path / "m.pt")
    for name, tensor in tensors.items():
        save_file({name: tensor}, tmp_path / f"{name}.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in tensors}}))
    for path in (tmp_path / "m.pt", index, tmp_path):
        found = StoredWeights(open_checkpoint(path))
        assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors), path


def test_tensors_quantised_by_torch_are_numbers(tmp_path: Path) -> None:
    quantised = torch.quantize_per_tensor(torch.tensor([[0.5, -1.0], [2.0, 0.0]]), 0.5, 3, torch.qint8)
    torch.save({"w": quantised}, tmp_path / "m.pt")
    assert torch.equal(StoredWeights(open_checkpoint(tmp_path / "m.pt"))["w"], quantised.dequantize())
