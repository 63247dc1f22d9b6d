"""The embeddings of many checkpoints, several at a time; what is done is kept, what is broken is named."""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

from peace.config import fingerprint
from peace.errors import PeaceError
from peace.interruption import Interrupted, StopRequest, stop_requests
from peace.models.embedder import Embedder
from peace.models.streaming import Embedded, embed_checkpoint
from peace.zoo.checkpoint import open_checkpoint
from peace.zoo.collection import Entry
from peace.zoo.readers import write_safetensors


@dataclass(frozen=True)
class Collected:
    """What came of a collection.

    Attributes:
        done: Each checkpoint that was embedded, with what came of it.
        broken: The sentence that says why, by id, of the others.
    """

    done: list[tuple[Entry, Embedded]]
    broken: dict[str, str]


def embed_collection(
    embedder: Embedder, identity: str, entries: Sequence[Entry], folder: Path, workers: int = 1
) -> Collected:
    """Returns the embeddings of checkpoints, in their order; those that lie in the folder already are not made again.

    Threads share the checkpoints, and torch's threads are shared out among them: reading and products free the
    interpreter, and no process has to import torch anew.

    Args:
        embedder: In evaluation mode.
        identity: Its hash.
        entries: The checkpoints.
        folder: Where each vector is kept as soon as it is there.
        workers: How many checkpoints are read at a time.

    Raises:
        Interrupted: A stop was asked for; what was done by then is kept.
        OSError: A vector cannot be kept; the checkpoint is not at fault, and the next would fare no better.
    """
    work = _Work(embedder, identity, folder)
    found: dict[str, Embedded] = {entry.id: kept for entry in entries if (kept := work.kept(entry))}
    broken: dict[str, str] = {}
    left = [entry for entry in entries if entry.id not in found]
    share = (max(1, torch.get_num_threads() // workers),)
    total = sum(entry.size for entry in left)
    with (
        stop_requests() as stop,
        tqdm(total=total, desc="embed", unit="B", unit_scale=True, disable=None) as bar,
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=share) as pool,
    ):
        jobs = {pool.submit(work.embed, entry, _Progress(bar, entry.size, stop)): entry for entry in left}
        try:
            for job in as_completed(jobs):
                entry = jobs[job]
                try:
                    made = job.result()
                except Interrupted:
                    continue
                if isinstance(made, str):
                    broken[entry.id] = made
                else:
                    found[entry.id] = made
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if stop.asked:
        raise Interrupted(f"stopped with {len(found)} of {len(entries)} checkpoints embedded; the same command goes on")
    return Collected([(entry, found[entry.id]) for entry in entries if entry.id in found], dict(sorted(broken.items())))


class _Progress:
    """Moves the bar by the bytes of one checkpoint, and ends its work where a stop was asked for."""

    _lock = threading.Lock()

    def __init__(self, bar: tqdm, size: int, stop: StopRequest) -> None:
        self.bar, self.left, self.stop = bar, size, stop

    def __call__(self, read: int) -> None:
        if self.stop.asked:
            raise Interrupted("stopped")
        with self._lock:
            step = min(read, self.left)
            self.left -= step
            self.bar.update(step)

    def end(self) -> None:
        """Moves it by what nobody read: headers, numbers that are no weights, the rest of a broken file."""
        with self._lock:
            self.bar.update(self.left)
            self.left = 0


@dataclass(frozen=True)
class _Work:
    """Embeds a checkpoint and keeps what comes of it."""

    embedder: Embedder
    identity: str
    folder: Path

    def embed(self, entry: Entry, progress: _Progress) -> Embedded | str:
        """What came of a checkpoint, or the sentence that says why nothing did."""
        found = self._read(entry, progress)
        progress.end()
        if isinstance(found, Embedded):
            about = {"identity": self._named(entry), "n_params": str(found.n_params), "layers": str(found.layers),
                     "said": json.dumps(found.said)}  # fmt: skip
            write_safetensors(self._file(entry), {"vector": found.vector}, about)
        return found

    def _read(self, entry: Entry, told: Callable[[int], object]) -> Embedded | str:
        try:
            told(0)
            return embed_checkpoint(self.embedder, open_checkpoint(entry.path), told=told)
        except Interrupted:
            raise
        except PeaceError as error:
            return str(error)
        except Exception as error:  # whatever a file makes torch raise: it is told, and the others are embedded
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    def kept(self, entry: Entry) -> Embedded | None:
        """What was made of the checkpoint before; None if it or the embedder is another now."""
        if not (path := self._file(entry)).is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                about, vector = file.metadata(), file.get_tensor("vector")
        except SafetensorError:
            return None
        if about["identity"] != self._named(entry):
            return None
        return Embedded(vector, int(about["n_params"]), int(about["layers"]), json.loads(about["said"]))

    def _named(self, entry: Entry) -> str:
        return json.dumps(entry.identity(self.identity))

    def _file(self, entry: Entry) -> Path:
        return self.folder / f"{fingerprint(entry.identity(self.identity))}.safetensors"
