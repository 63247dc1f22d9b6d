"""The floors hold, a broken contract is found, and rooms and files keep their size and their names."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "peace"
FILES = sorted(SOURCE.rglob("*.py"))
NAMELESS = {"utils", "util", "common", "helpers", "helper", "misc", "core", "base"}


def test_the_contracts_hold(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SOURCE.parent))
    exit_code = lint_imports(config_filename=str(ROOT / ".importlinter"), no_cache=True, no_logo=True)
    assert exit_code == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("graph", "import peace.models", "A module imports only from floors below its own"),
        ("attic", "", "A module imports only from floors below its own"),
        ("evaluation", "import peace.graph", "Right of the embedding table"),
        ("models", "import lightning.pytorch", "Only training, transfer and commands"),
        ("reporting", "import wandb", "Only tracking imports wandb"),
        ("commands", "import wandb", "Only tracking imports wandb"),
        ("evaluation", "import faiss", "Only the index imports faiss"),
    ],
)
def test_a_broken_contract_is_found(tmp_path: Path, room: str, line: str, contract: str) -> None:
    shutil.copytree(SOURCE, tmp_path / "peace", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "peace" / room).mkdir(exist_ok=True)
    with open(tmp_path / "peace" / room / "__init__.py", "a") as file:
        file.write(f"\n{line}\n")
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    options = ("--config", str(ROOT / ".importlinter"), "--no-cache", "--no-logo")
    checked = subprocess.run(
        [sys.executable, "-c", program, *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    broken = [printed for printed in checked.stdout.splitlines() if "BROKEN" in printed]
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert any(printed.startswith(contract) for printed in broken), checked.stdout


def test_no_file_is_long_and_no_function_either() -> None:
    assert FILES
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    functions = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name: length for name, length in functions.items() if length > 60} == {}


def test_every_room_has_a_name_that_says_what_it_holds() -> None:
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert names & NAMELESS == set()
