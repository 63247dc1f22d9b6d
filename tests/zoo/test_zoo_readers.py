"""Readers: what loads is what was stored, everything else is refused in one sentence, and no file ever runs code."""

import json
import math
import os
import pickle
import re
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from peace.errors import InputError
from peace.zoo.readers import read_state_dict, write_safetensors

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class MakesMarker:
    """A pickle of it creates a file when it is executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def weights() -> dict[str, Tensor]:
    return {"z.weight": torch.arange(12.0).view(3, 4), "a.weight": torch.full((2, 3), -0.5), "a.bias": torch.zeros(2)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == tensor.dtype and torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_state_dict(path)
    sentence = str(caught.value)
    assert caught.value.exit_code == 2
    assert str(path) in sentence
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


# --- what loads


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".ckpt", ".bin"])
def test_a_torch_file_gives_its_tensors_in_its_order(tmp_path: Path, suffix: str, legacy: bool) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save(weights(), path, _use_new_zipfile_serialization=not legacy)
    found, metadata = read_state_dict(str(path))
    assert same(found, weights())
    assert metadata == {}


@pytest.mark.parametrize("wrapped", ["state_dict", "model", "model_state_dict"])
def test_a_nested_state_dict_is_unwrapped_without_its_optimizer(tmp_path: Path, wrapped: str) -> None:
    path = tmp_path / "model.ckpt"
    optimizer = {"state": {0: {"exp_avg": torch.ones(5)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"epoch": 3, "ema": torch.ones(2), "optimizer": optimizer, wrapped: weights()}, path)
    assert same(read_state_dict(path)[0], weights())


def test_wrappers_inside_wrappers_end_even_where_a_mapping_holds_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {"state_dict": weights()}}, path)
    assert same(read_state_dict(path)[0], weights())
    endless: dict[str, Any] = weights()
    endless["model"] = endless
    torch.save(endless, path)
    assert same(read_state_dict(path)[0], weights())


def test_only_floating_weights_come_back_and_as_plain_tensors(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with warnings.catch_warnings(action="ignore"):
        quantised = torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8)
    other = {
        "steps": torch.tensor(7),
        "mask": torch.tensor([True]),
        "codes": torch.ones(3, dtype=torch.int8),
        "packed": quantised,
        "pair": (quantised, torch.ones(2)),
        "sparse": torch.eye(3).to_sparse(),
        "none": None,
        "name": "model",
        "empty": torch.zeros(0, 3),
    }
    torch.save({**other, "weight": torch.nn.Parameter(torch.ones(2, 2)), "scale": torch.tensor(2.0)}, path)
    found, _ = read_state_dict(path)
    assert same(found, {"weight": torch.ones(2, 2), "scale": torch.tensor(2.0)})
    assert type(found["weight"]) is Tensor and not found["weight"].requires_grad


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_floating_dtypes_load_as_they_are(tmp_path: Path, dtype: torch.dtype, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    stored = {"weight": torch.tensor([[0.5, -2.0]], dtype=dtype), "steps": torch.tensor(3)}
    save_file(stored, path) if suffix == ".safetensors" else torch.save(stored, path)
    assert same(read_state_dict(path)[0], {"weight": stored["weight"]})


def test_the_library_s_safetensors_file_gives_tensors_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights(), path, metadata={"task": "digits", "epoch": "3"})
    found, metadata = read_state_dict(path)
    assert same(dict(sorted(found.items())), dict(sorted(weights().items())))
    assert metadata == {"task": "digits", "epoch": "3"}


@pytest.mark.parametrize("suffix", [".bin", ".tar", ""])
def test_the_first_bytes_decide_and_not_the_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    write_safetensors(path, weights(), {})
    assert same(read_state_dict(path)[0], weights())
    torch.save(weights(), path)
    assert same(read_state_dict(path)[0], weights())


def test_a_safetensors_file_may_begin_with_the_byte_of_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    # 640 is 0x0280: the first bytes of the length are those of a pickle of protocol 2.
    text = json.dumps({"w": entry([1], 0, 4)}).ljust(640).encode()
    path.write_bytes((640).to_bytes(8, "little") + text + bytes(4))
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert same(read_state_dict(path)[0], {"w": torch.zeros(1)})


def test_an_infinite_scalar_is_a_constant_and_left_out(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {**weights(), "floor": torch.tensor(-torch.inf)}, {})
    assert same(read_state_dict(tmp_path / "m.safetensors")[0], weights())


# --- what is written


def header_of(path: Path) -> dict[str, dict[str, Any]]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return {name: stored for name, stored in header.items() if name != "__metadata__"}


def test_the_writer_keeps_order_values_and_metadata_and_the_library_agrees(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "model.safetensors"
    square = torch.arange(6.0).view(2, 3)
    tensors = {
        "z.half": torch.tensor([1.5], dtype=torch.bfloat16),
        "turned": square.T,
        "square": square,
        "double": torch.tensor([1.0, 2.0], dtype=torch.float64),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 3),
    }
    write_safetensors(path, tensors, {"task": "ziffern ä", "epoch": "3"})
    loaded = load_file(path)
    for stored in header_of(path).values():
        width = (stored["data_offsets"][1] - stored["data_offsets"][0]) // (math.prod(stored["shape"]) or 1) or 1
        assert stored["data_offsets"][0] % width == 0
    assert same({name: loaded[name] for name in tensors}, tensors) and loaded.keys() == tensors.keys()
    found, metadata = read_state_dict(path)
    assert list(found) == ["z.half", "turned", "square", "double"]
    assert metadata == {"task": "ziffern ä", "epoch": "3"}


def test_the_writer_writes_the_same_bytes_and_the_format_s_own(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {"x": torch.tensor([1.0])}, {"k": "v"})
    header = b'{"__metadata__": {"k": "v"}, "x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    header += b" " * (-len(header) % 8)
    by_hand = len(header).to_bytes(8, "little") + header + b"\x00\x00\x80\x3f"
    assert (tmp_path / "a").read_bytes() == by_hand


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, weights(), {})
    with pytest.raises(InputError, match=r"cannot store 'c'.*complex64"):
        write_safetensors(path, {"c": torch.ones(2, dtype=torch.complex64)}, {})
    with pytest.raises(TypeError):
        write_safetensors(path, weights(), {"key": object()})  # type: ignore[dict-item]
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "numpy", lambda tensor: b"half a file", raising=True)
        with pytest.raises(AttributeError):
            write_safetensors(path, weights(), {})
    assert same(read_state_dict(path)[0], weights())
    assert list(tmp_path.iterdir()) == [path]


# --- what is refused


def save_header(path: Path, header: object, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def repack(path: Path, compression: int = zipfile.ZIP_STORED, leave_out: str = "nothing", add: str = "") -> None:
    """Writes a torch archive's records again, as an archive tool would."""
    torch.save(weights(), path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist() if not name.endswith(leave_out)}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
        if add:
            archive.writestr(f"{path.stem}/{add}", "pass")


def truncated_safetensors(path: Path) -> None:
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:-30])


def truncated_torch(path: Path, legacy: bool) -> None:
    torch.save({"w": torch.zeros(1000)}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[:3000])


def non_finite(path: Path, value: float) -> None:
    tensors = weights()
    tensors["a.weight"][0, 1:] = value
    save_file(tensors, path)


LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 44700000\n"
Maker = Callable[[Path], object]
REFUSED: dict[str, tuple[str, Maker, str]] = {
    "missing": ("m.pt", lambda path: None, "no file of that name"),
    "name too long": ("m" * 300, lambda path: None, "File name too long"),
    "folder": ("m.pt", Path.mkdir, "a folder"),
    "empty": ("m.safetensors", Path.touch, "0 bytes, too short"),
    "short": ("m.safetensors", lambda path: path.write_bytes(b"\r\n"), "2 bytes, too short"),
    "lfs safetensors": ("m.safetensors", lambda path: path.write_text(LFS_POINTER), "git-LFS pointer.*git lfs pull"),
    "lfs torch": ("m.pth", lambda path: path.write_text(LFS_POINTER), "git-LFS pointer.*git lfs pull"),
    "truncated safetensors": ("m.safetensors", truncated_safetensors, r"truncated.*promises \d+ bytes, the file has"),
    "overlong safetensors": ("m.safetensors", lambda p: save_header(p, {"a": entry([1], 0, 4)}, bytes(9)), "overlong"),
    "invalid JSON": ("m.safetensors", lambda path: save_header(path, b'{"a": [1,', bytes(8)), "not valid JSON"),
    "deep JSON": ("m.safetensors", lambda path: save_header(path, b"[" * 100_000), "not valid JSON"),
    "header no mapping": ("m.safetensors", lambda path: save_header(path, [1, 2, 3]), "not valid JSON"),
    "entry no mapping": ("m.safetensors", lambda path: save_header(path, {"a": 1}), "not valid JSON"),
    "offset no number": ("m.safetensors", lambda p: save_header(p, {"a": {"data_offsets": [0, "4"]}}), "not valid"),
    "negative offset": ("m.safetensors", lambda p: save_header(p, {"a": entry([1], -4, 0)}), "broken .*header"),
    "shape larger": ("m.safetensors", lambda p: save_header(p, {"a": entry([9], 0, 4)}, bytes(4)), "broken .*header"),
    "no tensor": ("m.safetensors", lambda path: save_header(path, {}), "no weights in a mapping that holds nothing"),
    "empty tensor": ("m.safetensors", lambda path: save_file({"x": torch.zeros(0)}, path), "no weights.*holds x"),
    "integers": ("m.safetensors", lambda path: save_file({"x": torch.ones(2).int()}, path), "no weights.*holds x"),
    "only scalars": ("m.pt", lambda path: torch.save({"scale": torch.tensor(0.1)}, path), "no weights.*holds scale"),
    "truncated zip": ("m.pt", lambda path: truncated_torch(path, legacy=False), "a truncated torch archive"),
    "truncated legacy": ("m.pt", lambda path: truncated_torch(path, legacy=True), "a truncated torch file"),
    "missing record": ("m.pt", lambda path: repack(path, leave_out="data/0"), "a damaged torch file"),
    "compressed zip": ("m.pt", lambda path: repack(path, zipfile.ZIP_DEFLATED), "a compressed torch archive"),
    "code in zip": ("m.pt", lambda path: repack(path, add="code/m.py"), "TorchScript archive.*never executed"),
    "other zip": ("m.zip", lambda path: repack(path, leave_out="data.pkl"), "a zip archive that holds"),
    "scheduler": ("m.pt", lambda path: torch.save({"last_epoch": 3}, path), "no weights.*holds last_epoch"),
    "torch named safetensors": ("m.safetensors", lambda path: torch.save(weights(), path), "torch.*rename it to .pt"),
    "legacy named safetensors": ("m.safetensors", lambda p: truncated_torch(p, legacy=True), "torch.*rename it to .pt"),
    "bare tensor": ("m.pt", lambda path: torch.save(torch.ones(3), path), "no weights but a Tensor"),
    "list": ("m.pt", lambda path: torch.save([torch.ones(3)], path), "no weights but a list"),
    "expanded": ("m.pt", lambda p: torch.save({"w": torch.ones(1).expand(10**6, 10**6)}, p), "'w', which promises 4"),
    "plain pickle": ("m.pkl", lambda path: path.write_bytes(pickle.dumps([1.0] * 9, 2)), "pickle of something else"),
    "gzip": ("m.gz", lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(20)), "a gzip file"),
    "HDF5": ("m.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20)), "an HDF5 file"),
    "web page": ("m.pt", lambda path: path.write_text("<!DOCTYPE html><html>"), "unknown format.*<!DOCTYPE html>"),
    "NaN": ("m.safetensors", lambda path: non_finite(path, torch.nan), "NaN or infinite weights.*2 of 6 in 'a.weight'"),
    "infinite": ("m.safetensors", lambda path: non_finite(path, torch.inf), "NaN or infinite.*2 of 6 in 'a.weight'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_checkpoint_is_refused_by_what_it_is(tmp_path: Path, case: str) -> None:
    name, make, words = REFUSED[case]
    path = tmp_path / name
    make(path)
    assert re.search(words, refusal(path)), refusal(path)


@pytest.mark.parametrize("length", [2**40, 2**63, 1000])
def test_an_absurd_header_length_is_refused_before_anything_is_allocated(tmp_path: Path, length: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b'{"a": {}}')
    tracemalloc.start()
    sentence = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"header said to be {length} bytes long in a file of 17 bytes" in sentence
    assert peak < 1_000_000


def test_a_real_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(torch.nn.Identity()).save(path)
    assert "TorchScript archive, which holds code; it is never executed" in refusal(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_by_name_and_never_run(
    tmp_path: Path, form: str, protocol: int
) -> None:
    path, marker = tmp_path / "m.pt", tmp_path / "marker"
    content = {**weights(), "evil": MakesMarker(marker)}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"evil": content["evil"]}, protocol))
    else:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=form == "zip")
    sentence = refusal(path)
    assert re.search(r"would run code: it asks for (posix|nt)\.system; it is never executed; .*safetensors", sentence)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_module_that_a_pickle_names_twice_is_named_twice(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(pickle.dumps([pickle.Pickler, pickle.Unpickler], protocol))
    assert re.search(r"it asks for _?pickle\.Pickler, _?pickle\.Unpickler; it is never executed", refusal(path))


def test_the_malicious_pickle_does_run_code_for_a_careless_reader(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(MakesMarker(marker)))
    assert marker.exists()


def test_a_whole_module_is_refused_by_the_names_of_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(torch.nn.Linear(2, 1), path)
    assert "it asks for torch.nn.modules.linear.Linear" in refusal(path)
