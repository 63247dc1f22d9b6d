"""One safetensors file for tensors, tables of rows and provenance: nothing in it can run when it is read."""

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pandas import DataFrame
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from peace.atomic import replacing
from peace.errors import InputError

_KIND = "peace.kind"


class Content(NamedTuple):
    """What one file holds: tensors and tables of rows by name, and where they came from."""

    tensors: dict[str, Tensor]
    frames: dict[str, DataFrame]
    provenance: dict[str, Any]


def as_stored(frame: DataFrame) -> DataFrame:
    """Returns the rows with the types that they would have after being stored and read, numbered from 0.

    Raises:
        InputError: A column mixes types that no column of a Parquet file can hold.
    """
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).to_pandas()
    except pa.ArrowException as error:
        raise InputError("a column of the rows mixes types", got=error.args[0]) from error


def write(
    path: str | Path,
    kind: str,
    tensors: Mapping[str, Tensor],
    frames: Mapping[str, DataFrame],
    provenance: Mapping[str, Any],
) -> None:
    """Writes one file that is either whole or absent.

    Args:
        path: The file to write.
        kind: What the file holds, such as `embedding table`; `read` refuses a file of another kind.
        tensors: Tensors by name.
        frames: Tables of rows by name, stored as Parquet bytes in a uint8 tensor.
        provenance: Where the content came from; what JSON can hold.
    """
    packed = {name: tensor.contiguous() for name, tensor in tensors.items()}
    packed |= {name: _pack(frame) for name, frame in frames.items()}
    metadata = {_KIND: kind, "provenance": json.dumps(provenance, sort_keys=True)}
    with replacing(path) as temporary:
        save_file(packed, temporary, metadata=metadata)


def read(path: str | Path, kind: str, tensors: Iterable[str], frames: Iterable[str]) -> Content:
    """Returns the content of a file that `write` made.

    Raises:
        InputError: The file is missing, truncated or damaged, or holds something else.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no {kind}", where=path, do="check the path, or make one with `peace embed`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = metadata.get(_KIND, "other tensors")
            if found != kind:
                raise InputError("wrong kind of file", where=path, got=found, expected=kind)
            return Content(
                {name: file.get_tensor(name) for name in tensors},
                {name: _unpack(file.get_tensor(name)) for name in frames},
                dict(json.loads(metadata["provenance"])),
            )
    except (SafetensorError, pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        got = str(error).partition("\n")[0].rstrip(".")
        raise InputError(f"damaged {kind}", where=path, got=got, do="make it again") from error


def content_hash(tensors: Iterable[Tensor], frames: Iterable[DataFrame]) -> str:
    """Returns the sha256 of values, labels, shapes and types, which does not depend on how a file encodes them."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().data)
    for frame in frames:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for name, column in zip(table.column_names, table.columns, strict=True):
            digest.update(json.dumps([name, column.to_pylist()], default=str).encode())
    return digest.hexdigest()


def _pack(frame: DataFrame) -> Tensor:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _unpack(content: Tensor) -> DataFrame:
    return pq.read_table(io.BytesIO(content.numpy().tobytes())).to_pandas()
