"""Follows a network, its permuted checkpoints and its permuted twin, and writes a record an epoch.

Words: `seed=0 paths.results=results`.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from twins import Snapshot, follow

from peace import provenance, seeding
from peace.config import compose, fingerprint, place
from peace.datasets.form import Form, load_as
from peace.datasets.images import ImageData
from peace.datasets.tasks import Task
from peace.errors import run_script
from peace.reporting.record import Metric, write_record
from peace.zoo.population import Member, Plan

EXPERIMENT = "hyper_representations/figure5"
DATASET, FORM = "mnist", Form(train_per_class=1000)
NAMES = ("a", "a_p", "b")


def main(words: Sequence[str], dataset: str = DATASET, form: Form = FORM, epochs: int = 10) -> list[Path]:
    """Trains, writes the records and returns their paths.

    Args:
        words: `key=value` words of `configs/evaluate.yaml`; `seed` and `paths.results` are used.
        dataset: What is learnt.
        form: What is made of it.
        epochs: How many.
    """
    torch.set_num_threads(1)
    config = compose("evaluate", words)
    data = load_as(dataset, form)
    architecture = {"name": "cnn", "input_shape": list(data.x_train.shape[1:]), "outputs": len(data.classes),
                    "activation": "tanh"}  # fmt: skip
    plan = Plan(architecture, "adam", epochs, 32, (epochs,))
    member = Member(Task(dataset, ()), seeding.key(config["seed"], EXPERIMENT), "uniform", 3e-4)
    origin = {"zoo": "", "config": fingerprint([vars(plan), dataset, vars(form)]), **provenance.stamp()}
    paths = []
    for epoch, snapshot in enumerate(follow(plan, member, data)):
        metrics = {name: Metric(value) for name, value in measured(snapshot, data).items()}
        scale = {"training images": len(data.x_train), "test images": len(data.x_test), "epochs": epochs,
                 "weights": snapshot.weights.shape[1]}  # fmt: skip
        paths.append(write_record(
            place(config, "results") / "records", EXPERIMENT, {"epoch": str(epoch)}, config["seed"], metrics,
            {"epoch": epoch}, origin, provenance.seconds_since_start(), {"scale": scale},
        ))  # fmt: skip
        print(f"epoch {epoch}: " + ", ".join(f"{name} {metric.value:.4g}" for name, metric in metrics.items()))
    return paths


def measured(snapshot: Snapshot, data: ImageData) -> dict[str, float]:
    """Returns accuracies, distances, and shares of the test images to which two networks give different classes.

    Args:
        snapshot: The three networks.
        data: What they learn.
    """
    found = {f"distance/{name}": distance for name, distance in snapshot.distances().items()}
    for part, classes, labels in (("train", snapshot.train, data.y_train), ("test", snapshot.test, data.y_test)):
        accuracies = (classes == labels).double().mean(1).tolist()
        found |= {f"{part}_accuracy/{name}": accuracy for name, accuracy in zip(NAMES, accuracies, strict=True)}
    a, *others = snapshot.test
    return found | {f"differing/a_to_{name}": float((a != other).double().mean())
                    for name, other in zip(NAMES[1:], others, strict=True)}  # fmt: skip


if __name__ == "__main__":
    run_script(main)
