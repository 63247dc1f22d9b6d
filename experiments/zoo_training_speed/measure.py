"""Times TETRIS-SEED trained together and alone, and writes the record. Words: `seed=0 paths.results=results`."""

import itertools
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from peace import provenance, seeding
from peace.config import compose, fingerprint, place
from peace.datasets.form import load_as
from peace.datasets.images import ImageData
from peace.errors import run_script
from peace.reporting.record import Metric, write_record
from peace.zoo.population import Member, Plan, Population, Position
from peace.zoo.recipe import shards
from peace.zoo.reference import epochs_alone, own_images, score_alone, train_alone
from peace.zoo.scores import score
from peace.zoo.train import recipe_from

EXPERIMENT = "zoo_training_speed"
# A third of the images and a fourth of the steps an image: a plain loop takes some ten seconds a model, not minutes.
ZOO = ("zoo=tetris_seed", "zoo.train_per_class=256", "zoo.batch_size=4")
ALONE, EPOCHS_FLOAT64 = 4, 5


def main(words: Sequence[str], zoo: Sequence[str] = ZOO) -> Path:
    """Measures, writes the record and returns its path.

    Args:
        words: `key=value` words of `configs/evaluate.yaml`; `seed` and `paths.results` are used.
        zoo: Words that make the zoo.
    """
    # The plain loop has one thread, more of them slow it down; a zoo's shards have one each, as many as there are.
    workers = torch.get_num_threads()
    torch.set_num_threads(1)
    config = compose("evaluate", words)
    recipe = compose("zoo", [*zoo, f"seed={config['seed']}"])["zoo"]
    made = recipe_from(recipe)
    found, data = shards(made), load_as(made.datasets[0], made.form)
    plan, members = found[0].plan, [run.member for shard in found for run in shard.runs]
    draw = random.Random(seeding.key(config["seed"], EXPERIMENT))
    chosen = sorted(draw.sample(range(len(members)), min(ALONE, len(members))))
    _warm_up(plan, members, data)
    together, alone, float32 = time_both(plan, members, data, chosen, workers)
    float64 = agreement(plan, members, data, chosen, min(EPOCHS_FLOAT64, plan.epochs))
    metrics = {
        "seconds_together": together,
        "seconds_alone_per_model": alone,
        "ratio": alone * len(members) / together,
        "max_difference_float32": float32,
        "max_difference_float64": float64,
    }
    path = write_record(
        place(config, "results") / "records", EXPERIMENT, {"method": "population"}, config["seed"],
        {name: Metric(value) for name, value in metrics.items()},
        {"models": len(members), "models alone": len(chosen), "epochs": plan.epochs,
         "steps an epoch": Population(plan, members[:1], data).steps},
        {"zoo": "", "config": fingerprint(recipe), **provenance.stamp()}, provenance.seconds_since_start(),
        {"threads alone": 1, "threads together": workers, "adam alone": "fused",
         "epochs in double precision": min(EPOCHS_FLOAT64, plan.epochs)},
    )  # fmt: skip
    print(f"together {together:.1f} s, alone {alone:.2f} s a model, {metrics['ratio']:.0f} times faster, "
          f"largest differences {float32:.1e} and {float64:.1e}: {path}")  # fmt: skip
    return path


def _warm_up(plan: Plan, members: Sequence[Member], data: ImageData) -> None:
    population = Population(plan, members, data)
    _train(population, population.start(), 1)
    _alone(plan, members[0], data, 1)


def time_both(
    plan: Plan, members: Sequence[Member], data: ImageData, chosen: Sequence[int], workers: int
) -> tuple[float, float, float]:
    """Returns the seconds of all models together, those of one alone, and the largest difference of their weights.

    Args:
        plan: What all models have in common.
        members: All models.
        data: The images that all of them learn.
        chosen: Places of those that are also trained alone.
        workers: Threads that train all models, a part of them each, as `peace zoo train` trains shards.
    """
    started = time.perf_counter()
    size = -(-len(members) // workers)
    parts = [members[first : first + size] for first in range(0, len(members), size)]
    populations = [Population(plan, part, data) for part in parts]
    positions = [population.start() for population in populations]
    together, alone, weights = time.perf_counter() - started, 0.0, []
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for turn, row in enumerate(tqdm(chosen, unit=" turns", disable=None), 1):
            started = time.perf_counter()
            weights.append(_flat(_alone(plan, members[row], data, plan.epochs)))
            between = time.perf_counter()
            until = itertools.repeat(plan.epochs * turn // len(chosen))
            list(pool.map(_train, populations, positions, until))
            together, alone = together + time.perf_counter() - between, alone + between - started
    trained = torch.cat([position.weights for position in positions])
    difference = (trained[list(chosen)] - torch.stack(weights)).abs().max()
    return together, alone / len(chosen), float(difference)


def agreement(plan: Plan, members: Sequence[Member], data: ImageData, chosen: Sequence[int], epochs: int) -> float:
    """Returns the largest difference of weights in double precision after some epochs."""
    population = Population(plan, members, data, torch.float64)
    position = population.start()
    _train(population, position, epochs)
    alone = [_flat(train_alone(plan, members[row], data, torch.float64, epochs)) for row in chosen]
    return float((position.weights[list(chosen)] - torch.stack(alone)).abs().max())


def _train(population: Population, position: Position, epochs: int) -> None:
    """Trains and scores until so many epochs are over."""
    while position.epoch < epochs:
        for _ in population.epoch(position):
            pass
        score(population, position.weights)


def _alone(plan: Plan, member: Member, data: ImageData, epochs: int) -> nn.Sequential:
    """One model, trained and scored after each epoch."""
    places, targets = member.task.select(data.y_test, len(data.classes))
    parts: list[tuple[Tensor, Tensor]] = [own_images(member, data), (data.x_test[places], targets)]
    trained: Any = epochs_alone(plan, member, data)
    model = next(trained)
    for _ in itertools.islice(trained, epochs):
        for part in parts:
            score_alone(model, *part)
    return model


def _flat(model: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach()


if __name__ == "__main__":
    run_script(main)
