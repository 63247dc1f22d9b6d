"""A tiny zoo and a tiny training on it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peace.augmentations.erasing import Erasing
from peace.augmentations.near_duplicate import NearDuplicate
from peace.augmentations.noise import Noise
from peace.config import compose
from peace.losses.bank import Bank
from peace.losses.nt_xent import NTXent
from peace.models.embedder import build_embedder
from peace.training.data import ZooData
from peace.training.fit import TrainerConfig
from peace.training.module import Contrastive, OptimizerConfig
from peace.training.sampler import SamplerConfig
from peace.zoo.recipe import ZooRecipe
from peace.zoo.storage import Zoo
from peace.zoo.train import train_zoo

STEPS_PER_EPOCH, MAX_STEPS = 4, 10

_WORDS = [
    "encoder.hidden_dim=8", "encoder.num_layers=1",
    "aggregator.embedding_dim=16", "aggregator.num_layers=1", "aggregator.dropout=0.2",
    "head.hidden_dim=16", "head.projection_dim=8",
]  # fmt: skip


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Twelve recipes (two architectures, three tasks, two learning rates) of three seeds, two checkpoints each."""
    recipe = ZooRecipe(
        name="tiny", seed=0, dataset="digits", subset_size=3, subset_count=3, activations=["tanh"],
        architectures=[
            {"name": "mlp", "hidden": [6]},
            {"name": "cnn", "channels": [3], "kernels": [3], "pools": [2], "hidden": []},
        ],
        learning_rates=[0.003, 0.01], seeds=3, epochs=2, checkpoints=[1, 2], val_share=0.3,
    )  # fmt: skip
    return train_zoo(recipe, tmp_path_factory.mktemp("zoo"), progress=False)


@pytest.fixture(scope="session")
def make_data(zoo: Zoo) -> Callable[..., ZooData]:
    """A function that returns fresh data; keyword arguments take the place of the usual ones."""

    def make(**given: object) -> ZooData:
        augmentations = [NearDuplicate(), Erasing(0.15), Noise(0.15)]
        usual = {"zoo": zoo, "augmentations": augmentations, "sampler": SamplerConfig(batch_size=6),
                 "steps_per_epoch": STEPS_PER_EPOCH, "seed": 3}  # fmt: skip
        return ZooData(**{**usual, **given})

    return make


@pytest.fixture(scope="session")
def make_module() -> Callable[..., Contrastive]:
    """A function that returns a fresh module with dropout, the same one each time."""

    def make(
        *words: str, weight: float = 0.0, optimizer: OptimizerConfig | None = None, bank: Bank | None = None,
        beta: float = 0.0,
    ) -> Contrastive:  # fmt: skip
        torch.manual_seed(0)
        embedder = build_embedder(compose("pretrain", [*_WORDS, *words, f"decoder.beta={beta}"]))
        optimizer = optimizer or OptimizerConfig(learning_rate=1e-3, weight_decay=1e-2)
        return Contrastive(
            embedder, NTXent(), optimizer, MAX_STEPS, seed=5, regression_weight=weight, bank=bank, beta=beta
        )

    return make


@pytest.fixture(scope="session")
def make_trainer() -> Callable[..., TrainerConfig]:
    """A function that returns settings of a training of ten steps on one processor."""

    def make(**given: object) -> TrainerConfig:
        usual = {"max_steps": MAX_STEPS, "steps_per_epoch": STEPS_PER_EPOCH, "accelerator": "cpu",
                 "checkpoint_every": 3, "log_every": 1, "progress": False}  # fmt: skip
        return TrainerConfig(**{**usual, **given})

    return make


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An empty run directory."""
    return tmp_path / "run"
