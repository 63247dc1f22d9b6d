"""The Small CNN Zoo as published, read into a zoo of this package.

Its authors' archive of a data set holds three files:

- `weights.npy`, float32 [checkpoints, 4970]: a row a checkpoint, all its variables flattened one after the other;
- `metrics.csv.gz`: in the same order, how each checkpoint was trained (`config.…`), in which run (`modeldir`), for how
  many epochs (`step`), and its loss and accuracy;
- `layout.csv`: name, start, end and shape of each variable; kernels are [height, width, in, out] or [in, out].

This follows the authors' description and the code that made the archives; the archives themselves could not be had
where it was written. Not all of it means what it means in a zoo trained here: losses include the penalty on the
weights, which counts twice as much as a weight decay of the same number and leaves biases out; pixels lie in [-1, 1].

Reference:
    T. Unterthiner, D. Keysers, S. Gelly, O. Bousquet, I. Tolstikhin 2020, *Predicting Neural Network Accuracy from
    Weights*, arXiv:2002.11448; `dnn_predict_accuracy` in github.com/google-research/google-research.
"""

import itertools
import json
import math
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from peace.config import fingerprint
from peace.errors import InputError
from peace.zoo import architectures
from peace.zoo.initialisation import WITH_STD
from peace.zoo.recipe import ZooRecipe, split
from peace.zoo.record import ModelRecord, frame
from peace.zoo.storage import Zoo, tensor_hashes, write_manifest, write_stack

SIZES = {"mnist": 28, "fashion_mnist": 28, "cifar10": 32, "svhn_cropped": 32}
"""Height and width of the grey images of each data set."""

INITIALISATIONS = {
    "glorot_normal": "xavier_normal",
    "he_normal": "kaiming_normal",
    "orthogonal": "orthogonal",
    "RandomNormal": "normal",
    "TruncatedNormal": "truncated_normal",
}
"""Keras's names of the initialisations, and ours."""

_CHOICES = {"config.dataset": SIZES, "config.activation": ("relu", "tanh"), "config.w_init": INITIALISATIONS,
            "config.optimizer": ("adam", "sgd", "rmsprop")}  # fmt: skip
_SCORES = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
_NUMBERS = ("config.dropout", "config.init_std", "config.l2reg", "config.learning_rate", "config.random_seed",
            "config.train_fraction", "step", *_SCORES)  # fmt: skip
_OUTPUTS = 10


@dataclass(frozen=True)
class Variable:
    """Where a parameter of our module lies in a row: its columns, and its shape and axes there."""

    columns: slice
    shape: tuple[int, ...]

    @property
    def final(self) -> tuple[int, ...] | None:
        """Its shape in torch; None where it has none."""
        size = self.columns.stop - self.columns.start
        if len(self.shape) not in _AXES or math.prod(self.shape) != size:
            return None
        return tuple(self.shape[axis - 1] for axis in _AXES[len(self.shape)])

    def of(self, rows: Tensor) -> Tensor:
        """Returns the parameter of each model in torch's layout. Shape: [M, P] -> [M, *shape]."""
        own = rows[:, self.columns].unflatten(1, self.shape)
        return own.permute(0, *_AXES[len(self.shape)]).contiguous()


_AXES = {1: (1,), 2: (2, 1), 4: (4, 3, 1, 2)}
"""Order of a variable's axes in torch, by how many it has, where 0 is the model's."""


@dataclass(frozen=True)
class Archive:
    """An archive whose tables are read and checked, and whose weights are not read yet.

    Attributes:
        metrics: A row a checkpoint; `row` is its place in the weights.
        weights: Shape: [checkpoints, parameters] float32.
        layouts: By activation, where each parameter lies in a row of the weights.
    """

    metrics: pd.DataFrame
    weights: np.ndarray
    layouts: dict[str, dict[str, Variable]]


def open_archive(source: Path, recipe: ZooRecipe) -> Archive:
    """Returns an archive, checked.

    Args:
        source: Its folder, or its `weights.npy`.
        recipe: What the models are of.

    Raises:
        InputError: A file is missing, damaged, or not what it should be.
    """
    source = source.parent if source.suffix == ".npy" else source
    metrics = _metrics(source / "metrics.csv.gz", recipe)
    weights = _weights(source / "weights.npy", len(metrics))
    layouts = {activation: _layout(source / "layout.csv", _module(recipe, part), weights.shape[1])
               for activation, part in metrics.groupby("config.activation")}  # fmt: skip
    return Archive(metrics, weights, layouts)


def import_zoo(source: Path, recipe: ZooRecipe, folder: Path, progress: bool = True) -> Zoo:
    """Returns the zoo of an archive, written into `folder` whole or not at all; weights are read shard by shard.

    Splits go by run, as in training; F1 is not in the archive and NaN; models with a weight or score that is
    not finite have diverged.

    Args:
        source: The unpacked archive, or its `weights.npy`.
        recipe: What the models are of: its architecture, batch size, seed, shares of the splits and shard size count.
        folder: Where the zoo shall lie.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        InputError: A file is missing, damaged, or not what it should be, or there is a zoo already.
    """
    if folder.exists():
        raise InputError("there is a zoo already, or a part of one", where=folder, do="delete it, or give another seed")
    archive = open_archive(source, recipe)
    metrics, weights, layouts = archive.metrics, archive.weights, archive.layouts
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        whole = Path(temporary) / "zoo"
        with tqdm(total=len(metrics), unit=" checkpoints", disable=None if progress else True) as bar:
            frames = []
            for file, rows in _shards(recipe, metrics):
                frames.append(_write(whole, file, rows, recipe, weights, layouts[rows["config.activation"].iloc[0]]))
                bar.update(len(rows))
        write_manifest(whole, pd.concat(frames, ignore_index=True))
        whole.rename(folder)
    return Zoo.open(folder)


def _metrics(path: Path, recipe: ZooRecipe) -> pd.DataFrame:
    """Returns the rows of the table with what is asked of them checked, `row` being each one's place in the weights."""
    rows = _table(path, dict.fromkeys(_NUMBERS, "float64") | dict.fromkeys([*_CHOICES, "modeldir"], "str"))
    for column, known in _CHOICES.items():
        strange = set(rows[column]) - set(known)
        if strange:
            got, expected = f"{column} = {min(map(str, strange))}", " or ".join(known)
            raise InputError("the table has a value that is not understood", where=path, got=got, expected=expected)
    known = tuple(recipe.datasets)
    if others := [name for name in sorted(set(rows["config.dataset"])) if not any(map(_of(name), known))]:
        raise InputError("the archive is of other data than the recipe", where=path, got=others[0],
                         expected=" or ".join(known), do="name the recipe of its data set")  # fmt: skip
    needed = rows[[column for column in _NUMBERS if column not in _SCORES]].copy()
    # The standard deviation counts where an initialisation has one.
    needed.loc[~rows["config.w_init"].map(INITIALISATIONS).isin(WITH_STD), "config.init_std"] = 0.0
    strange = ~np.isfinite(needed).all()
    if strange.any():
        raise InputError("the table lacks numbers", where=path, got=f"none in {strange.idxmax()}", expected="all")
    steps = rows["step"]
    if not ((steps >= 0) & (steps % 1 == 0)).all() or rows["modeldir"].isna().any():
        raise InputError("the table has rows without a run or an epoch", where=path, expected="whole numbers in `step`")
    twice = int(rows.duplicated(["modeldir", "step"]).sum())
    if twice:
        raise InputError("the table has checkpoints twice", where=path, got=f"{twice} rows", expected="none")
    return rows.assign(row=np.arange(len(rows)))


def _of(name: str) -> Callable[[str], bool]:
    """Whether a data set of ours, such as `cifar10_gray28`, is made of one of the archive's."""
    return lambda ours: f"{ours}_".startswith(f"{name.removesuffix('_cropped')}_")


def _table(path: Path, kinds: dict[str, str]) -> pd.DataFrame:
    """Returns the columns of a table that are asked for, each of its kind."""
    if not path.is_file():
        raise InputError("a file of the archive is missing", where=path.parent, expected=path.name)
    try:
        known = pd.read_csv(path, nrows=0).columns
        if lacking := sorted(kinds.keys() - set(known)):
            raise InputError("the table lacks columns", where=path, got=list(known), expected=lacking)
        rows = pd.read_csv(path, usecols=list(kinds), dtype=kinds)[list(kinds)]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError("cannot read the table", where=path, got=str(error).splitlines()[0]) from error
    if rows.empty:
        raise InputError("the table is empty", where=path, expected="a row for each checkpoint or variable")
    return rows


def _weights(path: Path, count: int) -> np.ndarray:
    """Returns the matrix of weights, of which nothing is read yet."""
    if not path.is_file():
        raise InputError("a file of the archive is missing", where=path.parent, expected=path.name)
    try:
        weights = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError("cannot read the weights", where=path, got=str(error).splitlines()[0]) from error
    if weights.dtype != np.float32 or weights.ndim != 2 or len(weights) != count:
        got, expected = f"{weights.dtype} {list(weights.shape)}", f"float32 [{count}, parameters], as many as metrics"
        raise InputError("not the weights of these checkpoints", where=path, got=got, expected=expected)
    return weights


def _config(recipe: ZooRecipe, rows: pd.DataFrame) -> dict[str, Any]:
    """The architecture of some rows, dropout layers included, as that of a zoo trained here."""
    size = SIZES[rows["config.dataset"].iloc[0]]
    return {**recipe.architectures[0], "activation": rows["config.activation"].iloc[0],
            "input_shape": [1, size, size], "outputs": _OUTPUTS, "dropout": True}  # fmt: skip


def _module(recipe: ZooRecipe, rows: pd.DataFrame) -> nn.Sequential:
    return architectures.build(_config(recipe, rows))


def _layout(path: Path, module: nn.Sequential, width: int) -> dict[str, Variable]:
    """Returns where each parameter of the module lies; the archive's layers are its layers, in the same order."""
    rows = _table(path, {"varname": "str", "start_idx": "int64", "end_idx": "int64", "shape": "str"})
    layers: dict[str, dict[str, Variable]] = {}
    for name, start, end, shape in rows.itertuples(index=False):
        layer, _, kind = str(name).rpartition("/")
        kind = {"kernel": "weight", "bias": "bias"}.get(kind.partition(":")[0], kind)
        layers.setdefault(layer, {})[kind] = Variable(
            slice(start, end), tuple(map(int, re.findall(r"\d+", str(shape))))
        )
    shapes = {name: tuple(value.shape) for name, value in module.named_parameters()}
    places = list(dict.fromkeys(name.partition(".")[0] for name in shapes))
    # Beyond the module's layers stands what cannot be one of its parameters.
    found = {f"{place}.{kind}": variable
             for place, layer in itertools.zip_longest(places, layers.values(), fillvalue={})
             for kind, variable in layer.items()}  # fmt: skip
    spans = sorted((variable.columns.start, variable.columns.stop) for variable in found.values())
    whole = [0, *(end for _, end in spans)] == [*(start for start, _ in spans), width]
    if not whole or {name: variable.final for name, variable in found.items()} != shapes:
        size = sum(value.numel() for value in module.parameters())
        raise InputError("the layout is not that of the zoo's network", where=path,
                         got=f"{len(rows)} variables for {width} columns",
                         expected=f"kernels and biases of {len(places)} layers, {size} numbers")  # fmt: skip
    return found


def _shards(recipe: ZooRecipe, metrics: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of whole runs of one data set and activation at a time, and the file that they go into."""
    for (dataset, activation), own in metrics.groupby(["config.dataset", "config.activation"], sort=True):
        order = own.groupby("modeldir")["row"].transform("min")
        own = own.assign(run=order).sort_values(["run", "step"])
        number = own["run"].rank(method="dense").astype(int) - 1
        for part, rows in own.groupby(number // recipe.shard_size):
            yield f"{dataset}-{activation}-{part:04d}.safetensors", rows


def _write(
    folder: Path, file: str, rows: pd.DataFrame, recipe: ZooRecipe, weights: np.ndarray, layout: dict[str, Variable]
) -> pd.DataFrame:
    """Writes the tensors of some checkpoints and returns their rows of the manifest."""
    flat = torch.from_numpy(weights[rows["row"].to_numpy()])
    stacked = {name: variable.of(flat) for name, variable in layout.items()}
    write_stack(folder, file, stacked)
    scores = torch.from_numpy(rows[list(_SCORES)].to_numpy())
    config, finite = _config(recipe, rows), (flat.isfinite().all(1) & scores.isfinite().all(1)).tolist()
    records = []
    for place, (row, sha256) in enumerate(zip(rows.to_dict("records"), tensor_hashes(stacked), strict=True)):
        about = {"weights_file": file, "weights_index": place, "sha256": sha256,
                 "status": "ok" if finite[place] else "diverged"}  # fmt: skip
        records.append(ModelRecord(**_taught(row, config, recipe), **_reached(row, finite[place]), **about))
    return frame(records)


def _taught(row: dict[str, Any], config: dict[str, Any], recipe: ZooRecipe) -> dict[str, Any]:
    """What a checkpoint is and how it was trained."""
    initialisation = INITIALISATIONS[row["config.w_init"]]
    run_id = fingerprint({"small cnn zoo": row["config.dataset"], "modeldir": row["modeldir"]})
    name, epoch = architectures.short_name(config), int(row["step"])
    given = {
        "seed": int(row["config.random_seed"]),
        "initialisation": initialisation,
        "activation": row["config.activation"],
        "optimizer": row["config.optimizer"],
        "learning_rate": row["config.learning_rate"],
        "weight_decay": row["config.l2reg"],
        "dropout": row["config.dropout"],
        "train_fraction": row["config.train_fraction"],
        "init_std": row["config.init_std"] if initialisation in WITH_STD else math.nan,
        "batch_size": recipe.batch_size,
    }
    return given | {
        "id": f"{name}-{run_id}-e{epoch:03d}",
        "task": row["config.dataset"],
        "dataset": row["config.dataset"],
        "architecture": name,
        "architecture_config": json.dumps(config),
        "family": str(config["name"]),
        "run_id": run_id,
        "recipe": fingerprint({**given, "seed": None, "dataset": row["config.dataset"]}),
        "epoch": epoch,
        "parent": None,
        "split": split(recipe, run_id),
        "tags": [row["config.dataset"]],
    }


def _reached(row: dict[str, Any], finite: bool) -> dict[str, Any]:
    """A checkpoint's scores; NaN where it diverged."""
    scores = {name: row[name] if finite else math.nan for name in _SCORES}
    unknown = [math.nan] * _OUTPUTS
    gap = scores["train_accuracy"] - scores["test_accuracy"]
    return {**scores, "generalisation_gap": gap, "train_f1": unknown, "test_f1": unknown}
