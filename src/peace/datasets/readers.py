"""Readers of image files: NumPy archives and the IDX files of the MNIST family. No file's content is ever executed."""

import gzip
import lzma
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from peace.errors import InputError

TRAIN_IMAGES = "train-images-idx3-ubyte"

# What NumPy and the decompressors raise for files that are damaged, encrypted or absurdly large.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class Pixels(NamedTuple):
    """Images as they lie in a file: uint8 [N, H, W] or [N, H, W, C], integer labels [N], and the classes' names."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]


def read_npz(path: Path) -> Pixels:
    """Returns the arrays `x_train`, `y_train`, `x_test`, `y_test` and `classes` of a NumPy archive.

    Args:
        path: An `.npz` file; images uint8, labels integers, classes a list of words.

    Raises:
        InputError: The file cannot be read, lacks an array, holds pickled objects or has arrays of another type.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("a single array")
            missing = [name for name in Pixels._fields if name not in archive.files]
            arrays = {name: np.asarray(archive[name]) for name in Pixels._fields if name not in missing}
    except _UNREADABLE as error:
        got = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        expected = "an npz archive of plain arrays"
        raise InputError("cannot read the images", where=path, got=got, expected=expected) from error
    if missing:
        expected = ", ".join(Pixels._fields)
        raise InputError(f"missing array '{missing[0]}'", where=path, got=", ".join(arrays), expected=expected)
    for name, array in arrays.items():
        word, kind, dimensions = _ARRAYS[name[0]]
        if not np.issubdtype(array.dtype, kind) or array.ndim not in dimensions:
            got = f"{array.dtype} with {array.ndim} dimensions"
            expected = f"{word} with {' or '.join(map(str, dimensions))} dimensions"
            raise InputError(f"wrong array '{name}'", where=path, got=got, expected=expected)
    return Pixels(**{**arrays, "classes": tuple(map(str, arrays["classes"]))})


_ARRAYS = {"x": ("uint8", np.uint8, (3, 4)), "y": ("integers", np.integer, (1,)), "c": ("words", np.str_, (1,))}


def read_idx(folder: Path) -> Pixels:
    """Returns the four IDX files of a folder: `{train,t10k}-{images-idx3,labels-idx1}-ubyte`, plain or `.gz`.

    The test files may start with `test-` instead of `t10k-`. IDX files carry no class names, so the classes are called
    `class-0`, `class-1`, ... up to the largest training label.

    Args:
        folder: The folder that holds the four files.

    Raises:
        InputError: A file is missing, has another magic number, or is shorter or longer than its header says.

    Reference:
        Y. LeCun, C. Cortes, *The MNIST database*: a big-endian magic number (type, number of dimensions), the
        dimensions, then the bytes.
    """
    x_train, y_train = (_read_idx_file(_find(folder, ("train",), kind), kind) for kind in _KINDS)
    x_test, y_test = (_read_idx_file(_find(folder, ("t10k", "test"), kind), kind) for kind in _KINDS)
    classes = tuple(f"class-{label}" for label in range(int(max(y_train, default=-1)) + 1))
    return Pixels(x_train, y_train, x_test, y_test, classes)


_KINDS = {"images-idx3": 0x00000803, "labels-idx1": 0x00000801}


def _find(folder: Path, parts: tuple[str, ...], kind: str) -> Path:
    names = [f"{part}-{kind}-ubyte" for part in parts]
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise InputError("missing file", where=folder, expected=f"{' or '.join(names)}, plain or .gz")


def _read_idx_file(path: Path, kind: str) -> np.ndarray:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read()
    except _UNREADABLE as error:
        raise InputError("cannot read the file", where=path, got=str(error), expected="a whole IDX file") from error
    magic = int.from_bytes(content[:4], "big")
    if magic != _KINDS[kind]:
        raise InputError("wrong magic number", where=path, got=f"{magic:#010x}", expected=f"{_KINDS[kind]:#010x}")
    start = 4 * (1 + magic % 256)
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    size = start + math.prod(shape)
    if len(content) != size:
        problem = "truncated file" if len(content) < size else "too long a file"
        raise InputError(problem, where=path, got=f"{len(content)} bytes", expected=f"{size} for shape {shape}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
