"""Linear probes: what can be read off an embedding about the model, its training and what it reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation import targets
from peace.evaluation.features import Features
from peace.evaluation.ridge import Ridge, fit_ridge
from peace.evaluation.softmax import fit_softmax
from peace.evaluation.targets import SPLITS
from peace.metrics import by_run
from peace.metrics.by_run import Estimate

ERROR, DEVIATION = "squared_error", "squared_deviation"
"""Columns of rows whose embedding was decoded: Σ(w - ŵ)² of the model, and Σ(w - mean of its split)²."""
_WHERE = "the embedding table"


@dataclass(frozen=True)
class Score:
    """A measure of a probe.

    Attributes:
        value: The measure.
        chance: What a probe that knows nothing reaches: it predicts the training models' mean or most frequent class.
        low: Lower end of the 95 % interval over training runs, if there is one.
        high: Upper end of that interval.
    """

    value: float
    chance: float
    low: float | None = None
    high: float | None = None


@dataclass
class Properties:
    """What the probes of a table reached.

    Attributes:
        scores: By `<split>/<target>/<measure>`, `ood/<zoo>/<target>/<measure>` and `reconstruction/r2`.
        chosen: The penalty that `val` chose for each target: α of a number, C of a class.
        left_out: Why, by name, of targets that tell nothing.
        counts: How many models and runs there are in each split.
        predictions: True and predicted values of a number by `<split>/<target>` and `ood/<zoo>/<target>`.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    chosen: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    predictions: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)


def probe(
    table: EmbeddingTable,
    regression: Sequence[str] = (),
    classes: Sequence[str] = (),
    others: Mapping[str, EmbeddingTable] | None = None,
    seed: int = 0,
) -> Properties:
    """Returns how well linear probes of the raw vectors predict properties of the models.

    Probes are fitted on the table's `train` models, their penalties chosen on `val` and scored on `test`; whole runs
    are in one split. Numbers are predicted by ridge regression and scored by R² and Kendall's τ_b, classes by softmax
    regression and accuracy. Features are standardised by the training models, and probes have an intercept. Paper c's
    (Q1) has neither: its R² also measures how far a method's embeddings happen to be centred, and α counts for more
    where they happen to be small. Here every method is treated alike, so that neither decides.

    A target that is the same for all models of a split tells nothing and is left out, with its reason; so is a target
    that is the same in another zoo. Intervals are over training runs: bootstrap, or for τ a jackknife.

    Args:
        table: The embeddings, with `split` and the targets among its columns. If it has `squared_error` and
            `squared_deviation`, the R² of the reconstruction is told too.
        regression: Columns of numbers, or of lists of them.
        classes: Columns of labels.
        others: Tables of other zoos by the same embedder; the probes' predictions of their `test` models are scored.
        seed: Decides resamples.

    Raises:
        InputError: A split is empty, a target is missing or not finite, none varies, or another table is of another
            embedder.

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 4.2 and appendix B; Unterthiner et al. 2020, arXiv:2002.11448,
        for the transfer to other zoos.
    """
    probing = _Probing(table, seed)
    ridge, kept = probing.numbers(regression)
    probing.classes(classes)
    probing.reconstruction()
    found = probing.found
    if not found.scores:
        raise InputError("no property to probe", where=_WHERE, got="; ".join(map(": ".join, found.left_out.items())),
                         expected="a target that varies")  # fmt: skip
    for zoo, other in (others or {}).items():
        probing.elsewhere(zoo, other, ridge, kept)
    return found


class _Probing:
    """Probes one table, and gathers what comes of it."""

    def __init__(self, table: EmbeddingTable, seed: int) -> None:
        self.table, self.seed, self.found = table, seed, Properties()
        self.masks = {split: table.rows["split"].eq(split).to_numpy(copy=True) for split in SPLITS}
        self.runs = {split: _runs(table.rows[mask]) for split, mask in self.masks.items()}
        for split, runs in self.runs.items():
            if not len(runs):
                raise InputError(f"no model in the split '{split}'", where=_WHERE, do="embed a zoo that is split")
            self._count(split, runs)
        self.train = Features.of_training(table.raw[self.masks["train"]])
        self.features = {split: self.train.like(table.raw[self.masks[split]]) for split in ("val", "test")}

    def numbers(self, names: Sequence[str]) -> tuple[Ridge | None, list[str]]:
        """Adds the scores of numbers, and returns their probe with the names of what it predicts."""
        given = targets.numbers(self.table.rows, names, _WHERE)
        kept, constant = targets.varying(given, self.table.rows["split"])
        self.found.left_out |= constant
        if not kept:
            return None, []
        stacked = torch.stack([given[name] for name in kept], dim=1)
        wanted = {split: stacked[mask] for split, mask in self.masks.items()}
        ridge = fit_ridge(self.train, wanted["train"], self.features["val"], wanted["val"])
        self.found.chosen |= dict(zip(kept, ridge.alphas.tolist(), strict=True))
        for split, features in self.features.items():
            predicted = ridge.predict(features)
            for place, name in enumerate(kept):
                pair = wanted[split][:, place], predicted[:, place]
                self._add_number(f"{split}/{name}", *pair, ridge.centre[place], self._over(split))
        return ridge, kept

    def classes(self, names: Sequence[str]) -> None:
        """Adds the scores of classes."""
        given = targets.labels(self.table.rows, names, _WHERE)
        kept, constant = targets.varying(given, self.table.rows["split"])
        self.found.left_out |= constant
        for name in kept:
            wanted = {split: given[name][mask] for split, mask in self.masks.items()}
            softmax = fit_softmax(self.train, wanted["train"], self.features["val"], wanted["val"])
            self.found.chosen[name] = softmax.strength
            known, times = np.unique(wanted["train"], return_counts=True)
            for split, features in self.features.items():
                correct = torch.from_numpy(softmax.predict(features) == wanted[split])
                chance = float((wanted[split] == known[times.argmax()]).mean())
                self._add(f"{split}/{name}/accuracy", by_run.accuracy(correct, *self._over(split)), chance)

    def reconstruction(self) -> None:
        """Adds 1 - Σ(w - ŵ)² / Σ(w - mean)² over the models of a split, if the table's embeddings were decoded."""
        if not {ERROR, DEVIATION} <= set(self.table.rows):
            return
        given = targets.numbers(self.table.rows, [ERROR, DEVIATION], _WHERE)
        names = {"train": "train/reconstruction/r2", "val": "val/reconstruction/r2", "test": "reconstruction/r2"}
        for split, name in names.items():
            sums = (values[self.masks[split]] for values in given.values())
            self._add(name, by_run.explained(*sums, *self._over(split)), 0.0)

    def elsewhere(self, zoo: str, other: EmbeddingTable, ridge: Ridge | None, names: Sequence[str]) -> None:
        """Adds the scores of the numbers' probe on the test models of another zoo."""
        where = f"the embedding table of zoo '{zoo}'"
        made, expected = (each.provenance.get("embedder") for each in (other, self.table))
        if made != expected or other.vectors.shape[1] != self.table.vectors.shape[1]:
            raise InputError("embeddings of another embedder", where=where, got=str(made)[:12],
                             expected=str(expected)[:12], do="embed both zoos with the same words")  # fmt: skip
        other = other.select(other.rows["split"].eq("test"))
        if not len(other):
            raise InputError("no model in the split 'test'", where=where, do="embed a zoo that is split")
        runs = _runs(other.rows)
        self._count(zoo, runs)
        given = targets.numbers(other.rows, list(dict.fromkeys(name.partition("/")[0] for name in names)), where)
        predicted = ridge.predict(self.train.like(other.raw)) if ridge else None
        for place, name in enumerate(names):
            if name not in given or len(given[name].unique()) < 2:
                reason = "the same for all test models" if name in given else "not there"
                self.found.left_out[f"{zoo}/{name}"] = reason
                continue
            pair = given[name], predicted[:, place]
            self._add_number(f"ood/{zoo}/{name}", *pair, ridge.centre[place], (runs, "properties", self.seed))

    def _over(self, split: str) -> tuple[np.ndarray, str, int]:
        """The runs of an interval, and its keys; what is chosen by needs no interval, so `val` is as one run."""
        runs = self.runs[split] if split == "test" else np.zeros(len(self.runs[split]))
        return runs, "properties", self.seed

    def _add_number(
        self, name: str, target: Tensor, predicted: Tensor, centre: Tensor, over: tuple[np.ndarray, str, int]
    ) -> None:
        self.found.predictions[name] = target, predicted
        chance = by_run.r2(target, centre.expand_as(target), np.zeros(len(target))).value
        self._add(f"{name}/r2", by_run.r2(target, predicted, *over), chance)
        self._add(f"{name}/kendall_tau", by_run.kendall_tau(target, predicted, *over), 0.0)

    def _add(self, name: str, estimate: Estimate, chance: float) -> None:
        self.found.scores[name] = Score(estimate.value, chance, estimate.low, estimate.high)

    def _count(self, name: str, runs: np.ndarray) -> None:
        self.found.counts |= {f"models, {name}": len(runs), f"runs, {name}": len(np.unique(runs))}


def _runs(rows: DataFrame) -> np.ndarray:
    """The run of each model; a model without one is a run of its own."""
    return rows["run_id"].fillna(rows["id"]).astype(str).to_numpy()
