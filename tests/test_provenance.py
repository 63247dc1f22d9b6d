"""Provenance: the commit, the versions, the device and the hash that a record carries are those of this run."""

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch

from peace import provenance


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder laid out like the source tree, from which `provenance` believes to be imported."""
    package = tmp_path / "src" / "peace"
    package.mkdir(parents=True)
    (package / "a.py").write_text("A = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_outside_a_checkout_the_commit_is_unknown(checkout: Path) -> None:
    assert provenance.git_commit() == "unknown"


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert provenance.git_commit() == "unknown"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_says_whether_code_or_configs_differ_from_it(checkout: Path) -> None:
    git(checkout, "init", "--quiet")
    assert provenance.git_commit() == "unknown"
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "first")
    commit = git(checkout, "rev-parse", "HEAD")
    assert len(commit) == 40 and provenance.git_commit() == commit
    (checkout / "notes.txt").write_text("no code\n")
    assert provenance.git_commit() == commit
    (checkout / "configs").mkdir()
    (checkout / "configs" / "new.yaml").write_text("seed: 1\n")
    assert provenance.git_commit() == f"{commit}+dirty"
    (checkout / "configs" / "new.yaml").unlink()
    (checkout / "src" / "peace" / "a.py").write_text("A = 2\n")
    assert provenance.git_commit() == f"{commit}+dirty"


def test_versions_are_those_installed_and_absent_where_nothing_is() -> None:
    versions = provenance.versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == importlib.metadata.version("torch")
    assert versions["numpy"] == importlib.metadata.version("numpy")


def test_a_package_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_PACKAGES", ("no-such-package-here",))
    assert provenance.versions() == {"python": platform.python_version(), "no-such-package-here": "absent"}


def test_the_device_is_the_accelerator_or_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.device() == f"cpu {platform.machine()}, {torch.get_num_threads()} threads"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert provenance.device("cuda") == "Some GPU"


def test_a_file_s_hash_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # The test vector of FIPS 180-2, appendix B.1.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert provenance.file_hash(tmp_path / "a") == provenance.file_hash(str(tmp_path / "a")) == expected


def test_the_seconds_only_grow() -> None:
    first, second = provenance.seconds_since_start(), provenance.seconds_since_start()
    assert 0 < first <= second


def test_a_stamp_holds_primitives_for_a_record() -> None:
    stamp = provenance.stamp()
    assert json.loads(json.dumps(stamp)) == stamp
    assert list(stamp) == ["git_commit", "versions", "device"]
    assert stamp["versions"] == provenance.versions()


def test_now_is_the_time_in_utc_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        before, told = time.time(), provenance.now()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert -1 < datetime.fromisoformat(told).timestamp() - before < 5
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told)
