"""`peace --help` answers at once: the command line imports nothing heavy before it knows what is asked."""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"
HEAVY = ("torch", "lightning", "wandb", "faiss", "sklearn", "timm", "torch_geometric", "pandas")


def test_the_command_line_imports_nothing_heavy() -> None:
    program = f"import peace.cli, sys; assert 'torch' not in sys.modules; print(*set({HEAVY}) & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    finished = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == []
