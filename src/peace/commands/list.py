"""`peace list`: what can be named in a config."""

from peace.config import folder
from peace.errors import InputError, did_you_mean


def run(kind: str) -> None:
    """Prints the names of one kind, one a line.

    Raises:
        InputError: There is no such kind.
    """
    kinds = {"encoders": _encoders, "aggregators": _aggregators, "augmentations": _augmentations, "losses": _losses,
             "baselines": _baselines, "indexes": _indexes, "datasets": _datasets, "zoos": _zoos,
             "tasks": _tasks}  # fmt: skip
    if kind not in kinds:
        raise InputError(f"nothing to list called '{kind}'", do=did_you_mean(kind, kinds))
    print("\n".join(kinds[kind]()))


def _encoders() -> list[str]:
    from peace.encoders import ENCODERS

    return ENCODERS.names()


def _aggregators() -> list[str]:
    from peace.aggregators import AGGREGATORS

    return AGGREGATORS.names()


def _augmentations() -> list[str]:
    from peace.augmentations import AUGMENTATIONS

    return AUGMENTATIONS.names()


def _losses() -> list[str]:
    from peace.losses import LOSSES

    return LOSSES.names()


def _baselines() -> list[str]:
    from peace.models.baselines import BASELINES

    return [*BASELINES.names(), "metadata"]


def _indexes() -> list[str]:
    from peace.index.kinds import KINDS

    return KINDS.names()


def _datasets() -> list[str]:
    from peace.datasets import images

    return images.names()


def _zoos() -> list[str]:
    return sorted(path.stem for path in (folder("configs") / "zoo").glob("*.yaml"))


def _tasks() -> list[str]:
    from peace.config import compose
    from peace.zoo.recipe import held_out_tasks, task_list
    from peace.zoo.train import recipe_from

    lines = []
    for zoo in _zoos():
        recipe = recipe_from(compose("zoo", [f"zoo={zoo}"])["zoo"])
        try:
            tasks = task_list(recipe)
        except InputError as error:
            lines.append(f"{zoo}\t({error})")
            continue
        held_out = held_out_tasks(recipe, tasks)
        lines += [f"{zoo}\t{task.id}{'  (held out)' if task in held_out else ''}" for task in tasks]
    return lines
