"""The command line itself: where words may stand, and how it ends."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from peace.cli import main

ROOT = Path(__file__).parents[1]

HELP = [
    "", "zoo", "zoo train", "zoo import", "zoo show", "zoo verify", "zoo export", "pretrain", "embed", "index",
    "evaluate", "search", "table", "sweep", "sync", "list",
]  # fmt: skip


@pytest.mark.parametrize("verb", HELP)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb.split(), "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: peace {verb}".rstrip()) and printed.err == ""


def test_every_verb_s_help_is_tried(capsys: pytest.CaptureFixture[str]) -> None:
    offered = []
    for group in ("", "zoo"):
        main([*group.split(), "--help"])
        listed = capsys.readouterr().out.partition(":\n")[2].partition("options:")[0]
        offered += [f"{group} {name}".strip() for name in re.findall(r"^    (\w+)", listed, re.MULTILINE)]
    assert sorted(offered) == sorted(verb for verb in HELP if verb)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("peace 0.")


@pytest.mark.parametrize(
    "arguments",
    [
        "sweep demo --seeds 5 6 paths.runs=r",
        "sweep demo paths.runs=r --seeds 5 6",
        "sweep paths.runs=r demo --seeds 5 6",
        "sweep --seeds 5 6 paths.runs=r demo",
    ],
)
def test_words_may_stand_anywhere_after_the_verb(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    if arguments.endswith("demo"):
        # Only a word ends a list of numbers: what follows it directly would be read as one more.
        assert main(arguments.split()) == 2
        assert "invalid int value: 'demo'" in capsys.readouterr().err
        return
    assert main(arguments.split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[-1] for line in lines} == {"paths.runs=r"}
    assert lines[0].split()[4] == "seed=5" and lines[1].split()[4] == "seed=6"


@pytest.mark.parametrize(
    "arguments",
    [
        "pretrain --dry-run seed=4 encoder=layer_gnn",
        "pretrain encoder=layer_gnn --dry-run seed=4",
        "pretrain pretrain seed=4 encoder=layer_gnn --dry-run",
    ],
)
def test_a_config_s_words_too(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 0
    out = capsys.readouterr().out
    assert "\nseed: 4\n" in out and "name: layer_gnn" in out
    assert list(tmp_path.iterdir()) == []


def test_a_value_with_an_equals_sign_is_not_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "export", "m", "--zoo", "a=b", "--out", "c=d.safetensors"]) == 2
    assert capsys.readouterr().err.startswith("peace: no zoo in a=b: ")


def closed_at_once(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose reader closes the pipe before it writes."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "peace.cli", *arguments]
    with os.fdopen(writer, "wb") as pipe:
        finished = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    return finished.returncode, finished.stderr


def test_a_reader_that_has_enough_is_told_nothing() -> None:
    assert closed_at_once("sweep", "demo") == (141, "")
