"""The command line: arguments in, an exit code out. Nothing heavy is imported before a verb runs."""

import argparse
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from peace import __version__
from peace.errors import InputError, PeaceError

_CONFIG_VERBS = {
    "pretrain": "train an embedder on a zoo by contrast",
    "embed": "make one vector for every model of a zoo, or for every checkpoint in a folder",
    "index": "make a search index of a run's embeddings",
    "evaluate": "score a run's embeddings and write its record",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code.

    0 done, 1 failed, 2 usage or bad input, 130 stopped on request, 141 nobody reads the output any more.

    Args:
        arguments: What a person typed after `peace`; by default the process's own arguments.
    """
    try:
        code = _run(arguments)
        # Here rather than when Python ends, where a closed pipe could no longer be told from a fault.
        sys.stdout.flush()
        return code
    except PeaceError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except BrokenPipeError:
        # Python flushes what is left when it ends, and would complain of the closed pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _say(str(error), 1)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        parsed = _parser().parse_args(arguments)
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    # PyG meets it when it is imported, and whoever types a command can do nothing about it.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    parsed.verb(parsed)
    return 0


def _say(message: str, exit_code: int) -> int:
    print("peace:", " ".join(message.split()), file=sys.stderr)
    return exit_code


class _Parser(argparse.ArgumentParser):
    """Refuses in one sentence, and takes `key=value` words, where it takes any, in whatever place they stand."""

    takes_words = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # noqa: ANN401 - argparse's
        """Returns what was parsed and what was not."""
        given = list(sys.argv[1:] if args is None else args)
        words = [text for text in given if self.takes_words and re.match(r"[A-Za-z_][\w.]*=", text)]
        parsed, rest = super().parse_known_args([text for text in given if text not in words], namespace)
        if self.takes_words:
            parsed.words = [*parsed.words, *words]
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        """Refuses the arguments."""
        raise InputError(message, do=f"see `{self.prog} --help`")


def _parser() -> _Parser:
    parser = _Parser(prog="peace", description="Find the networks that do what a network does.")
    parser.add_argument("--version", action="version", version=f"peace {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_zoo(verbs)
    for name, text in _CONFIG_VERBS.items():
        verb = _verb(verbs, name, text, _run_config(name))
        _add_words(verb, "an experiment or a config (default: the verb's), and words", "[CONFIG] key=value")
        verb.add_argument("--dry-run", action="store_true", help="check the config and say what would be done")
    _add_search(verbs)
    _add_reports(verbs)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[_Parser]",
    name: str,
    text: str,
    run: Callable[[argparse.Namespace], None],
) -> _Parser:
    verb = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    verb.set_defaults(verb=run)
    return verb


def _add_words(verb: _Parser, text: str, metavar: str = "key=value") -> None:
    verb.add_argument("words", nargs="*", metavar=metavar, help=text)
    verb.takes_words = True


def _run_config(name: str) -> Callable[[argparse.Namespace], None]:
    def run(parsed: argparse.Namespace) -> None:
        import importlib

        from peace.config import compose_for, run_directory

        config = compose_for(name, parsed.words)
        if parsed.dry_run:
            import yaml

            print(yaml.safe_dump(config, sort_keys=False), end="")
            print(f"# run directory: {run_directory(config)}")
        importlib.import_module(f"peace.commands.{name}").run(config, parsed.dry_run)

    return run


def _add_zoo(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    zoo = verbs.add_parser(
        "zoo", help="train, import, show, check or export a zoo of models", description="Zoos of models."
    )
    actions = zoo.add_subparsers(required=True, metavar="ACTION")

    def train(parsed: argparse.Namespace) -> None:
        from peace.commands import zoo

        zoo.train(parsed.name, parsed.words, parsed.dry_run)

    def import_archive(parsed: argparse.Namespace) -> None:
        from peace.commands import zoo

        zoo.import_archive(parsed.archive, parsed.name, parsed.words, parsed.dry_run)

    def show(parsed: argparse.Namespace) -> None:
        from peace.commands import zoo

        if parsed.symmetries:
            zoo.show_symmetries(parsed.model, parsed.folder, parsed.input, parsed.verbose)
        elif parsed.folder or parsed.input or parsed.verbose:
            raise InputError("--zoo, --input and --verbose go with --symmetries", do="see `peace zoo show --help`")
        else:
            zoo.show(parsed.model)

    def verify(parsed: argparse.Namespace) -> None:
        from peace.commands import zoo

        zoo.verify(parsed.folder)

    def export(parsed: argparse.Namespace) -> None:
        from peace.commands import zoo

        zoo.export(parsed.model, parsed.folder, parsed.out)

    verb = _verb(actions, "train", "train the models of a recipe together", train)
    verb.add_argument("name", help="a recipe under configs/zoo; `peace list zoos` names them")
    _add_words(verb, "such as seed=1")
    verb.add_argument("--dry-run", action="store_true", help="say what would be trained")
    verb = _verb(actions, "import", "make a zoo of a published archive of the Small CNN Zoo", import_archive)
    verb.add_argument("archive", metavar="FOLDER|NPY", help="the unpacked archive of a data set, or its weights.npy; "
                      "metrics.csv.gz and layout.csv lie beside it")  # fmt: skip
    verb.add_argument("--name", required=True, help="the recipe under configs/zoo whose models they are, such as "
                      "mnist_hyp; other verbs find the zoo by it")  # fmt: skip
    _add_words(verb, "such as seed=1")
    verb.add_argument("--dry-run", action="store_true", help="check the archive and say where it would go")
    verb = _verb(actions, "show", "print what is in a zoo, or what leaves a model's function unchanged", show)
    verb.add_argument("model", metavar="ZOO|MODEL", help="the zoo's folder; with --symmetries: a file or folder of "
                      "weights, or the id of a model in --zoo")  # fmt: skip
    verb.add_argument("--symmetries", action="store_true", help="print a model's axes and their symmetries")
    verb.add_argument("--zoo", dest="folder", help="with --symmetries: the folder of the zoo that has the model")
    verb.add_argument("--input", help="with --symmetries: shape of an example input, such as 3,224,224")
    verb.add_argument("--verbose", action="store_true", help="with --symmetries: name every tensor and operation")
    _verb(actions, "verify", "check every tensor's hash", verify).add_argument("folder", help="the zoo's folder")
    verb = _verb(actions, "export", "write one model as a plain safetensors file", export)
    verb.add_argument("model", help="the model's id")
    verb.add_argument("--zoo", dest="folder", required=True, help="the zoo's folder")
    verb.add_argument("--out", required=True, help="the file to write")


def _add_search(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    def search(parsed: argparse.Namespace) -> None:
        from peace.commands import search

        search.run(parsed.model, parsed.index, parsed.embedder, parsed.architecture, parsed.top, parsed.json)

    verb = _verb(verbs, "search", "find the models of an index that are nearest to a file of weights", search)
    verb.add_argument("model", help="a file of weights, best a safetensors file")
    verb.add_argument("--index", required=True, help="the index's folder")
    verb.add_argument("--embedder", help="the folder of the embedder that the index was made with (default: beside it)")
    verb.add_argument("--architecture", help="which of the index's architectures it is, where its tensors fit several")
    verb.add_argument("--top", type=int, default=10, help="how many to print (default: 10)")
    verb.add_argument("--json", action="store_true", help="print JSON")


def _add_reports(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    def table(parsed: argparse.Namespace) -> None:
        from peace.commands import table

        if parsed.all == bool(parsed.experiment):
            raise InputError(
                "not one experiment or all of them", expected="`peace table EXPERIMENT` or `peace table --all`"
            )
        table.run(parsed.experiment, parsed.words, parsed.check, parsed.dry_run)

    def sweep(parsed: argparse.Namespace) -> None:
        from peace.commands import sweep

        ask = sweep.Ask(parsed.local, parsed.submit, parsed.status, parsed.resubmit, parsed.jobs, parsed.throttle)
        sweep.run(parsed.experiment, parsed.words, parsed.seeds, ask, main)

    def sync(parsed: argparse.Namespace) -> None:
        from peace.commands import sync

        sync.run(parsed.folder, parsed.words, parsed.dry_run)

    def names(parsed: argparse.Namespace) -> None:
        from peace.commands import list as listing

        listing.run(parsed.kind)

    verb = _verb(verbs, "table", "print and write an experiment's tables and figure from its records", table)
    verb.add_argument("experiment", nargs="?", help="a folder under experiments")
    verb.add_argument("--all", action="store_true", help="every experiment that has a table.yaml")
    _add_words(verb, "such as paths.results=results")
    verb.add_argument("--check", action="store_true", help="compare with what is there; exit 1 if it differs")
    verb.add_argument("--dry-run", action="store_true", help="say what would be written")
    verb = _verb(verbs, "sweep", "print an experiment's commands, run them, or see how far they are", sweep)
    verb.add_argument("experiment", help="a folder under experiments")
    _add_words(verb, "added to every command")
    verb.add_argument("--seeds", type=int, nargs="+", help="instead of the experiment's own")
    verb.add_argument("--local", action="store_true", help="run the commands here")
    verb.add_argument("-j", "--jobs", type=int, default=1, help="with --local: how many at a time (default: 1)")
    verb.add_argument("--submit", action="store_true", help="send the commands to Slurm")
    verb.add_argument("--throttle", type=int, help="with --submit: how many tasks of an array run at a time")
    verb.add_argument("--status", action="store_true", help="print how far each command is")
    verb.add_argument(
        "--resubmit", choices=["failed", "missing"],
        help="run again what failed, or all that is not done: in Slurm, or here with --local",
    )  # fmt: skip
    verb = _verb(verbs, "sync", "upload what was recorded offline to Weights & Biases", sync)
    verb.add_argument("folder", nargs="?", help="where to look (default: the folder of the runs)")
    verb.add_argument("--dry-run", action="store_true", help="say what would be uploaded")
    verb.set_defaults(words=[])
    verb.takes_words = True
    verb = _verb(verbs, "list", "print what can be named in a config", names)
    verb.add_argument(
        "kind", help="encoders, aggregators, augmentations, losses, baselines, indexes, datasets, zoos or tasks"
    )


if __name__ == "__main__":
    sys.exit(main())
