"""One process at a time holds a folder, however the one before it ended."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from peace.errors import PeaceError
from peace.exclusive import exclusive

HOLD = """
import sys, pathlib
from peace.exclusive import exclusive
with exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_until_the_block_ends(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    for _ in range(2):
        with exclusive(folder), pytest.raises(PeaceError) as caught, exclusive(folder, "sweep"):
            pytest.fail("two hold it")
        assert caught.value.exit_code == 1
        assert str(caught.value) == (
            f"another process is writing to this sweep: {folder}; run the same command again when it has ended"
        )
    with exclusive(folder), exclusive(tmp_path / "other"):
        assert [file.name for file in folder.iterdir()] == [".lock"]


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"  # type: ignore[union-attr]
        with pytest.raises(PeaceError, match="another process is writing to this run directory"), exclusive(tmp_path):
            pytest.fail("two hold it")
        other.kill()
        other.wait()
        with exclusive(tmp_path):
            assert (tmp_path / ".lock").read_bytes() == b""


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def flock(*given: object) -> None:
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(PeaceError) as caught, exclusive(tmp_path):
        pytest.fail("nothing was locked")
    assert str(caught.value) == (
        f"the file system cannot lock this run directory: {tmp_path} (No locks available); "
        "put it on one that can, as flock does it"
    )
