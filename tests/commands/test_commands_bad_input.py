"""Bad input: one sentence, exit code 2, and everything that was there stays as it was."""

import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from commands_home import EXPERIMENT, ZOO, Home, Peace, snapshot, verb
from safetensors.torch import load_file, save_file

MARKER = "this_ran"

Prepared = Callable[[Home], list[str]]


def always(*arguments: str) -> Prepared:
    return lambda home: list(arguments)


def decoding(augmentation: str) -> Prepared:
    return always(*verb("pretrain", "decoder.beta=0.1", f"decoder.augmentation={augmentation}"))


def search(home: Home, file: str | Path, *more: str) -> list[str]:
    return ["search", str(file), "--index", str(home.run() / "index"), *more]


def weights(home: Home) -> dict[str, torch.Tensor]:
    """One model of the zoo."""
    stacked = load_file(next((home.zoo / "weights").glob("mlp-32-3-relu*.safetensors")))
    return {name: tensor[0].clone() for name, tensor in stacked.items()}


def damaged(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def truncated_file(home: Home) -> list[str]:
    save_file(weights(home), "cut.safetensors")
    damaged(Path("cut.safetensors"), 0.9)
    return search(home, "cut.safetensors")


@dataclass
class Runs:
    """What a pickle can do to whoever loads it."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (MARKER,)


def raw_pickle(home: Home) -> list[str]:
    Path("model.pt").write_bytes(pickle.dumps({"state_dict": Runs()}))
    return search(home, "model.pt")


def torch_pickle(home: Home) -> list[str]:
    torch.save({"weight": torch.ones(2, 2), "more": Runs()}, "model.pt")
    return search(home, "model.pt")


def renamed_pickle(home: Home) -> list[str]:
    Path("model.safetensors").write_bytes(pickle.dumps({"state_dict": Runs()}))
    return search(home, "model.safetensors")


def nan_weights(home: Home) -> list[str]:
    tensors = weights(home)
    tensors["1.weight"][0, 0] = float("nan")
    save_file(tensors, "nan.safetensors")
    return search(home, "nan.safetensors")


def whole_file(home: Home, *more: str, metadata: dict[str, str] | None = None) -> list[str]:
    save_file(weights(home), "whole.safetensors", metadata=metadata)
    return search(home, "whole.safetensors", *more)


def no_zero_neighbours(home: Home) -> list[str]:
    return whole_file(home, "--top", "0")


def other_tensors(home: Home) -> list[str]:
    save_file({"a.weight": torch.ones(3, 3)}, "other.safetensors")
    return search(home, "other.safetensors")


def transposed_tensors(home: Home) -> list[str]:
    save_file(
        {name: tensor.mT.contiguous() if tensor.ndim == 2 else tensor for name, tensor in weights(home).items()},
        "turned.safetensors",
    )
    return search(home, "turned.safetensors")


def strange_metadata(text: str) -> Prepared:
    return lambda home: whole_file(home, metadata={"architecture": "mine", "architecture_config": text})


def unknown_architecture(home: Home) -> list[str]:
    return whole_file(home, "--architecture", "mlp-64-3-relu")


def embedder_of_another_run(home: Home) -> list[str]:
    return whole_file(home, "--embedder", str(home.run("flat") / "embedder"))


def search_without_index(home: Home) -> list[str]:
    shutil.rmtree(home.run() / "index")
    return whole_file(home)


def damaged_index(name: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        damaged(home.run() / "index" / name)
        return whole_file(home)

    return prepare


def damaged_embedder(name: str, then: str = "search") -> Prepared:
    def prepare(home: Home) -> list[str]:
        damaged(home.run() / "embedder" / name)
        return whole_file(home) if then == "search" else verb(then)

    return prepare


def changed_embedder(home: Home) -> list[str]:
    path = home.run() / "embedder" / "embedder.safetensors"
    tensors = load_file(path)
    save_file({name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}, path)
    return whole_file(home)


def without_embedder(home: Home) -> list[str]:
    shutil.rmtree(home.run() / "embedder")
    return verb("embed")


def table_of_another_embedder(home: Home) -> list[str]:
    for name in ("embedder.json", "embedder.safetensors"):
        shutil.copy(home.run("flat") / "embedder" / name, home.run() / "embedder" / name)
    return verb("index")


def without_embeddings(then: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        (home.run() / "embeddings.safetensors").unlink()
        return verb(then)

    return prepare


def damaged_embeddings(then: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        damaged(home.run() / "embeddings.safetensors")
        return verb(then)

    return prepare


def without_zoo(*arguments: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        shutil.rmtree(home.zoo)
        return list(arguments)

    return prepare


def manifest(change: Callable[[pd.DataFrame], pd.DataFrame], *arguments: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        path = home.zoo / "manifest.parquet"
        change(pd.read_parquet(path)).to_parquet(path, index=False)
        return [str(home.zoo) if argument == "ZOO" else argument for argument in arguments]

    return prepare


def damaged_manifest(home: Home) -> list[str]:
    damaged(home.zoo / "manifest.parquet")
    return verb("embed")


def without_zoo_weights(home: Home) -> list[str]:
    shutil.rmtree(home.zoo / "weights")
    return verb("embed")


def empty(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[:0]


def all_diverged(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(status="diverged")


def own_config(text: str, *words: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        Path("mine.yaml").write_text(text)
        return ["pretrain", "mine.yaml", *words]

    return prepare


def own_sweep(text: str) -> Prepared:
    def prepare(home: Home) -> list[str]:
        Path("experiments", EXPERIMENT, "sweep.yaml").write_text(text)
        return ["sweep", EXPERIMENT]

    return prepare


def damaged_record(home: Home) -> list[str]:
    damaged(next(Path("results", "records", EXPERIMENT).glob("*/seed0.json")))
    return ["table", EXPERIMENT]


def other_scores(home: Home) -> list[str]:
    folder = Path("results", "records", EXPERIMENT)
    shutil.copy(folder / "flat" / "seed0.queries.safetensors", folder / "peace" / "seed0.queries.safetensors")
    return ["table", EXPERIMENT, "--check"]


def damaged_points(home: Home) -> list[str]:
    points = Path("results", "figures", f"{EXPERIMENT}.csv")
    points.parent.mkdir(parents=True)
    points.write_bytes(b"")
    return ["table", "--all"]


def damaged_data_set(home: Home) -> list[str]:
    Path("data", "images").mkdir(parents=True)
    np.savez("data/images/mine.npz", x_train=np.zeros((2, 8, 8), dtype=np.uint8))
    return ["zoo", "train", "demo", *ZOO.split(), "zoo.dataset=mine"]


CASES: dict[str, tuple[Prepared, str]] = {
    "no file": (lambda home: search(home, "absent.safetensors"), "absent.safetensors: got no file of that name"),
    "a folder": (lambda home: search(home, home.zoo), "not the folder of a checkpoint in .*no file of weights"),
    "a truncated file": (truncated_file, "truncated safetensors file: its header promises"),
    "a pickle": (raw_pickle, "a pickle that would run code: it asks for .*mkdir; it is never executed"),
    "a torch pickle": (torch_pickle, "a pickle that would run code: it asks for .*mkdir; it is never executed"),
    "a pickle by another name": (renamed_pickle, "cannot read weights in model.safetensors"),
    "NaN weights": (nan_weights, "NaN or infinite weights in nan.safetensors: got 1 of 2048 in '1.weight'"),
    "no neighbours": (no_zero_neighbours, "too few neighbours: got 0, expected 1 or more"),
    "half a neighbour": (always("search", "f", "--index", "i", "--top", "x"), "--top: invalid int value: 'x'"),
    "other tensors": (other_tensors, r"fit no architecture of the index in other.safetensors: got a.weight \[3, 3\]"),
    "other shapes": (transposed_tensors, r"fit no architecture of the index in turned.safetensors: got .*\[64, 32\]"),
    "metadata: no JSON": (strange_metadata("{"), "fit no architecture of the index"),
    "metadata: a number": (strange_metadata("5"), "fit no architecture of the index"),
    "metadata: an unknown kind": (strange_metadata('{"name": "gpt"}'), "fit no architecture of the index"),
    "metadata: a wrong type": (
        strange_metadata('{"name": "mlp", "input_shape": "wide", "outputs": 3}'), "fit no architecture of the index"
    ),
    "metadata: too large to be true": (
        strange_metadata('{"name": "mlp", "input_shape": [1, 8, 8], "outputs": 3, "hidden": [1000000000000]}'),
        "fit no architecture of the index",
    ),
    "metadata: larger than any number": (
        strange_metadata('{"name": "mlp", "input_shape": [1, 8, 8], "outputs": 3, "hidden": [1' + "0" * 40 + "]}"),
        "fit no architecture of the index",
    ),
    "metadata: nested without end": (strange_metadata("[" * 100_000), "fit no architecture of the index"),
    "an unknown architecture": (unknown_architecture, "no architecture 'mlp-64-3-relu' in the index: expected one of"),
    "an index of another encoder": (embedder_of_another_run, "index made with another encoder: got"),
    "no index": (search_without_index, "there is no index in .*make one with `peace index`"),
    "a damaged index": (damaged_index("index.faiss"), "damaged index in .*index.faiss has another sha256"),
    "an index with damaged rows": (damaged_index("rows.parquet"), "damaged index in .*rows.parquet has another sha256"),
    "an index with a damaged description": (damaged_index("index.json"), "damaged index"),
    "a damaged embedder": (damaged_embedder("embedder.safetensors"), "cannot read the embedder in"),
    "an embedder with a damaged config": (damaged_embedder("embedder.json"), "cannot read the embedder in"),
    "an embedder of other numbers": (changed_embedder, "tensors are not those it was saved with"),
    "embed: a damaged embedder": (damaged_embedder("embedder.safetensors", "embed"), "cannot read the embedder in"),
    "embed: no embedder": (without_embedder, "no trained embedder in .*run `peace pretrain` with the same words"),
    "index: a table of another embedder": (table_of_another_embedder, "index made with another encoder"),
    "index: no embeddings": (without_embeddings("index"), "there is no embedding table in .*peace embed"),
    "evaluate: no embeddings": (without_embeddings("evaluate"), "there is no embedding table in .*peace embed"),
    "index: damaged embeddings": (damaged_embeddings("index"), "damaged embedding table"),
    "evaluate: damaged embeddings": (damaged_embeddings("evaluate"), "damaged embedding table"),
    "pretrain: no zoo": (without_zoo(*verb("pretrain")), "no zoo in .*make one with `peace zoo train NAME`"),
    "embed: no zoo": (without_zoo(*verb("embed")), "no zoo in .*make one with `peace zoo train NAME`"),
    "show: no zoo": (always("zoo", "show", "nowhere"), "no zoo in nowhere"),
    "import: no archive": (
        always("zoo", "import", "nowhere", "--name", "mnist_hyp"),
        "a file of the archive is missing in nowhere: expected metrics.csv.gz",
    ),
    "import: no name": (always("zoo", "import", "nowhere"), "the following arguments are required: --name"),
    "verify: no zoo": (always("zoo", "verify", "nowhere"), "no zoo in nowhere"),
    "pretrain: an empty zoo": (manifest(empty, *verb("pretrain")), "the zoo is empty"),
    "embed: an empty zoo": (manifest(empty, *verb("embed", "producer=flat")), "the zoo is empty"),
    "show: an empty zoo": (manifest(empty, "zoo", "show", "ZOO"), "the zoo is empty"),
    "train: an empty zoo": (manifest(empty, "zoo", "train", "demo", *ZOO.split()), "the zoo is empty"),
    "pretrain: all diverged": (manifest(all_diverged, *verb("pretrain")), "no usable model in 'train'"),
    "embed: all diverged": (manifest(all_diverged, *verb("embed")), "no model of the zoo is usable"),
    "metadata: all diverged": (
        manifest(all_diverged, *verb("embed", "producer=metadata")), "no model of the zoo is usable"
    ),
    "a damaged manifest": (damaged_manifest, "cannot read the manifest"),
    "a manifest that lacks a column": (
        manifest(lambda rows: rows.drop(columns="task"), *verb("embed")), "the manifest lacks columns .*'task'"
    ),
    "a zoo without weights": (without_zoo_weights, "cannot read the zoo's weights"),
    "export: an unknown model": (
        lambda home: ["zoo", "export", "mlp", "--zoo", str(home.zoo), "--out", "m.safetensors"], "no model 'mlp' in"
    ),
    "an unknown data set": (
        always("zoo", "train", "demo", *ZOO.split(), "zoo.dataset=mnist"),
        r"no data set 'mnist': expected the file \$PEACE_DATA/images/mnist.npz .*set PEACE_DATA to the folder that",
    ),
    "held out tasks only": (always("zoo", "train", "demo", "zoo.held_out=16"), "no task left to train on"),
    "checkpoints after the end": (always("zoo", "train", "demo", "zoo.epochs=3"), "checkpoints outside the training"),
    "a misspelt key": (always(*verb("pretrain", "encoder.hiden_dim=8")), "'hiden_dim' .*did you mean 'hidden_dim'"),
    "a misspelt key at the root": (always("embed", "sead=1"), "unknown key 'sead'; did you mean 'seed'?"),
    "an unknown encoder": (always("pretrain", "encoder.name=network_gn"), "unknown encoder 'network_gn'; did you mean"),
    "an unknown choice": (always("pretrain", "loss=nt_xnt"), "unknown loss 'nt_xnt' in .*did you mean 'nt_xent'?"),
    "an unknown augmentation": (
        own_config("defaults: [pretrain]\naugmentation: {blur: {}}"), "unknown key 'augmentation.blur'"
    ),
    "an unknown producer": (always("embed", "producer.name=flatt"), "unknown baseline 'flatt'; did you mean 'flat'?"),
    "a baseline is not trained": (always("pretrain", "producer=flat"), "nothing to train: got producer 'flat'"),
    "text for a number": (always("pretrain", "encoder.hidden_dim=abc"), "'hidden_dim': got 'abc', expected a valid"),
    "a negative size": (always("pretrain", "encoder.hidden_dim=-1"), "'hidden_dim': got -1, expected greater than 0"),
    "heads that do not divide": (always("pretrain", "aggregator.num_heads=3"), "does not divide into heads"),
    "no steps": (always("pretrain", "trainer.max_steps=0"), "key 'max_steps': got 0, expected greater than 0"),
    "a batch of nothing": (always(*verb("embed", "embed.batch_size=0")), "key 'batch_size': got 0"),
    "a batch of nobody": (always(*verb("pretrain", "sampler.batch_size=-1")), "key 'batch_size': got -1"),
    "a share of no batch": (always(*verb("pretrain", "sampler.negatives.hard=1.5")), "key 'hard': got 1.5, expected"),
    "hard negatives of a clean zoo": (
        always(*verb("pretrain", "sampler.negatives.hard=0.5")), r"not enough negatives in 'sampler\.negatives\.hard'"
    ),
    "a model larger than a batch": (
        always(*verb("pretrain", "sampler.weights=100")), r"model '.*' is larger than a batch may be in 'samp"
    ),
    "a bank of less than nothing": (always(*verb("pretrain", "bank.size=-1")), "key 'size': got -1, expected greater"),
    "neither negatives nor a decoder": (always(*verb("pretrain", "loss=positive")), "'decoder.beta': got 0.0, exp"),
    "noise below nothing": (always(*verb("pretrain", "augmentation.noise={std: -1}")), "key 'std': got -1, expected"),
    "a bank for no negatives": (always(*verb("pretrain", "loss=positive", "bank.size=9")), "'bank.size': got 9, exp"),
    "a constant to learn": (
        always(*verb("pretrain", "loss=positive", "loss.learned_temperature=true")), "has no temperature to learn",
    ),
    "labels that are not there": (
        always(*verb("pretrain", "loss=supervised", "loss.label=tusk")), "no such label 'tusk' .*did you mean 'task'"
    ),
    "values that are no numbers": (
        always(*verb("pretrain", "loss=performance", "loss.value=task")), r"no such loss\.value: got \['task'\]"
    ),
    "no rank": (always(*verb("evaluate", "evaluate.cutoffs=[0]")), r"key 'cutoffs': got \[0\]"),
    "an unknown label": (always(*verb("evaluate", "evaluate.relevant_by=tusk")), "missing column 'tusk'.*'task'"),
    "a share above one": (always(*verb("embed", "producer=metadata", "producer.missing=2")), "not a share"),
    "a mapping is not a number": (always("pretrain", "row=5"), "'row' is a mapping: got 5"),
    "a part is not a number": (always("pretrain", "augmentation.noise=5"), "'augmentation.noise' is a mapping: got 5"),
    "a part that was off": (always("pretrain", "augmentation.symmetry=5"), "wrong type in 'augmentation.symmetry'"),
    "views for no decoder": (
        always(*verb("pretrain", "decoder.augmentation={}")), "no decoder to learn from views of its own in 'decoder"
    ),
    "an unknown way to decode": (decoding("{crosover: {}}"), "unknown augmentation 'crosover'; did you mean"),
    "a number for ways to decode": (decoding("5"), "wrong type in 'decoder.augmentation': got 5, expected null, or"),
    "a number for a way to decode": (decoding("{crossover: 5}"), "wrong type in 'decoder.augmentation.crossover': got"),
    "a share of networks above one": (decoding("{crossover: {probability: 2}}"), "'probability': got 2, expected less"),
    "a share of neurons above one": (decoding("{crossover: {share: 2}}"), "'share': got 2, expected less than or eq"),
    "a decoder of views in the wrong order": (
        always(*verb("pretrain", "decoder={beta: 0.1}", "augmentation={noise: {}, permutation: {}}")),
        "'permutation' comes after 'noise' in 'augmentation'",
    ),
    "renumbered after it is erased": (
        decoding("{random_erasing: {}, permutation: {}}"), "'permutation' comes .* 'randomerasing' in 'decoder.augm"
    ),
    "a seed in words": (always("pretrain", "seed=first"), "not a seed in 'seed': got 'first'"),
    "an experiment elsewhere": (always("embed", "experiment=../x"), "not the name of an experiment: got '../x'"),
    "a folder that is a number": (always("embed", "paths.zoos=5"), "not a folder's name in 'paths.zoos': got 5"),
    "a value not given": (own_config("defaults: [pretrain]\nseed: ???"), r"no value for 'seed'; write seed=\.\.\."),
    "a config that lacks keys": (always("pretrain", "zoo", "zoo=demo"), "the config has no '.*defaults: .pretrain"),
    "a key of an own config": (own_config("defaults: [pretrain]\nsead: 1"), "unknown key 'sead'; did you mean 'seed'"),
    "a deep key of an own config": (
        own_config("defaults: [pretrain]\nhead: {hiden_dim: 1}"), "'head.hiden_dim'; did you mean 'hidden_dim'"
    ),
    "a config that is no YAML": (own_config("seed: [1"), "cannot read the config in mine.yaml: got while parsing"),
    "an unknown config": (always("pretrain", "pretrian"), "no config 'pretrian' in .*did you mean 'pretrain'?"),
    "a word without a value": (always("pretrain", "pretrain", "seed"), "the word 'seed': expected key=value"),
    "an unknown recipe": (always("zoo", "train", "dmo"), "unknown zoo 'dmo' in .*did you mean 'demo'?"),
    "an unknown verb": (always("pretrian"), "invalid choice: 'pretrian' .*see `peace --help`"),
    "no verb": (always(), "required: VERB; see `peace --help`"),
    "an unknown option": (always("pretrain", "--dryrun"), "unrecognized arguments: --dryrun"),
    "an unknown experiment": (
        always("sweep", "paper/tniy"), "no experiment 'paper/tniy' in .*did you mean 'paper/tiny'?"
    ),
    "a table of an unknown experiment": (always("table", "tniy"), "no table.yaml in .*tniy"),
    "a table without records": (always("table", EXPERIMENT, "paths.results=elsewhere"), "no records in elsewhere"),
    "a check without records": (
        always("table", EXPERIMENT, "--check", "paths.results=elsewhere"), "no records in elsewhere"
    ),
    "a table of nothing": (always("table"), "not one experiment or all of them"),
    "a table of one and all": (always("table", EXPERIMENT, "--all"), "expected `peace table EXPERIMENT` or `peace ta"),
    "all tables, a damaged record": (lambda home: [*damaged_record(home)[:1], "--all"], "unreadable file in .*seed0"),
    "the scores of other queries": (other_scores, "not those of the record's queries in .*seed0.queries"),
    "a damaged CSV of points": (damaged_points, "cannot read the points in .*figures/paper/tiny.csv"),
    "a damaged record": (damaged_record, "unreadable file in .*seed0.json"),
    "an unknown list": (always("list", "encoder"), "nothing to list called 'encoder'; did you mean 'encoders'?"),
    "a misspelt key of a sweep": (
        own_sweep("seeds: [0]\nsteps: [{command: peace embed, onec: seed}]"), "unknown key 'onec' .did you mean 'once'"
    ),
    "a sweep without steps": (own_sweep("seeds: [0]"), "missing key 'steps' in .*sweep.yaml"),
    "a sweep that is no YAML": (own_sweep("seeds: [0"), "cannot read the sweep in .*sweep.yaml"),
    "a sweep of an unknown value": (
        own_sweep("seeds: [0]\naxes: {method: {flat: ''}}\nsteps: [{command: peace embed, only: {method: [flt]}}]"),
        "unknown value 'flt' of axis 'method' .*did you mean 'flat'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_in_one_sentence_and_nothing_is_lost(
    case: str, copied: Home, peace: Peace, tmp_path: Path
) -> None:
    prepare, sentence = CASES[case]
    arguments = prepare(copied)
    before = snapshot(tmp_path)
    finished = peace(*arguments)
    assert finished.code == 2, finished
    assert finished.err.startswith("peace: ") and finished.err.count("\n") == 1, finished.err
    assert re.search(sentence, finished.err), finished.err
    assert finished.err.rstrip().endswith((".", "?"))
    assert len(finished.err) < 700 + 2 * len(str(tmp_path))
    assert snapshot(tmp_path) == before
    assert not Path(MARKER).exists()


def test_a_damaged_data_set_is_refused(copied: Home, peace: Peace, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = damaged_data_set(copied)
    monkeypatch.setenv("PEACE_DATA", "data")
    before = snapshot(copied.folder)
    finished = peace(*arguments)
    assert finished.code == 2 and "mine.npz" in finished.err and finished.err.count("\n") == 1
    assert snapshot(copied.folder) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or sys.platform == "win32", reason="needs POSIX files")
def test_a_file_that_cannot_be_written_is_one_sentence_too(copied: Home, peace: Peace) -> None:
    Path("taken").write_text("a file where a folder is wanted")
    model = pd.read_parquet(copied.zoo / "manifest.parquet")["id"].iloc[0]
    finished = peace("zoo", "export", model, "--zoo", copied.zoo, "--out", "taken/m.safetensors")
    assert finished.code == 1
    assert finished.err.startswith("peace: ") and finished.err.count("\n") == 1 and "taken" in finished.err
    assert Path("taken").read_text() == "a file where a folder is wanted"


def test_what_json_says_is_json(copied: Home, peace: Peace) -> None:
    finished = peace(*whole_file(copied, "--json", "--top", "1000"))
    assert finished.code == 0
    assert len(json.loads(finished.out)["neighbours"]) == 32
