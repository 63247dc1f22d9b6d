"""The weights inside a checkpoint file, read without ever running what the file contains.

What a file is shows in its first bytes, not in its name. Torch files are unpickled by torch's restricted unpickler
(`weights_only=True`) alone; a file that needs more is refused by the name of what it asks for. Every refusal is one
`InputError` that says what the file is.
"""

import io
import json
import math
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from peace.atomic import replacing
from peace.errors import InputError
from peace.zoo.mapped import MappedTensors

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_FLOATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_INTEGERS = {torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8"}
_DTYPES = _FLOATS | _INTEGERS | {torch.bool: "BOOL"}

_SHORTEST = 10  # the eight bytes of a header's length and the `{}` of an empty safetensors file
_LONGEST_HEADER = 100_000_000  # the format's own limit
_LFS_POINTER = b"version https://git-lfs"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy file",
    b"GGUF": "a GGUF file",
}
_READABLE = "a safetensors file or a torch checkpoint"

# Enough of a legacy torch file to hold its pickles, which stand before its storages.
_PICKLE_BYTES = 1 << 24
_HARMLESS = re.compile(
    r"torch\.(_utils\._rebuild\w+|\w+Storage|Size|Tensor|device|nn\.parameter\.Parameter|per_\w+|bool|\w*(int|float|complex)\d+)"
    r"|collections\.OrderedDict|_codecs\.encode"
)


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the floating-point tensors of a checkpoint by name, in file order, and its safetensors metadata.

    Integer, quantised, sparse and empty tensors are left out, and so is an infinite scalar, which is a constant of an
    exported graph and not a weight. A mapping under `state_dict`, `model_state_dict` or `model` is unwrapped.

    Args:
        path: A safetensors file, or what `torch.save` wrote in its zip or its legacy form.

    Returns:
        CPU tensors of float64, float32, float16 or bfloat16, as stored; they may be mapped from the file. The metadata
        is empty for torch files.

    Raises:
        InputError: There is no such file, it is damaged or of another format, it needs code to be unpickled, it holds
            no weights (nothing but scalars, or nothing in floating point), or some of its weights are not finite.
    """
    path = Path(path)
    head, size = _look(path)
    content, metadata = _content(path, head, size, values=True)
    return _weights(path, size, content), metadata


def read_shapes(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns every tensor of a checkpoint as a meta tensor by name, in file order, and its safetensors metadata.

    Of a safetensors file the header alone is read, so the file may be larger than the memory. Unlike `read_state_dict`
    it keeps integer and quantised tensors, and looks at no number.

    Args:
        path: As in `read_state_dict`.

    Raises:
        InputError: There is no such file, it is damaged or of another format, it needs code to be unpickled, or it
            holds no tensor with a number in it.
    """
    path = Path(path)
    head, size = _look(path)
    content, metadata = _content(path, head, size, values=False)
    content = _unwrap(content)
    entries = content if isinstance(content, dict) else {}
    found = {str(name): _shape_of(value) for name, value in entries.items() if isinstance(value, Tensor)}
    if not any(tensor.numel() for tensor in found.values()):
        raise _refusal(path, "no tensors", expected="a mapping of names to tensors")
    return found, metadata


def open_tensors(path: str | Path) -> Mapping[str, Tensor]:
    """Returns every plain tensor of a checkpoint by name, as stored, each read when it is looked up.

    Of a safetensors file and of a zipped torch checkpoint the numbers are mapped, so that the file may be larger than
    the memory. Looked-up numbers are those of the file whatever they are: nothing is left out for being an integer, in
    eight bits or not finite.

    Args:
        path: As in `read_state_dict`.

    Raises:
        InputError: There is no such file, it is damaged or of another format, or it needs code to be unpickled.
    """
    path = Path(path)
    head, size = _look(path)
    if _is_safetensors(path, head):
        header = _safetensors_header(path, size)
        _checked_header(path)
        return MappedTensors(path, header)
    content = _unwrap(_content(path, head, size, values=True)[0])
    entries = content if isinstance(content, dict) else {}
    found = {str(name): value.detach() for name, value in entries.items() if _is_plain(value)}
    for name, tensor in found.items():
        _require_bytes(path, name, tensor, size)
    return found


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors and metadata to a safetensors file, which is whole or absent.

    Unlike the library's own writer it keeps the order of the names, writes the same bytes each time, and takes tensors
    that share memory or are not contiguous.

    Args:
        path: The file to write; its folder is made if it is missing.
        tensors: Tensors by name, of floating, integer or boolean dtype.
        metadata: Text by key.

    Raises:
        InputError: A tensor is complex or quantised.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise InputError(f"cannot store '{name}'", where=path, got=tensor.dtype, expected="plain numbers")
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Wide elements first, so that every tensor starts at a multiple of its element size.
    order = sorted(stored, key=lambda name: -stored[name].itemsize)
    ends, end = {}, 0
    for name in order:
        end += stored[name].nbytes
        ends[name] = end
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    for name, tensor in stored.items():
        offsets = [ends[name] - tensor.nbytes, ends[name]]
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(stored[name].reshape(-1).view(torch.uint8).numpy().data)


def _refusal(path: Path, got: str, expected: str | None = None, do: str | None = None) -> InputError:
    return InputError("cannot read weights", where=path, got=got, expected=expected, do=do)


def _look(path: Path) -> tuple[bytes, int]:
    """Returns the first bytes and the size of a file that is long enough to be a checkpoint."""
    try:
        if path.is_dir():
            raise _refusal(path, "a folder", expected=_READABLE)
        if not path.is_file():
            raise _refusal(path, "a link to a file that is not there" if path.is_symlink() else "no file of that name")
        with open(path, "rb") as file:
            head, size = file.read(64), path.stat().st_size
    except OSError as error:
        raise _refusal(path, f"'{error.strerror}'") from error
    if size < _SHORTEST:
        raise _refusal(path, f"{size} bytes, too short for any checkpoint", do="download it again")
    if head.startswith(_LFS_POINTER):
        raise _refusal(path, "a git-LFS pointer in place of the file", do="fetch it with git lfs pull")
    return head, size


def _format(head: bytes) -> str:
    known = (name for magic, name in _OTHER_FORMATS.items() if head.startswith(magic))
    return next(known, f"a file of unknown format that starts with {head[:16]!r}")


def _content(path: Path, head: bytes, size: int, *, values: bool) -> tuple[object, dict[str, str]]:
    """Returns what a file holds; without `values`, a safetensors file's tensors are on the meta device."""
    if _is_safetensors(path, head):
        return _read_safetensors(path, size) if values else _read_header(path, size)
    if path.suffix == ".safetensors":
        raise _refusal(path, "a torch checkpoint, which torch does not load under that name", do="rename it to .pt")
    if head.startswith(_ZIP):
        return _read_zip(path), {}
    if head.startswith(_PICKLE):
        return _load(path, zipped=False), {}
    raise _refusal(path, _format(head), expected=_READABLE)


def _is_safetensors(path: Path, head: bytes) -> bool:
    # Before the pickles: the length that a safetensors file starts with may begin with any byte.
    return head[8:9] == b"{" or (path.suffix == ".safetensors" and not head.startswith((_ZIP, _PICKLE)))


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _shape_of(tensor: Tensor) -> Tensor:
    # A quantised tensor has no counterpart on the meta device; its numbers are integers.
    return torch.empty(tensor.shape, dtype=torch.int8 if tensor.is_quantized else tensor.dtype, device="meta")


def _read_header(path: Path, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    header = _safetensors_header(path, size)
    dtypes = {text: dtype for dtype, text in _DTYPES.items()}
    metadata = _checked_header(path)
    # What torch has no type for, such as eight-bit floats of some makers, is no plain number either way.
    found = {
        name: torch.empty(entry["shape"], dtype=dtypes.get(entry["dtype"], torch.uint8), device="meta")
        for name, entry in header.items()
    }
    return found, metadata


def _checked_header(path: Path) -> dict[str, str]:
    """Returns the metadata of a header that the library finds nothing wrong with."""
    try:
        # For torch the library would map the file for writing, which counts against the memory.
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _refusal(path, f"a broken safetensors header ({error})", do="download it again") from error


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, Tensor | None], dict[str, str]]:
    header = _safetensors_header(path, size)
    floats = {name: entry.get("dtype") in _FLOATS.values() for name, entry in header.items()}
    try:
        with safe_open(path, framework="pt") as file:
            content = {name: file.get_tensor(name) if is_float else None for name, is_float in floats.items()}
            return content, file.metadata() or {}
    except SafetensorError as error:
        raise _refusal(path, f"a broken safetensors header ({error})", do="download it again") from error


def _safetensors_header(path: Path, size: int) -> dict[str, dict[str, Any]]:
    """Returns the header without its metadata, once the file's size agrees with what the header promises."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _LONGEST_HEADER):
            got = f"a safetensors header said to be {length} bytes long in a file of {size} bytes"
            raise _refusal(path, got, do="download it again")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        promised = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise _refusal(path, "a safetensors header that is not valid JSON of the format", expected=_READABLE) from error
    if promised != size:
        state = "a truncated" if promised > size else "an overlong"
        got = f"{state} safetensors file: its header promises {promised} bytes, the file has {size}"
        raise _refusal(path, got, do="download it again")
    return header


def _read_zip(path: Path) -> object:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        got = "a truncated torch archive, without the table of contents that ends one"
        raise _refusal(path, got, do="download it again") from error
    members = [entry.filename.partition("/")[2] for entry in entries]
    if any(member.startswith("code/") for member in members):
        got = "a TorchScript archive, which holds code; it is never executed"
        raise _refusal(path, got, do="save its state dict as safetensors where you trust it")
    if "data.pkl" not in members:
        inside = ", ".join(entry.filename for entry in entries[:3]) or "nothing"
        raise _refusal(path, f"a zip archive that holds {inside}", expected=_READABLE)
    # torch maps compressed records as if they were numbers, and expanding one may take any amount of memory.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _refusal(path, "a compressed torch archive", do="write it again with torch.save")
    return _load(path, zipped=True)


def _load(path: Path, *, zipped: bool) -> object:
    try:
        with warnings.catch_warnings():
            # They are about torch's own storages and pickle protocols: a refusal says what the reader must know.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    # A damaged file may fail in any part of the unpickler, with any exception.
    except Exception as error:
        raise _explain(path, zipped, error) from error


def _explain(path: Path, zipped: bool, error: Exception) -> InputError:
    names = [name for name in dict.fromkeys(_globals(_pickles(path, zipped))) if not _HARMLESS.fullmatch(name)]
    if names:
        asked = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        got = f"a pickle that would run code: it asks for {asked}; it is never executed"
        return _refusal(path, got, do="save its state dict as safetensors where you trust it")
    if isinstance(error, EOFError) or "unexpected EOF" in str(error):
        return _refusal(path, "a truncated torch file", do="download it again")
    return _refusal(path, "a damaged torch file or a pickle of something else", expected=_READABLE)


def _pickles(path: Path, zipped: bool) -> io.BytesIO:
    """Returns the bytes that hold a torch file's pickles, as far as they can be had."""
    if not zipped:
        with open(path, "rb") as file:
            return io.BytesIO(file.read(_PICKLE_BYTES))
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.partition("/")[2] == "data.pkl")
            return io.BytesIO(archive.read(name)[:_PICKLE_BYTES])
    # A record that is damaged, or marked as encrypted: the refusal then names no class.
    except (zipfile.BadZipFile, RuntimeError, ValueError, OSError, EOFError):
        return io.BytesIO()


def _globals(pickles: io.BytesIO) -> Iterator[str]:
    """Yields the dotted names that pickles ask for, from their opcodes and without executing them."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    try:
        while True:
            for opcode, argument, _ in pickletools.genops(pickles):
                if opcode.name in ("GLOBAL", "INST"):
                    yield argument.replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(texts[-2:])
                elif opcode.name == "MEMOIZE":
                    memo[len(memo)] = texts[-1] if texts else ""
                elif opcode.name.endswith("BINPUT"):
                    memo[argument] = texts[-1] if texts else ""
                elif opcode.name.endswith("BINGET"):
                    texts.append(memo[argument])
                elif isinstance(argument, str):
                    texts.append(argument)
    # The storages of a legacy file, or the end of a damaged one: no opcode follows.
    except (ValueError, LookupError, TypeError, OverflowError):
        return


def _weights(path: Path, size: int, content: object) -> dict[str, Tensor]:
    content = _unwrap(content)
    if not isinstance(content, dict):
        raise _refusal(path, f"no weights but a {type(content).__name__}", expected="a mapping of names to tensors")
    weights = {str(name): value.detach() for name, value in content.items() if _is_weight(value)}
    # The scales of a packed quantised network are scalars: alone they are not a network.
    if not any(tensor.dim() for tensor in weights.values()):
        inside = ", ".join(map(str, list(content)[:4])) or "nothing"
        raise _refusal(path, f"no weights in a mapping that holds {inside}", expected="floating-point tensors by name")
    for name, tensor in weights.items():
        _require_bytes(path, name, tensor, size)
        wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if wrong:
            got = f"{wrong} of {tensor.numel()} in '{name}'"
            raise InputError("NaN or infinite weights", where=path, got=got, expected="finite numbers")
    return weights


def _require_bytes(path: Path, name: str, tensor: Tensor, size: int) -> None:
    if tensor.nbytes > size:
        raise _refusal(path, f"'{name}', which promises {tensor.nbytes} bytes in a file of {size}")


def _unwrap(content: object) -> object:
    while isinstance(content, dict):
        wrapper = next((name for name in _WRAPPERS if isinstance(content.get(name), dict)), None)
        if wrapper is None:
            break
        # Popped, so that a mapping that holds itself comes to an end.
        content = content.pop(wrapper)
    return content


def _is_weight(value: object) -> bool:
    if not isinstance(value, Tensor) or value.dtype not in _FLOATS:
        return False
    if value.layout != torch.strided or value.is_meta or value.numel() == 0:
        return False
    return value.dim() > 0 or not math.isinf(value.item())
