"""Errors that a person reads: one sentence that says what, where, got, expected and what to do."""

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

_MOST = 20


class PeaceError(Exception):
    """A failure with a message for people; the command line prints it without a traceback and exits with its code.

    Args:
        message: One sentence.
        exit_code: 1, or what a failed part of the work ended with.
    """

    exit_code = 1

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


class InputError(PeaceError):
    """Bad input or usage; the command line exits 2.

    Args:
        what: What is wrong, as the start of a sentence.
        where: The file, key or argument that is at fault.
        got: What was found there.
        expected: What should have been there.
        do: What the reader can do about it.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        expected: object = None,
        do: str | None = None,
    ) -> None:
        found = ", ".join(
            f"{word} {thing}" for word, thing in (("got", got), ("expected", expected)) if thing is not None
        )
        sentence = what if where is None else f"{what} in {where}"
        sentence += f": {found}" if found else ""
        sentence += f"; {do}" if do else ""
        super().__init__(sentence if sentence.endswith((".", "?")) else f"{sentence}.")


def run_script(main: Callable[[list[str]], object]) -> None:
    """Runs a script with the process's own arguments; a PeaceError is one sentence and an exit code.

    Args:
        main: Takes the arguments.
    """
    try:
        main(sys.argv[1:])
    except PeaceError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns `did you mean X?` for the nearest known word, else the list of the first of them."""
    known = sorted(known)
    nearest = get_close_matches(word, known, n=1)
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return f"did you mean '{nearest[0]}'?" if nearest else f"choose from {', '.join(known[:_MOST]) or 'nothing'}{more}"
