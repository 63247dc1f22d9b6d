"""A plan and members of a population small enough to be trained many times."""

from torch import Tensor, nn

from peace.datasets.tasks import Task
from peace.zoo.population import Member, Plan


def plan(family: str, optimizer: str = "adam", activation: str = "tanh", dropout: bool = False, **more: object) -> Plan:
    shapes = {
        "mlp": {"name": "mlp", "hidden": [7, 4]},
        "cnn": {"name": "cnn", "channels": [3, 2], "kernels": [3, 2], "pools": [2, 1], "hidden": [4]},
        "averaged": {"name": "cnn", "channels": [3, 2], "kernels": [3, 2], "pools": [1, 1], "strides": [1, 2],
                     "pooling": "average", "hidden": []},
    }  # fmt: skip
    given = {"activation": activation, "input_shape": [1, 6, 6], "outputs": 3, "dropout": dropout}
    common = {"epochs": 3, "batch_size": 8, "checkpoints": (3,)} | more
    return Plan(shapes[family] | given, optimizer, **common)  # type: ignore[arg-type]


def members(dropout: bool = False) -> list[Member]:
    """Models that differ in everything that a member may differ in; their epochs have 1 to 8 steps of 8 images."""
    subset, grouping, other = (Task("tiny", groups) for groups in (
        ((0,), (1,), (2,)), ((0, 3), (1, 2), (4,)), ((4,), (2,), (0,)),
    ))  # fmt: skip
    rate = 0.4 if dropout else 0.0
    return [
        Member(subset, 11, "kaiming_uniform", 0.02),
        Member(grouping, 12, "xavier_normal", 0.005, weight_decay=0.3, dropout=rate),
        Member(other, 13, "normal", 0.05, train_fraction=0.5, dropout=rate / 2),
        Member(grouping, 2**63 - 1, "uniform", 0.01, weight_decay=0.01, train_fraction=0.77),
        Member(other, 15, "xavier_uniform", 0.03, weight_decay=0.1, train_fraction=0.01),
    ]


def flat(module: nn.Module) -> Tensor:
    """A module's parameters one after another, as a row of a population's weights."""
    return nn.utils.parameters_to_vector(module.parameters()).detach()
