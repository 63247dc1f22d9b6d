"""The tensors of a safetensors file, each mapped when it is asked for; what nobody refers to is not in memory."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
"""The format's names of the types that torch has."""


class MappedTensors(Mapping[str, Tensor]):
    """Tensors by name, as stored.

    Each look-up maps the tensor's own pages; they leave the memory with the last reference to the tensor. Writing to
    one changes a private copy, never the file.

    Args:
        path: The file.
        header: Its header without the metadata, checked against the file's size.

    Attributes:
        unread: Names of the tensors of two or more dimensions that are left out, and the format's names of their types.
    """

    def __init__(self, path: Path, header: Mapping[str, Mapping[str, Any]]) -> None:
        self.path = path
        self._entries = {name: entry for name, entry in header.items() if entry["dtype"] in DTYPES}
        self.unread = {name: entry["dtype"] for name, entry in header.items()
                       if entry["dtype"] not in DTYPES and len(entry["shape"]) > 1}  # fmt: skip
        ends = [entry["data_offsets"][1] for entry in header.values()]
        self._start = path.stat().st_size - max(ends, default=0)

    def __iter__(self) -> Iterator[str]:
        """Returns the names in file order; tensors of types that torch lacks are left out."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Returns the number of tensors."""
        return len(self._entries)

    def shape(self, name: str) -> Tensor:
        """Returns a tensor of that shape and type on the meta device."""
        entry = self._entries[name]
        return torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]], device="meta")

    def __getitem__(self, name: str) -> Tensor:
        """Returns a tensor whose numbers are read from the file as they are used."""
        like = self.shape(name)
        if not like.numel():
            return torch.empty_like(like, device="cpu")
        first = self._start + self._entries[name]["data_offsets"][0]
        before = first % mmap.ALLOCATIONGRANULARITY
        with open(self.path, "rb") as file:
            pages = mmap.mmap(file.fileno(), before + like.nbytes, access=mmap.ACCESS_COPY, offset=first - before)
        if before % like.itemsize:
            # Old writers put tensors anywhere; numbers that straddle words are copied to where they do not.
            plain = torch.frombuffer(pages, dtype=torch.uint8, count=like.nbytes, offset=before).clone()
            return plain.view(like.dtype).view(like.shape)
        return torch.frombuffer(pages, dtype=like.dtype, count=like.numel(), offset=before).view(like.shape)
