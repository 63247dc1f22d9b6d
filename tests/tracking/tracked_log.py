"""A reader of the binary log that wandb wrote: LevelDB's format, of protobuf records; no code is shared with it."""

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import ArtifactRecord, Record

_BLOCK, _HEADER = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_PATIENCE = 30  # seconds


def records(path: Path) -> Iterator[Record]:
    """Every record of a log, each piece's checksum compared."""
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    place, whole = _HEADER, b""
    while place < len(content):
        if (left := _BLOCK - place % _BLOCK) < _HEADER:
            place += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", content, place)
        piece = content[place + _HEADER : place + _HEADER + length]
        assert checksum == zlib.crc32(bytes([kind]) + piece) & 0xFFFFFFFF and len(piece) == length
        place += _HEADER + length
        whole = piece if kind in (_FULL, _FIRST) else whole + piece
        if kind in (_FULL, _LAST):
            record = Record()
            record.ParseFromString(whole)
            yield record


def _ended(path: Path) -> list[Record]:
    """The records of a run that ended: wandb's service may still write the last of them when `finish` returns."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            found = list(records(path))
            assert any(record.WhichOneof("record_type") == "exit" for record in found), f"no end of the run in {path}"
            return found
        except (AssertionError, struct.error):
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


class Log:
    """What one log says of a run."""

    def __init__(self, path: Path) -> None:
        self.path, self.records = path, _ended(path)
        (self.run, *_) = [record.run for record in self.records if record.WhichOneof("record_type") == "run"]
        self.config = _items(self.run.config.update)
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.made: dict[str, ArtifactRecord] = {}
        self.used: dict[str, ArtifactRecord] = {}
        self.exit_code, self.preempting = None, False
        for record in self.records:
            self._take(record)

    def _take(self, record: Record) -> None:
        kind = record.WhichOneof("record_type")
        if kind == "config":
            self.config |= _items(record.config.update)
        elif kind == "history":
            self.history.append(_items(record.history.item))
            self.summary |= self.history[-1]
        elif kind == "summary":
            self.summary |= _items(record.summary.update)
        elif kind == "artifact" and record.artifact.type != "run_table":
            (self.used if record.artifact.use_after_commit else self.made)[record.artifact.type] = record.artifact
        elif kind == "exit":
            self.exit_code = record.exit.exit_code
        elif kind == "preempting":
            self.preempting = True

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table that was logged."""
        content = json.loads((self.path.parent / "files" / self.summary[name]["path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]


def _items(items: Any) -> dict[str, Any]:
    """Keys and values as they were given, what was nested nested again."""
    found: dict[str, Any] = {}
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return found


def logs(folder: Path) -> list[Log]:
    """The logs below a folder in the order in which they began."""
    paths = folder.rglob("wandb/offline-run-*/run-*.wandb")
    return [Log(path) for path in sorted(paths, key=lambda path: (path.parent.name, path))]
