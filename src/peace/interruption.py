"""Ctrl-C as a request: the work in hand reaches a safe place, saves and stops; a second Ctrl-C stops at once."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from peace.errors import PeaceError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What asks for a stop: a person, a machine that shuts down or takes the job away, a time limit that is near."""


class Interrupted(PeaceError):
    """The work was stopped on request after saving; the same command goes on where it stopped. Exit code 130."""

    exit_code = 130


class StopRequest:
    """Whether a stop was asked for; set by the first SIGINT, SIGTERM or SIGUSR1 inside `stop_requests`."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Notes the request; a second Ctrl-C is a KeyboardInterrupt, other signals may come as often as they like."""
        if self.asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = True
        print("stopping at the next safe place; press Ctrl-C again to stop at once", file=sys.stderr)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Yields a `StopRequest` that signals set while the block runs; outside the main thread none ever does."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.ask) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
