"""Composition of configs from YAML files and `key=value` words, and what is a pure function of the result.

A config file may start with a `defaults` list. An entry `group: choice` puts `<group>/<choice>.yaml` under the key
`group`; an entry that is a plain word merges that file at the root. The file's own keys come after its defaults, the
words of the command line last: `encoder=layer_gnn` swaps a group, `encoder.num_layers=6` sets a value.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peace.errors import InputError, did_you_mean
from peace.experiments import CONFIG, experiment_name, experiments_with, find_experiment, plain_name

Plain = dict[str, Any]
_PLAIN = (str, int, float)
_SUFFIXES = (".yaml", ".yml")


def folder(name: str) -> Path:
    """Returns where `configs` or `experiments` lies: `PEACE_HOME`, the source checkout, or the installed package."""
    package = Path(__file__).resolve().parent
    home = os.environ.get("PEACE_HOME")
    candidates = [Path(home) / name] if home else [package.parents[1] / name, package / f"_{name}"]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise InputError(f"no folder '{name}'", where=candidates[0].parent, do="set PEACE_HOME to a checkout of PEACE")


def compose_for(verb: str, words: Sequence[str]) -> Plain:
    """Returns the config of a command: the verb's, or that which the first word names, with the other words.

    The first word may name another config; a person's own file, which starts with `defaults: [<verb>]`; or an
    experiment by its folder or its name, whose `config.yaml` then lies over the verb's own config.

    Args:
        verb: Such as `embed`.
        words: What follows the verb.

    Raises:
        InputError: As `compose`; nothing has such a name; or the config lacks a key of the verb's.
    """
    given, words = (words[0], words[1:]) if words and "=" not in words[0] else (verb, words)
    root = folder("configs")
    known = [file.stem for file in root.glob("*.yaml")]
    if given not in known and not given.endswith(_SUFFIXES):
        experiments = folder("experiments")
        if found := find_experiment(given, experiments):
            return compose(verb, words, over={"experiment": found[0], **_read(found[1])})
        known += experiments_with(experiments, CONFIG)
        raise InputError(f"no config '{given}'", where=f"{root} or {experiments}", do=did_you_mean(given, known))
    config = compose(given, words)
    if lacking := sorted(compose(verb).keys() - config):
        raise InputError(f"the config has no '{lacking[0]}'", do=f"start it with `defaults: [{verb}]`")
    return config


def compose(
    name: str, words: Iterable[str] = (), root: Path | None = None, over: Mapping[str, Any] | None = None
) -> Plain:
    """Returns the config `name` with its defaults and the command line's words, resolved to plain containers.

    Args:
        name: A file's name under the configs folder without `.yaml`, or a path to a YAML file.
        words: `key=value` words; the value is YAML.
        root: The configs folder, if not the usual one.
        over: What an experiment's `config.yaml` holds, which comes before the words. As there, a plain value of a group
            swaps it and `encoder.num_layers: 6` sets a value; mappings are laid over each other. What only other
            configs have, such as `embed` where an embedder is trained, is passed over.

    Raises:
        InputError: A file, group choice or key does not exist, a word is not `key=value`, or a `???` was not given.
    """
    root = root or folder("configs")
    path = Path(name) if name.endswith(_SUFFIXES) else root / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in root.glob("*.yaml")]
        raise InputError(f"no config '{name}'", where=root, do=did_you_mean(name, known))
    pairs = [_split(word) for word in words]
    choices = _choices(pairs, root)
    over = {str(key): value for key, value in (over or {}).items() if _group_of(str(key)) not in choices}
    chosen = _choices(over.items(), root)
    try:
        config = _load(path, root, chosen | choices)
        own = {key: value for key, value in over.items() if key not in chosen}
        _overlay(config, own, _elsewhere(config, root) if own else ())
        for key, value in pairs:
            if key in choices and isinstance(value, _PLAIN):
                _require(config, key, key)
            else:
                _set(config, key, value)
        return _resolve(config)
    except OmegaConfBaseException as error:
        raise InputError("cannot compose the config", where=path, got=str(error).splitlines()[0]) from error


def _choices(pairs: Iterable[tuple[str, object]], root: Path) -> dict[str, str]:
    """Those of the pairs that swap a group, by its name."""
    return {key: str(value) for key, value in pairs if (root / key).is_dir() and isinstance(value, _PLAIN)}


def _group_of(key: str) -> str:
    return key.partition(".")[0]


def _elsewhere(config: DictConfig, root: Path) -> set[str]:
    """Keys and `key.key` that other configs have and this one has not."""
    keys = {path.name for path in root.iterdir() if path.is_dir()}
    for content in map(_read, root.glob("*.yaml")):
        for key, value in content.items():
            keys |= {key, *(f"{key}.{inner}" for inner in (value if isinstance(value, dict) else ()))}
    return {key for key in keys - {"defaults"} if not _has(config, key)}


def _has(node: Any, key: str) -> bool:  # noqa: ANN401 - any node of a config
    first, _, rest = key.partition(".")
    # Not `first in node`, which denies a key whose value is still `???`.
    return isinstance(node, DictConfig) and first in node.keys() and (not rest or _has(node[first], rest))


def _split(word: str) -> tuple[str, object]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise InputError(f"cannot read the word '{word}'", expected="key=value", do="write for instance seed=1")
    try:
        return key, yaml.load(text, Loader=_Yaml)
    except (yaml.YAMLError, UnicodeError) as error:
        raise InputError("cannot read the value", where=f"the word '{word}'", got=text, expected="YAML") from error


class _Yaml(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML whose `1e-4` is a number, as in YAML 1.2; by the C parser, where PyYAML has it, in a tenth of the time."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf)$|^\.(nan|NaN)$"),
    list("-+0123456789."),
)


def _read(path: Path) -> Plain:
    try:
        content = yaml.load(path.read_text(), Loader=_Yaml)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError("cannot read the config", where=path, got=" ".join(str(error).split())) from error
    if content is not None and not isinstance(content, dict):
        raise InputError("cannot read the config", where=path, got=type(content).__name__, expected="a mapping")
    return content or {}


def _load(path: Path, root: Path, choices: dict[str, str]) -> DictConfig:
    content = _read(path)
    merged = OmegaConf.create()
    for entry in content.pop("defaults", None) or []:
        if isinstance(entry, str):
            merged = OmegaConf.merge(merged, _load(root / f"{entry}.yaml", root, choices))
        elif isinstance(entry, dict) and len(entry) == 1:
            ((group, choice),) = entry.items()
            # Set, not merged: a choice takes the place of one that an earlier default made, arguments and all.
            merged[group] = _group(root, group, choices.get(group, str(choice)))
        else:
            raise InputError("cannot read the defaults", where=path, got=entry, expected="`group: choice` or a word")
    own = {key: value for key, value in content.items() if key not in choices}
    if path.parent == root:
        return OmegaConf.merge(merged, OmegaConf.create(own))
    _overlay(merged, own)
    return merged


def _overlay(config: DictConfig, own: Plain, elsewhere: Collection[str] = (), outer: str = "") -> None:
    """Sets what a person's own file says, key by key, so that a misspelt one is found as on the command line.

    Keys that only other configs have are passed over.
    """
    for key, value in own.items():
        whole = f"{outer}{key}"
        if whole in elsewhere or _group_of(whole) in elsewhere:
            continue
        if isinstance(value, dict) and isinstance(OmegaConf.select(config, whole), DictConfig):
            _overlay(config, value, elsewhere, f"{whole}.")
        else:
            _set(config, whole, value)


def _group(root: Path, group: str, choice: str) -> Plain | str:
    if choice == "???":
        return choice
    path = root / group / f"{choice}.yaml"
    if not path.is_file():
        known = [file.stem for file in (root / group).glob("*.yaml")]
        raise InputError(f"unknown {group} '{choice}'", where=root / group, do=did_you_mean(choice, known))
    return _read(path)


_OPEN = ["row"]  # its keys are the axes of whatever experiment the run belongs to


def _set(config: DictConfig, key: str, value: object) -> None:
    """Sets a value that exists, or an argument of a component, which its registry checks later."""
    node: Any = config
    *parents, last = key.split(".")
    for parent in parents:
        _require(node, parent, key)
        node = node[parent]
        if not isinstance(node, DictConfig):
            raise InputError(f"unknown key '{key}'", got=f"'{parent}' = {node}", expected="a mapping there")
    if "name" not in node and parents != _OPEN:
        _require(node, last, key)
    # A part of a mapping may be switched off with null, as `augmentation.noise`; the mappings at the root may not.
    may_replace = isinstance(value, dict) or (value is None and parents)
    if isinstance(OmegaConf.select(node, last), DictConfig) and not may_replace:
        raise InputError(f"'{key}' is a mapping", got=value, do=f"set its keys one by one, as {key}.KEY=value")
    OmegaConf.update(node, last, value, merge=False)


def _require(node: DictConfig, key: str, whole: str) -> None:
    # Not `key in node`, which denies a key whose value is still `???`.
    if key not in node.keys():
        raise InputError(f"unknown key '{whole}'", do=did_you_mean(key, map(str, node)))


def _resolve(config: DictConfig) -> Plain:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InputError(f"no value for '{missing[0]}'", do=f"write {missing[0]}=... on the command line")
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def fingerprint(node: object) -> str:
    """Returns 12 hexadecimal digits that are a pure function of a plain config, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(node, sort_keys=True).encode()).hexdigest()[:12]


def place(config: Mapping[str, Any], name: str) -> Path:
    """Returns the folder `paths.<name>` of a config.

    Raises:
        InputError: The value is no text.
    """
    value = config["paths"].get(name)
    if not isinstance(value, str) or not value:
        raise InputError("not a folder's name", where=f"'paths.{name}'", got=repr(value), expected="text")
    return Path(value)


def zoo_directory(config: Mapping[str, Any]) -> Path:
    """Returns `<paths.zoos>/<zoo.name>/<fingerprint>`, where the zoo that `config.zoo` describes lies.

    Raises:
        InputError: The zoo has no name that can be a folder's.
    """
    name = plain_name(config["zoo"].get("name"), "a zoo")
    return place(config, "zoos") / name / fingerprint(config["zoo"])


_IDENTITY = {
    "trained": (
        "zoo",
        "graph",
        "encoder",
        "aggregator",
        "head",
        "regression",
        "decoder",
        "sampler",
        "augmentation",
        "loss",
        "bank",
        "optimizer",
    ),
    "baseline": ("zoo",),
}


def run_directory(config: Mapping[str, Any]) -> Path:
    """Returns `<paths.runs>/<experiment>/<fingerprint>/seed<k>`, where everything of one run lies.

    The fingerprint covers what decides the run's numbers: the zoo, the producer of the embeddings and, where that is
    trained, everything it is trained with. How many workers, which device or who is told is not part of it.

    Raises:
        InputError: The experiment's name cannot be a folder's, or the seed is not a natural number.
    """
    experiment, seed = experiment_name(config["experiment"]), config["seed"]
    if type(seed) is not int or seed < 0:
        raise InputError("not a seed", where="'seed'", got=repr(seed), expected="0, 1, 2, ...")
    trained = plain_name(config["producer"].get("name"), "a producer") == "trained"
    identity = {key: config[key] for key in _IDENTITY["trained" if trained else "baseline"]}
    identity["producer"] = config["producer"]
    if trained:
        ignored = {"accelerator", "devices", "num_nodes", "progress", "checkpoint_every", "log_every"}
        identity["trainer"] = {key: value for key, value in config["trainer"].items() if key not in ignored}
    identity = json.loads(json.dumps(identity))
    if identity["zoo"].get("seed") == seed:
        del identity["zoo"]["seed"]
    return place(config, "runs") / experiment / fingerprint(identity) / f"seed{seed}"
