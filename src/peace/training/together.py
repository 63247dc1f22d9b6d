"""Processes that train together on one machine: started, watched and ended by the first of them."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch.distributed

from peace.errors import PeaceError
from peace.interruption import SIGNALS, Interrupted
from peace.training.place import Place

_PATIENCE = 30.0
"""Seconds that a process waits for another one to end, or for itself to notice that another one failed."""
_MOMENT = 10.0
"""Seconds from the loss of a connection to the end of the process behind it, at most."""

Children = list["subprocess.Popen[bytes]"]


@contextmanager
def together(place: Place, work: str, config: Mapping[str, Any]) -> Iterator[None]:
    """Holds a block in which Lightning finds the other processes; those of this machine run `work` meanwhile.

    Args:
        place: Where this process stands.
        work: `module:function`, which takes the config.
        config: Of plain values.

    Raises:
        PeaceError: Another process failed.
    """
    if place.devices * place.nodes == 1:
        yield
        return
    before, ended, patience = dict(os.environ), threading.Event(), 0.0
    os.environ.update(place.variables())
    children = _start(place, work, config) if place.starts else []
    threading.Thread(target=_watch, args=(children, ended), daemon=True).start()
    try:
        yield
        patience = _PATIENCE
    except Interrupted:
        patience = _PATIENCE
        raise
    except RuntimeError as error:
        # What torch raises when a process is no longer there.
        if code := _failure(children):
            raise PeaceError(f"another process of the training ended with exit code {code}") from error
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        ended.set()
        _end(children, patience)
        os.environ.clear()
        os.environ.update(before)


def _start(place: Place, work: str, config: Mapping[str, Any]) -> Children:
    """The other processes of this machine: they never see a request to stop, which the first shares with all."""
    content = json.dumps([work, config], default=str).encode() + b"\n"
    command = [sys.executable, "-m", "peace.training.together"]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, "LOCAL_RANK": str(local)})
            for local in range(1, place.devices)
        ]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for child in children:
        child.stdin.write(content)  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
    return children


def _watch(children: Sequence["subprocess.Popen[bytes]"], ended: threading.Event) -> None:
    """Ends this process where another one failed and this one waits for it, which NCCL would do for half an hour."""
    while not ended.wait(1):
        if any(child.poll() for child in children) and not ended.wait(_PATIENCE):
            print("peace: another process of the training failed", file=sys.stderr)
            os._exit(1)


def _failure(children: Children) -> int:
    """The exit code of a process that failed, 0 if none did; its end may take a moment to be seen."""
    deadline = time.monotonic() + _MOMENT
    while True:
        codes = [child.poll() for child in children]
        if any(codes) or None not in codes or time.monotonic() > deadline:
            return next(filter(None, codes), 0)
        time.sleep(0.1)


def _end(children: Children, patience: float) -> None:
    """Waits for the others to end, then makes them: each ends when nothing more can come from here."""
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
        child.stdin.close()  # type: ignore[union-attr]
    for child in children:
        child.wait()


def main() -> int:
    """Runs what the first process asks for, as long as that one lives, and returns the exit code."""
    work, config = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    module, _, name = work.partition(":")
    try:
        getattr(importlib.import_module(module), name)(config)
    except PeaceError as error:
        print(f"peace: process {os.environ['LOCAL_RANK']}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _end_with_the_first() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
