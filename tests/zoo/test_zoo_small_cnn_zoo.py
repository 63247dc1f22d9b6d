"""The Small CNN Zoo's archives: networks of a zoo trained here, written as an archive, come back as they were."""

import gzip
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from peace.cli import main
from peace.config import compose, zoo_directory
from peace.errors import InputError
from peace.zoo import architectures
from peace.zoo.recipe import ZooRecipe
from peace.zoo.small_cnn_zoo import INITIALISATIONS, import_zoo
from peace.zoo.storage import Zoo
from peace.zoo.train import recipe_from, train_zoo

KERAS = {"0": "conv2d", "3": "conv2d_1", "6": "conv2d_2", "11": "dense"}
CONFIG = {
    "config.activation": "activation", "config.dropout": "dropout", "config.l2reg": "weight_decay",
    "config.learning_rate": "learning_rate", "config.optimizer": "optimizer", "config.random_seed": "seed",
    "config.train_fraction": "train_fraction",
}  # fmt: skip
SCORES = ["train_loss", "test_loss", "train_accuracy", "test_accuracy"]
SAME = [
    *CONFIG.values(),
    *SCORES,
    "initialisation",
    "init_std",
    "epoch",
    "generalisation_gap",
    "family",
    "architecture",
]


def recipe(**change: object) -> ZooRecipe:
    return recipe_from(compose("zoo", ["zoo=mnist_hyp_small"])["zoo"] | change)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Thirty networks of 4,970 parameters, two checkpoints of each."""
    torch.set_num_threads(1)
    images = {"dataset": "digits", "image_size": 28, "train_per_class": 1, "test_per_class": 1}
    chosen = recipe(**images, train_fractions=[1.0], points=5, epochs=1, checkpoints=[0, 1])
    return train_zoo(chosen, tmp_path_factory.mktemp("zoo"), progress=False)


def of_all(zoo: Zoo) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """The rows of a zoo and their tensors, whatever their activations."""
    parts = [(rows, zoo.weights(rows)) for rows in zoo.by_architecture()]
    stacked = {name: torch.cat([tensors[name] for _, tensors in parts]) for name in parts[0][1]}
    return pd.concat([rows for rows, _ in parts], ignore_index=True), stacked


@pytest.fixture(scope="module")
def archive(trained: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zoo as it would have been published: biases before kernels, whose outputs come last; rows in no order."""
    folder, (rows, stacked) = tmp_path_factory.mktemp("archive"), of_all(trained)
    columns, layout, start = [], [], 0
    for place, layer in KERAS.items():
        kernel = stacked[f"{place}.weight"].numpy()
        kernel = kernel.transpose(0, 3, 4, 2, 1) if kernel.ndim == 5 else kernel.swapaxes(1, 2)
        for kind, values in (("bias", stacked[f"{place}.bias"].numpy()), ("kernel", kernel)):
            columns.append(values.reshape(len(rows), -1))
            size = columns[-1].shape[1]
            layout.append((f"sequential/{layer}/{kind}:0", start, start + size, size, values.shape[1:]))
            start += size
    names = {ours: theirs for theirs, ours in INITIALISATIONS.items()}
    metrics = rows[SCORES].assign(
        **{theirs: rows[ours] for theirs, ours in CONFIG.items()},
        **{"config.dataset": "mnist", "config.b_init": "zeros", "config.w_init": rows["initialisation"].map(names)},
        **{
            "config.init_std": rows["init_std"].fillna(0.7),
            "modeldir": "/cns/" + rows["run_id"],
            "step": rows["epoch"],
        },
    )
    order = np.random.default_rng(0).permutation(len(rows))
    np.save(folder / "weights.npy", np.concatenate(columns, axis=1)[order])
    metrics.iloc[order].to_csv(folder / "metrics.csv.gz")
    layout_columns = ["varname", "start_idx", "end_idx", "size", "shape"]
    pd.DataFrame(layout, columns=layout_columns).to_csv(folder / "layout.csv", index=False)
    return folder


@pytest.fixture
def damaged(archive: Path, tmp_path: Path) -> Path:
    """A copy of the archive, to be damaged."""
    return Path(shutil.copytree(archive, tmp_path / "archive"))


def matched(imported: Zoo, trained: Zoo) -> tuple[tuple[pd.DataFrame, dict[str, Tensor]], ...]:
    """Both zoos in one order: what a model was initialised and trained with is its own."""
    both = []
    for zoo in (imported, trained):
        rows, stacked = of_all(zoo)
        order = rows.sort_values(["learning_rate", "epoch"]).index
        both.append((rows.loc[order].reset_index(drop=True), {name: value[order] for name, value in stacked.items()}))
    return tuple(both)


def test_models_come_back_with_their_weights_factors_and_scores(trained: Zoo, archive: Path, tmp_path: Path) -> None:
    imported = import_zoo(archive, recipe(shard_size=4), tmp_path / "imported", progress=False)
    (rows, stacked), (expected, tensors) = matched(imported, trained)
    assert len(rows) == 60 and rows["learning_rate"].nunique() == 30
    pd.testing.assert_frame_equal(rows[SAME], expected[SAME], check_dtype=False, rtol=1e-12)
    for name, value in tensors.items():
        assert torch.equal(stacked[name], value), name
    assert rows["sha256"].tolist() == expected["sha256"].tolist()
    assert set(rows["task"]) == set(rows["dataset"]) == {"mnist"} and {len(f1) for f1 in rows["test_f1"]} == {10}
    assert rows["architecture_config"].tolist() == expected["architecture_config"].tolist()
    assert rows["weights_file"].nunique() == 2 * 4 and imported.verify() == []


def test_functions_are_those_of_the_networks_that_were_trained(trained: Zoo, archive: Path, tmp_path: Path) -> None:
    imported = import_zoo(archive, recipe(), tmp_path / "imported", progress=False)
    (rows, stacked), (expected, tensors) = matched(imported, trained)
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for place in (0, 17, 41):
        outputs = []
        for config, weights in ((rows, stacked), (expected, tensors)):
            module = architectures.build(config["architecture_config"][place]).eval()
            module.load_state_dict({name: value[place] for name, value in weights.items()})
            outputs.append(module(images))
        assert torch.equal(*outputs) and outputs[0].std() > 0


def test_splits_go_by_run_in_the_shares_of_the_recipe(archive: Path, tmp_path: Path) -> None:
    rows = import_zoo(archive, recipe(val_share=0.3, test_share=0.3), tmp_path / "a", progress=False).rows
    assert (rows.groupby("run_id")["split"].nunique() == 1).all() and rows["run_id"].nunique() == 30
    assert set(rows["split"]) == {"train", "val", "test"}
    again = import_zoo(archive, recipe(val_share=0.3, test_share=0.3), tmp_path / "b", progress=False).rows
    other = import_zoo(archive, recipe(val_share=0.3, test_share=0.3, seed=1), tmp_path / "c", progress=False).rows
    assert again["split"].tolist() == rows["split"].tolist() != other["split"].tolist()


def test_a_model_that_is_not_finite_has_diverged(damaged: Path, tmp_path: Path) -> None:
    weights = np.load(damaged / "weights.npy")
    weights[7, 100] = np.inf
    np.save(damaged / "weights.npy", weights)
    rows = import_zoo(damaged, recipe(), tmp_path / "imported", progress=False).rows
    (diverged,) = rows[rows["status"] == "diverged"].to_dict("records")
    assert math.isnan(diverged["test_accuracy"]) and math.isnan(diverged["generalisation_gap"])
    assert rows["test_accuracy"].isna().sum() == 1


def test_the_command_puts_the_zoo_where_other_verbs_look_for_it(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"paths.zoos={tmp_path}", "seed=3"]
    arguments = ["zoo", "import", str(archive / "weights.npy"), "--name", "mnist_hyp", *words]
    folder = zoo_directory(compose("zoo", ["zoo=mnist_hyp", *words]))
    assert main([*arguments, "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would import 60 checkpoints into {folder}\n"
    assert list(tmp_path.iterdir()) == []
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"zoo of 30 models, 60 checkpoints, 0 diverged: {folder}\n"
    assert main(["zoo", "verify", str(folder)]) == 0
    assert main(arguments) == 2
    assert "there is a zoo already, or a part of one in" in capsys.readouterr().err


def _metrics(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        change(pd.read_csv(folder / "metrics.csv.gz", index_col=0)).to_csv(folder / "metrics.csv.gz")

    return damage


def _layout(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        change(pd.read_csv(folder / "layout.csv")).to_csv(folder / "layout.csv", index=False)

    return damage


def _weights(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "weights.npy", change(np.load(folder / "weights.npy")))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no metrics": (lambda folder: (folder / "metrics.csv.gz").unlink(), "missing in .*: expected metrics.csv.gz"),
    "no weights": (lambda folder: (folder / "weights.npy").unlink(), "missing in .*: expected weights.npy"),
    "no layout": (lambda folder: (folder / "layout.csv").unlink(), "missing in .*: expected layout.csv"),
    "no gzip": (lambda folder: (folder / "metrics.csv.gz").write_text("a,b\n"), "cannot read the table"),
    "an empty table": (
        lambda folder: (folder / "metrics.csv.gz").write_bytes(gzip.compress(b"")), "cannot read the table in",
    ),
    "a column less": (
        _metrics(lambda rows: rows.drop(columns="config.l2reg")), "the table lacks columns .*expected .'config.l2reg'.",
    ),
    "words for numbers": (_metrics(lambda rows: rows.assign(test_loss="low")), "cannot read the table .*'low'"),
    "an unknown optimiser": (
        _metrics(lambda rows: rows.assign(**{"config.optimizer": "lion"})),
        "not understood in .*: got config.optimizer = lion, expected adam or sgd or rmsprop",
    ),
    "other data": (
        _metrics(lambda rows: rows.assign(**{"config.dataset": "cifar10"})),
        "other data than the recipe in .*: got cifar10, expected mnist; name the recipe",
    ),
    "no seed": (
        _metrics(lambda rows: rows.assign(**{"config.random_seed": math.nan})), "numbers .* none in config.random_seed",
    ),
    "no spread": (
        _metrics(lambda rows: rows.assign(**{"config.w_init": "RandomNormal", "config.init_std": math.nan})),
        "the table lacks numbers in .*: got none in config.init_std",
    ),
    "half a step": (_metrics(lambda rows: rows.assign(step=0.5)), "rows without a run or an epoch"),
    "a checkpoint twice": (_metrics(lambda rows: rows.assign(step=0)), "checkpoints twice in .*: got 30 rows"),
    "a row less": (_metrics(lambda rows: rows[1:]), r"not the weights .*got float32 \[60, 4970\], expected .*59"),
    "a column of weights less": (_weights(lambda weights: weights[:, 1:]), "layout .*for 4969 columns, .*4970 numb"),
    "doubles": (_weights(lambda weights: weights.astype(float)), "not the weights of these checkpoints .*float64"),
    "objects": (_weights(lambda weights: weights.astype(object)), "cannot read the weights in .*objects in dtype"),
    "no array": (lambda folder: (folder / "weights.npy").write_bytes(b"no"), "cannot read the weights"),
    "half an array": (
        lambda folder: (folder / "weights.npy").write_bytes((folder / "weights.npy").read_bytes()[:9999]),
        "cannot read the weights",
    ),
    "a layer less": (_layout(lambda rows: rows[:-2]), "not that of the zoo's network .*got 6 variables"),
    "a layer more": (_layout(lambda rows: pd.concat([rows, rows[-1:].assign(varname="top/bias")])), "got 9 variables"),
    "layers in another order": (_layout(lambda rows: rows[::-1]), "not that of the zoo's network"),
    "a shape that is none": (_layout(lambda rows: rows.assign(shape="()")), "not that of the zoo's network"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_no_archive_is_refused_and_leaves_nothing(name: str, damaged: Path, tmp_path: Path) -> None:
    damage, sentence = DAMAGES[name]
    damage(damaged)
    with pytest.raises(InputError, match=sentence) as caught:
        import_zoo(damaged, recipe(), tmp_path / "zoos" / "imported", progress=False)
    assert "\n" not in str(caught.value) and not list((tmp_path / "zoos").glob("*"))


def test_a_write_that_fails_leaves_nothing(damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("peace.zoo.small_cnn_zoo.write_manifest", full)
    with pytest.raises(OSError, match="no space left"):
        import_zoo(damaged, recipe(), tmp_path / "zoos" / "imported", progress=False)
    assert list((tmp_path / "zoos").iterdir()) == []
