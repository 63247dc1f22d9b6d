"""Atomic files: whole or absent, whatever happens while they are written."""

from pathlib import Path

import pytest

from peace.atomic import replacing


def test_a_finished_block_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("first", "second"):
        with replacing(str(path)) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent and temporary.suffix == ".txt" and temporary.name.startswith(".a.txt.")
    assert path.read_text() == "new"


@pytest.mark.parametrize("existed", [True, False])
@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failed_block_changes_nothing_and_leaves_nothing(
    tmp_path: Path, existed: bool, failure: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    if existed:
        path.write_text("old")
    with pytest.raises(failure), replacing(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"] * existed


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as first, replacing(tmp_path / "a.txt") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first"


def test_others_may_read_the_file(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("text")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
