"""`peace zoo train|import|show|verify|export`."""

from collections.abc import Sequence
from pathlib import Path

from peace.config import compose, place, zoo_directory
from peace.errors import InputError, PeaceError
from peace.graph.derive import derive
from peace.graph.families.route import rebuild
from peace.graph.layer_reading import read_layers
from peace.reporting import symmetries
from peace.tracking.run import Tracking
from peace.tracking.zoo import tell_zoo
from peace.zoo.checkpoint import open_checkpoint, zoo_checkpoint
from peace.zoo.readers import write_safetensors
from peace.zoo.recipe import shards
from peace.zoo.small_cnn_zoo import import_zoo, open_archive
from peace.zoo.storage import Zoo, last_checkpoints
from peace.zoo.train import recipe_from, train_zoo


def train(name: str, words: Sequence[str], dry_run: bool) -> None:
    """Trains the zoo of a recipe, or goes on with it.

    Args:
        name: A recipe under `configs/zoo`.
        words: `key=value` words.
        dry_run: Whether only to say what would be trained.
    """
    config = compose("zoo", [f"zoo={name}", *words])
    recipe, folder = recipe_from(config["zoo"]), zoo_directory(config)
    if dry_run:
        for shard in shards(recipe):
            print(f"{len(shard.runs):6d} models  {shard.plan.epochs:4d} epochs  {shard.file}")
        print(f"would be trained into {folder}")
        return
    # Not in the zoo's folder, which holds a zoo and nothing else, nor beside it, where only zoos are looked for.
    told_in = place(config, "runs") / "zoos" / folder.parent.name / folder.name
    with Tracking(config, "zoo train", told_in, folder) as tracked:
        zoo = train_zoo(recipe, folder)
        tell_zoo(tracked, zoo, _diverged(zoo))
    _say_counts(zoo)


def import_archive(archive: str, name: str, words: Sequence[str], dry_run: bool) -> None:
    """Writes the models of a published archive where the zoo of a recipe would be trained.

    Args:
        archive: Folder of an unpacked archive of the Small CNN Zoo, or its `weights.npy`.
        name: A recipe under `configs/zoo`.
        words: `key=value` words.
        dry_run: Whether only to check the archive and say where it would go.
    """
    config = compose("zoo", [f"zoo={name}", *words])
    recipe, folder = recipe_from(config["zoo"]), zoo_directory(config)
    if dry_run:
        print(f"would import {len(open_archive(Path(archive), recipe).metrics)} checkpoints into {folder}")
        return
    _say_counts(import_zoo(Path(archive), recipe, folder))


def _diverged(zoo: Zoo) -> int:
    return zoo.rows.loc[zoo.rows["status"] == "diverged", "run_id"].nunique()


def _say_counts(zoo: Zoo) -> None:
    counts = f"{zoo.rows['run_id'].nunique()} models, {len(zoo.rows)} checkpoints, {_diverged(zoo)} diverged"
    print(f"zoo of {counts}: {zoo.folder}")


def show(folder: str) -> None:
    """Prints what is in a zoo."""
    rows = Zoo.open(folder).rows
    last = last_checkpoints(rows)
    columns = {"models": ("id", "size"), "diverged": ("status", lambda status: int((status == "diverged").sum()))}
    measured = [name for name in ("attack_success", "robust_accuracy") if last[name].notna().any()]
    for column in ("train_accuracy", "test_accuracy", "generalisation_gap", *measured):
        columns[column] = (column, "mean")
    for group in ("architecture", "task", *(["corruption"] if last["corruption"].nunique() > 1 else [])):
        print(last.groupby([group, "split"]).agg(**columns).to_string(float_format="%.3f"), end="\n\n")
    epochs = sorted(rows["epoch"].unique().tolist())
    print("such as " + ", ".join(last["id"].iloc[:: max(1, len(last) // 3)].head(3)))
    print(f"{last['run_id'].nunique()} runs, {len(rows)} checkpoints at epochs {epochs}")


def show_symmetries(model: str, folder: str | None, shape: str | None, verbose: bool) -> None:
    """Prints the symmetries of one model, derived from its module, or what each of its tensors is.

    Args:
        model: A checkpoint file, a folder of one, or with `folder` a model's id.
        folder: A zoo's folder.
        shape: Sizes of an example input such as `3,224,224`, instead of the architecture's own.
        verbose: Whether to name every tensor that touches an axis and every operation that pinned one.

    Raises:
        InputError: There is no such model, what describes it does not fit its tensors, or it cannot be traced.
    """
    found = zoo_checkpoint(Zoo.open(folder), model) if folder else open_checkpoint(model)
    rebuilt = rebuild(found)
    if shape is not None:
        rebuilt = rebuilt.on_input(_sizes(shape))
    if rebuilt.module is None:
        text = symmetries.layers(read_layers(found.tensors))
    else:
        group = derive(rebuilt.module, *rebuilt.inputs)
        text = symmetries.group(group, every=verbose)
    print(symmetries.route(rebuilt), text, sep="\n\n")


def _sizes(shape: str) -> tuple[int, ...]:
    sizes = shape.replace("x", ",").split(",")
    if not all(size.isdecimal() and int(size) for size in sizes):
        raise InputError("not the shape of an input", got=shape, expected="sizes such as 3,224,224", do="see --help")
    return tuple(map(int, sizes))


def verify(folder: str) -> None:
    """Reads and hashes every tensor of a zoo.

    Raises:
        PeaceError: Something is wrong; each thing is printed.
    """
    zoo = Zoo.open(folder)
    wrong = zoo.verify()
    for sentence in wrong:
        print(sentence)
    if wrong:
        raise PeaceError(f"the zoo in {folder} has {len(wrong)} faults")
    print(f"{len(zoo.rows)} models match their sha256; no run is in two splits")


def export(model: str, folder: str, out: str) -> None:
    """Writes one model of a zoo as a plain safetensors file, its state dict and what describes it."""
    zoo = Zoo.open(folder)
    record = zoo.record(model)
    if Path(out).suffix != ".safetensors":
        raise InputError("not a safetensors file", got=out, expected="a name that ends in .safetensors")
    tensors = zoo.weights(zoo.rows[zoo.rows["id"] == model])
    about = {"id": record.id, "architecture": record.architecture, "architecture_config": record.architecture_config}
    write_safetensors(out, {name: tensor[0] for name, tensor in tensors.items()}, about)
    print(f"{record.id} ({record.task}): {out}")
