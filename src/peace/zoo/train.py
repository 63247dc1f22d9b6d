"""Training of a whole zoo: shard by shard, resumable at any step, a record for every checkpoint of every run."""

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from peace.atomic import replacing
from peace.datasets.form import load_as
from peace.errors import InputError
from peace.interruption import Interrupted, stop_requests
from peace.registry import arguments
from peace.zoo.architectures import short_name
from peace.zoo.population import Population, Position
from peace.zoo.recipe import Run, Shard, ZooRecipe, shards
from peace.zoo.record import ModelRecord, completed, frame
from peace.zoo.scores import as_columns, score
from peace.zoo.storage import MANIFEST, Zoo, tensor_hashes, write_manifest, write_stack

_SNAPSHOT_SECONDS = 60.0


def train_zoo(recipe: ZooRecipe, folder: Path, progress: bool = True) -> Zoo:
    """Returns the zoo of a recipe, trained into `folder`; what is already there is not trained again.

    Args:
        recipe: What to train.
        folder: Where the zoo lies; a pure function of the recipe, so that a second call goes on where one stopped.
        progress: Whether to show a progress bar on a terminal.

    Raises:
        Interrupted: A stop was asked for; all that was trained is saved.
        InputError: The recipe makes no zoo, or what an earlier call left cannot be read.
    """
    if (folder / MANIFEST).is_file():
        return Zoo.open(folder)
    work = shards(recipe)
    total = sum(len(shard.runs) for shard in work) * recipe.epochs
    workers = min(len(work), torch.get_num_threads())
    with (
        stop_requests() as stop,
        tqdm(total=total, unit=" model epochs", unit_scale=True, disable=None if progress else True) as bar,
        # One thread a shard: the products are small, and threads that share one would spend their time waiting.
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        trained = [pool.submit(_train_shard, recipe, shard, folder, lambda: stop.asked, bar) for shard in work]
        try:
            for future in as_completed(trained):
                future.result()
        except BaseException:
            # What goes wrong in one shard shall not wait for the others to end: they save and stop.
            stop.asked = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        frames = [future.result() for future in trained]
    return write_manifest(folder, pd.concat(frames, ignore_index=True))


def _train_shard(recipe: ZooRecipe, shard: Shard, folder: Path, stop: Callable[[], bool], bar: tqdm) -> pd.DataFrame:
    done = folder / "weights" / f"{shard.file}.parquet"
    if done.is_file():
        bar.update(len(shard.runs) * shard.plan.epochs)
        return completed(pd.read_parquet(done))
    population = Population(shard.plan, [run.member for run in shard.runs], load_as(shard.dataset, recipe.form))
    snapshot = Snapshot(folder / "weights" / f"{shard.file}.partial", population)
    position, kept = snapshot.load()
    bar.update(len(shard.runs) * position.epoch)
    if 0 in shard.plan.checkpoints and not kept:
        kept[0] = (position.weights, score(population, position.weights))
    saved = time.monotonic()
    while position.epoch < shard.plan.epochs:
        epoch = position.epoch
        for _ in population.epoch(position, stop):
            pass
        if position.epoch > epoch:
            bar.update(len(shard.runs))
            if position.epoch in shard.plan.checkpoints:
                kept[position.epoch] = (position.weights, score(population, position.weights))
        # Asked once: a request that came between two questions would end the training before what it did is saved.
        stopping = stop()
        if stopping or time.monotonic() - saved > _SNAPSHOT_SECONDS:
            snapshot.save(position, kept)
            saved = time.monotonic()
        if stopping and position.epoch < shard.plan.epochs:
            raise Interrupted(f"stopped in epoch {position.epoch + 1} of {shard.plan.epochs} of {shard.file}; "
                              "run the same command again to go on")  # fmt: skip
    rows = frame(_write(shard, folder, population, kept))
    with replacing(done) as path:
        rows.to_parquet(path, index=False)
    snapshot.path.unlink(missing_ok=True)
    return rows


Kept = dict[int, tuple[Tensor, dict[str, Tensor]]]
"""Epoch -> weights [M, P] and scores of the population after it."""


class Snapshot:
    """A population in the middle of its training, as one safetensors file.

    Args:
        path: The file.
        population: The models.
    """

    def __init__(self, path: Path, population: Population) -> None:
        self.path, self.population = path, population

    def save(self, position: Position, kept: Kept) -> None:
        """Writes where the training stands and what has been kept so far."""
        tensors = {"weights": position.weights, "at": torch.tensor([position.epoch, position.step])}
        tensors |= {f"optimizer.{name}": value for name, value in position.optimizer.state.items()}
        for epoch, (weights, scores) in kept.items():
            tensors[f"kept.{epoch}"] = weights
            tensors |= {f"score.{epoch}.{name}": value for name, value in scores.items()}
        with replacing(self.path) as path:
            save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path)

    def load(self) -> tuple[Position, Kept]:
        """Returns what `save` wrote, or the start of the training.

        Raises:
            InputError: The file is damaged.
        """
        position, kept = self.population.start(), Kept()
        if not self.path.is_file():
            return position, kept
        try:
            # Copied: in the file they lie at any address, which on some processors decides how sums are rounded.
            tensors = {name: tensor.clone() for name, tensor in load_file(self.path).items()}
        except SafetensorError as error:
            raise InputError("cannot read where the training stopped", where=self.path, got=str(error),
                             do="delete that file to train its models anew") from error  # fmt: skip
        position.weights = tensors["weights"]
        position.epoch, position.step = tensors["at"].tolist()
        position.optimizer.state = _below(tensors, "optimizer.")
        for epoch, weights in _below(tensors, "kept.").items():
            kept[int(epoch)] = (weights, _below(tensors, f"score.{epoch}."))
        return position, dict(sorted(kept.items()))


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _write(shard: Shard, folder: Path, population: Population, kept: Kept) -> list[ModelRecord]:
    """Writes a shard's tensors and returns its records, run by run and epoch by epoch."""
    epochs = sorted(kept)
    rows = torch.stack([kept[epoch][0].detach() for epoch in epochs], dim=1).flatten(0, 1)
    stacked = {name: tensor.contiguous() for name, tensor in population.parameters(rows).items()}
    write_stack(folder, shard.file, stacked)
    finite = rows.isfinite().all(1).tolist()
    about = [_about(shard, run) for run in shard.runs]
    scores = {epoch: as_columns(kept[epoch][1]) for epoch in epochs}
    records = []
    hashes = tensor_hashes(stacked)
    for place, (member, epoch) in enumerate(itertools.product(range(len(shard.runs)), epochs)):
        stored = {"weights_index": place, "sha256": hashes[place], "status": "ok" if finite[place] else "diverged"}
        known = about[member]
        name = f"{known['architecture']}-{known['run_id']}-e{epoch:03d}"
        records.append(ModelRecord(id=name, epoch=epoch, **known, **stored, **scores[epoch][member]))
    return records


def _about(shard: Shard, run: Run) -> dict[str, Any]:
    """What the records of a run's checkpoints have in common."""
    member, config = run.member, shard.plan.architecture
    return {
        "task": member.task.id,
        "dataset": member.task.dataset,
        "architecture": short_name(config),
        "architecture_config": json.dumps(config),
        "family": str(config["name"]),
        "run_id": run.run_id,
        "recipe": run.recipe,
        "parent": None,
        "split": run.split,
        "tags": list(member.task.tags()),
        "seed": member.seed,
        "initialisation": member.initialisation,
        "activation": str(config["activation"]),
        "optimizer": shard.plan.optimizer,
        "learning_rate": member.learning_rate,
        "weight_decay": member.weight_decay,
        "dropout": member.dropout,
        "train_fraction": member.train_fraction,
        "batch_size": shard.plan.batch_size,
        "weights_file": shard.file,
        "corruption": member.corruption.name,
        "corruption_config": json.dumps(member.corruption.node),
        "init_std": math.nan if member.init_std is None else member.init_std,
    }


def recipe_from(node: Mapping[str, object]) -> ZooRecipe:
    """Returns the recipe in a config's `zoo` node.

    Raises:
        InputError: A key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(node, Mapping):
        raise InputError("no zoo", got=repr(node), expected="a recipe", do="name one of `peace list zoos`")
    return ZooRecipe(**arguments(ZooRecipe, node, f"zoo '{node.get('name', '?')}'"))
