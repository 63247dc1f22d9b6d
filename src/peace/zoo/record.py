"""One row of a zoo's manifest: everything known about one model, and where its tensors lie."""

import math
from dataclasses import MISSING, dataclass, fields
from typing import Any

import pandas as pd

from peace.errors import InputError

SPLITS = ("train", "val", "test")
STATUSES = ("ok", "diverged")


@dataclass(frozen=True)
class ModelRecord:
    """A model of a zoo: one checkpoint of one training run.

    Attributes:
        id: Unique in the zoo and fit for a file name.
        task: What it was trained to do, a `Task` id.
        dataset: The data set that the task is part of.
        architecture: Readable name, equal for models whose tensors stack.
        architecture_config: JSON from which the module is built.
        family: `mlp`, `cnn`, ...
        run_id: The training it comes from; checkpoints of one run share it and never part in a split.
        recipe: Hash of all that its training was given except the seed; near-duplicates share it.
        epoch: Epochs trained.
        parent: Id of the model that it was fine-tuned from.
        split: `train`, `val` or `test`.
        status: `ok`, or `diverged` where weights are not finite.
        tags: What a person would write on its page: data set and class names.
        seed, initialisation, activation, optimizer, learning_rate, weight_decay, dropout, train_fraction, batch_size:
            How it was trained.
        train_loss, test_loss, train_accuracy, test_accuracy, train_f1, test_f1, generalisation_gap: What it reached,
            on its own task; F1 by class; NaN where it diverged.
        weights_file: File under `weights/` that holds its tensors, stacked with others.
        weights_index: Its place in that stack.
        sha256: Hash of its tensors, see `storage.tensor_hashes`.
        corruption: What was wrong with how it was taught, a name in `corruptions.CORRUPTIONS`; `none` where nothing.
        corruption_config: JSON of that and its arguments.
        attack_success: Share of the test images of other classes that it calls the target class of its backdoor once
            they have the trigger; NaN without a backdoor.
        robust_accuracy: Test accuracy under the attack that it was trained against; NaN where there was none.

        init_std: Standard deviation that its initialisation was given; NaN where it has its own.

    Other scores are on clean images with their true classes, whatever the corruption.
    """

    id: str
    task: str
    dataset: str
    architecture: str
    architecture_config: str
    family: str
    run_id: str
    recipe: str
    epoch: int
    parent: str | None
    split: str
    status: str
    tags: list[str]
    seed: int
    initialisation: str
    activation: str
    optimizer: str
    learning_rate: float
    weight_decay: float
    dropout: float
    train_fraction: float
    batch_size: int
    train_loss: float
    test_loss: float
    train_accuracy: float
    test_accuracy: float
    train_f1: list[float]
    test_f1: list[float]
    generalisation_gap: float
    weights_file: str
    weights_index: int
    sha256: str
    corruption: str = "none"
    corruption_config: str = '{"name": "none"}'
    attack_success: float = math.nan
    robust_accuracy: float = math.nan
    init_std: float = math.nan

    def __post_init__(self) -> None:
        """Refuses a split or a status that does not exist."""
        for name, value, known in (("split", self.split, SPLITS), ("status", self.status, STATUSES)):
            if value not in known:
                raise InputError(f"unknown {name}", where=f"model {self.id}", got=value, expected=" or ".join(known))


def frame(records: list[ModelRecord]) -> pd.DataFrame:
    """Returns records as the rows of a manifest, a column a field."""
    return pd.DataFrame([vars(record) for record in records], columns=[field.name for field in fields(ModelRecord)])


def completed(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns a manifest's rows with the columns that an older one lacks and whose value is known all the same."""
    defaults = {field.name: field.default for field in fields(ModelRecord) if field.default is not MISSING}
    return rows.assign(**{name: value for name, value in defaults.items() if name not in rows})


def record(row: dict[str, Any]) -> ModelRecord:
    """Returns a manifest's row as a record.

    Raises:
        InputError: A column is missing or unknown.
    """
    names = {field.name for field in fields(ModelRecord)}
    if names != row.keys():
        raise InputError(
            "a manifest's columns are not a model's", got=sorted(names ^ row.keys()), expected="no difference"
        )
    return ModelRecord(**row)
