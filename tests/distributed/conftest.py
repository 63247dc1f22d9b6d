"""A tiny zoo, and what two processes made of it together."""

from pathlib import Path

import distributed_work
import pytest
import torch

from peace.cli import main
from peace.training.place import find_place
from peace.training.together import together
from peace.zoo.recipe import ZooRecipe
from peace.zoo.train import train_zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve recipes (two architectures, three tasks, two learning rates) of two seeds, two checkpoints each."""
    recipe = ZooRecipe(
        name="tiny", seed=0, dataset="digits", subset_size=3, subset_count=3, activations=["tanh"],
        architectures=[
            {"name": "mlp", "hidden": [6]},
            {"name": "cnn", "channels": [3], "kernels": [3], "pools": [2], "hidden": []},
        ],
        learning_rates=[0.003, 0.01], seeds=2, epochs=2, checkpoints=[1, 2], val_share=0.3,
    )  # fmt: skip
    return str(train_zoo(recipe, tmp_path_factory.mktemp("zoo"), progress=False).folder)


@pytest.fixture(scope="session")
def two_processes(zoo: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes, this one and one that it started, wrote what they found."""
    out, threads = tmp_path_factory.mktemp("two"), torch.get_num_threads()
    config = {"zoo": zoo, "out": str(out)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
        with together(find_place(2, 1, {}), "distributed_work:run", config):
            distributed_work.run(config)
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("LOCAL_RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert main(["zoo", "train", "demo", *distributed_work.ZOO]) == 0
    return tmp_path
