"""`peace pretrain`: trains an embedder on a zoo by contrast."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from peace import provenance, seeding
from peace.augmentations import AUGMENTATIONS, Augmentation
from peace.augmentations.views import check_decodable
from peace.config import run_directory, zoo_directory
from peace.errors import InputError
from peace.exclusive import exclusive
from peace.interruption import Interrupted
from peace.losses import LOSSES
from peace.losses.bank import Bank, BankConfig
from peace.models.embedder import DecoderConfig, RegressionConfig, build_embedder
from peace.models.saving import load_producer, save_producer
from peace.registry import arguments
from peace.tracking import artifacts
from peace.tracking.run import Tracking
from peace.training.data import ZooData
from peace.training.fit import TrainerConfig, fit, last_gauges
from peace.training.module import Contrastive, OptimizerConfig
from peace.training.negatives import NegativesConfig
from peace.training.place import find_place
from peace.training.sampler import SamplerConfig
from peace.training.together import together
from peace.zoo.storage import Zoo
from peace.zoo.train import recipe_from


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Trains the embedder that a config describes and saves it in its run directory."""
    if config["producer"]["name"] != "trained":
        raise InputError("nothing to train", got=f"producer '{config['producer']['name']}'", expected="'trained'")
    trainer = TrainerConfig(**arguments(TrainerConfig, config["trainer"], "trainer"))
    torch.manual_seed(seeding.key(config["seed"], "embedder"))
    module = _module(config, trainer)
    augmentations, decoded = build_augmentations(config["augmentation"]), _decoded(config["decoder"])
    if module.beta and decoded is None:
        check_decodable(augmentations)
    where, started = run_directory(config), time.monotonic()
    sampler = _sampler(config["sampler"])
    recipe_from(config["zoo"])
    if dry_run:
        print(f"would train {sum(p.numel() for p in module.parameters()):,} parameters for {trainer.max_steps} steps")
        return
    zoo = Zoo.open(zoo_directory(config))
    data = ZooData(
        zoo, augmentations, sampler, trainer.steps_per_epoch, config["seed"],
        config["regression"].get("targets", []), module.loss.label, module.loss.value, decoded,
    )  # fmt: skip
    place = find_place(trainer.devices, trainer.num_nodes)
    others = together(place, "peace.commands.pretrain:run", config)
    # The others of the same training write nothing.
    alone = exclusive(where) if place.first else nullcontext()
    with alone, Tracking(config, "pretrain", where) as tracked:
        tracked.describe(zoo_hash=zoo.hash)
        tracked.used(artifacts.zoo(zoo.folder, hash=zoo.hash))
        try:
            steps, trained_on = fit(module, data, trainer, where, tracked, others)
        except Interrupted:
            # The exit code of the first says what became of the training. Another that did not end well would make
            # srun or torchrun kill the first while it still writes.
            if place.first:
                raise
        if not place.first:
            return
        if trained_on is None and (where / "embedder").is_dir():
            identity = load_producer(where / "embedder")[1]
            # A run of a sweep that comes upon a trained embedder needs its gauges too.
            tracked.log(last_gauges(where))
            print(f"embedder {identity[:12]} was trained already: {where}")
        else:
            seconds = round(time.monotonic() - started, 1)
            spent = {
                "zoo": zoo.hash,
                "seconds": seconds,
                "steps": steps,
                "models a step": data.sampler.size,
                **provenance.stamp(trained_on or "cpu"),
            }
            identity = save_producer(where / "embedder", module.embedder, config, spent)
            print(f"embedder {identity[:12]} trained on {len(data.train.rows)} checkpoints in {seconds} s: {where}")
        tracked.made(artifacts.embedder(where, config["experiment"], hash=identity))


def build_augmentations(
    node: Mapping[str, Mapping[str, Any] | None], where: str = "augmentation"
) -> list[Augmentation]:
    """Returns the augmentations that a config switches on: those whose arguments are not null."""
    for name, given in node.items():
        AUGMENTATIONS.get(name)
        if given is not None and not isinstance(given, Mapping):
            raise InputError("wrong type", where=f"'{where}.{name}'", got=repr(given), expected="arguments or null")
    return [AUGMENTATIONS.build({"name": name, **given}) for name, given in node.items() if given is not None]


def _decoded(node: Mapping[str, Any]) -> list[Augmentation] | None:
    """How views differ that the decoder learns from, None where it learns from those that are contrasted."""
    config = DecoderConfig(**arguments(DecoderConfig, node, "decoder"))
    if config.augmentation is None:
        return None
    if not config.beta:
        raise InputError("there is no decoder to learn from views of its own", where="'decoder.augmentation'",
                         got=config.augmentation, expected="null with decoder.beta=0",
                         do="set decoder.beta=0.1, or decoder.augmentation=null")  # fmt: skip
    if not isinstance(config.augmentation, Mapping):
        raise InputError("wrong type", where="'decoder.augmentation'", got=repr(config.augmentation),
                         expected="null, or augmentations and their arguments, such as {permutation: {}}")  # fmt: skip
    augmentations = build_augmentations(config.augmentation, "decoder.augmentation")
    check_decodable(augmentations, "decoder.augmentation")
    return augmentations


def _module(config: Mapping[str, Any], trainer: TrainerConfig) -> Contrastive:
    optimizer = OptimizerConfig(**arguments(OptimizerConfig, config["optimizer"], "optimizer"))
    regression = RegressionConfig(**arguments(RegressionConfig, config["regression"], "regression"))
    bank = BankConfig(**arguments(BankConfig, config["bank"], "bank"))
    decoder = DecoderConfig(**arguments(DecoderConfig, config["decoder"], "decoder"))
    loss, embedder = LOSSES.build(config["loss"]), build_embedder(config)
    if bank.size and not loss.negatives:
        raise InputError("the loss has no negatives to take from a bank", where="'bank.size'", got=bank.size,
                         expected=0)  # fmt: skip
    if not loss.negatives and not decoder.beta:
        raise InputError("without negatives all embeddings become one, unless a decoder has use for them",
                         where="'decoder.beta'", got=decoder.beta, expected="more than 0",
                         do="set decoder.beta=0.1, or take loss=nt_xent")  # fmt: skip
    return Contrastive(
        embedder, loss, optimizer, trainer.max_steps, config["seed"], regression.weight,
        bank=Bank(bank.size, config["head"]["projection_dim"]) if bank.size else None,
        beta=decoder.beta,
    )  # fmt: skip


def _sampler(node: Mapping[str, Any]) -> SamplerConfig:
    negatives = NegativesConfig(**arguments(NegativesConfig, node["negatives"] or {}, "sampler.negatives"))
    return SamplerConfig(**arguments(SamplerConfig, {**node, "negatives": negatives}, "sampler"))
