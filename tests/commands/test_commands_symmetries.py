"""`peace zoo show MODEL --symmetries`: what it prints, and what it refuses in one sentence."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import timm
import torch
from commands_home import Home, Peace
from safetensors.torch import save_file
from torch import Tensor, nn


def state() -> dict[str, Tensor]:
    """A small timm model's tensors: a ResNet with 8 channels in its first stage."""
    torch.manual_seed(0)
    return timm.create_model("resnet18", **MODEL["model_args"]).state_dict()


MODEL = {"architecture": "resnet18", "model_args": {"channels": [4, 4, 8, 8], "stem_width": 4, "num_classes": 3}}


def folder(tensors: dict[str, Tensor], config: object = MODEL) -> None:
    Path("model").mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, "model/model.safetensors")
    Path("model/config.json").write_text(config if isinstance(config, str) else json.dumps(config))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def show(peace: Peace, *arguments: str) -> str:
    finished = peace("zoo", "show", *arguments, "--symmetries")
    assert (finished.code, finished.err) == (0, ""), finished
    return finished.out


@pytest.mark.usefixtures("here")
def test_a_folder_of_the_hub_is_rebuilt_and_its_group_printed(peace: Peace) -> None:
    folder(state())
    out = show(peace, "model", "--input", "3,64,64")
    assert out.startswith("route: timm, resnet18 (architecture in config.json), traced on an input of 1×3×64×64\n")
    assert re.search(
        r"^layer1\.0\.conv1 +4 +hidden +permutation, positive scale, sign +layer1\.0\.conv1\.weight", out, re.M
    )
    assert re.search(r"^fc +3 +output +none +fc\.weight, fc\.bias$", out, re.M)
    assert "pinned: nothing\n" in out
    assert re.search(r"^hidden channels: (\d+), of which \1 permutable \(100\.0%\)$", out, re.M)
    assert " more\n" in out and " more\n" not in show(peace, "model", "--verbose")


def test_a_model_of_a_zoo_by_its_id_and_as_an_exported_file(home: Home, peace: Peace, tmp_path: Path) -> None:
    model = str(pd.read_parquet(home.zoo / "manifest.parquet").query("architecture == 'mlp-32-3-relu'")["id"].iloc[0])
    out = show(peace, model, "--zoo", str(home.zoo))
    assert re.match(r"route: zoo, mlp-32-3-relu \(architecture_config in its metadata\), traced on", out)
    assert re.search(r"^\S+ +32 +hidden +permutation, positive scale +\S+weight", out, re.M)
    # log10(32!) is 35.42.
    assert "permutations and signs: 10^35.4\n" in out
    assert peace("zoo", "export", model, "--zoo", home.zoo, "--out", tmp_path / "m.safetensors").code == 0
    assert show(peace, str(tmp_path / "m.safetensors")) == out


@pytest.mark.usefixtures("here")
def test_a_state_dict_alone_is_read_tensor_by_tensor(peace: Peace) -> None:
    save_file({"a.weight": torch.ones(4, 3), "a.bias": torch.ones(4)}, "alone.safetensors")
    out = show(peace, "alone.safetensors")
    assert out.startswith("route: layers, each tensor by itself (no family fits)\n")
    assert "No symmetry of the function is claimed" in out and "a.weight  linear  4    3" in out


# --- bad input


def changed(change: Callable[[dict[str, Tensor]], object]) -> list[str]:
    tensors = state()
    change(tensors)
    folder(tensors)
    return ["model"]


def described(config: object) -> list[str]:
    folder(state(), config)
    return ["model"]


def empty_folder() -> list[str]:
    Path("empty").mkdir()
    return ["empty"]


def plain(*more: str) -> list[str]:
    save_file({"a.weight": torch.ones(4, 3)}, "alone.safetensors")
    return ["alone.safetensors", *more]


CASES: dict[str, tuple[Callable[[], list[str]], str]] = {
    "no such file": (lambda: ["nowhere.safetensors"], "weights in nowhere.safetensors: got no file of that name"),
    "a folder without weights": (empty_folder, "not the folder of a checkpoint in empty: got no file of weights"),
    "a broken config": (lambda: described("{"), "cannot read JSON in model/config.json: got Expecting property"),
    "a config that is a list": (lambda: described([]), "cannot read JSON in model/config.json: got a list, expected"),
    "an unknown architecture": (
        lambda: described({"architecture": "resnet81"}), "unknown architecture 'resnet81' in model/config.json; did yo"
    ),
    "arguments of another model": (
        lambda: described({"architecture": "resnet18", "model_args": {"width": 3}}),
        "cannot build 'resnet18' in model/config.json: got .*'width'",
    ),
    "a tensor is missing": (
        lambda: changed(lambda tensors: tensors.pop("fc.bias")),
        "the tensors are not those of 'resnet18' in model: got a checkpoint that lacks fc.bias, expected its names and",
    ),
    "a tensor too many": (
        lambda: changed(lambda tensors: tensors.update(more=torch.ones(2))), "a checkpoint that has besides more, exp"
    ),
    "a tensor of another shape": (
        lambda: changed(lambda tensors: tensors.update({"fc.weight": torch.ones(2, 8)})),
        r"has fc.weight of shape \(2, 8\) instead of \(3, 8\), expected",
    ),
    "an input of two dimensions": (lambda: [*described(MODEL), "--input", "3,64"], "cannot be run on the example"),
    "an input of other channels": (lambda: [*described(MODEL), "--input", "5,64,64"], "input of shape .1, 5, 64, 64"),
    "an input in words": (lambda: [*described(MODEL), "--input", "3,a"], "not the shape of an input: got 3,a"),
    "an input of nothing": (lambda: [*described(MODEL), "--input", "3,0,8"], "not the shape of an input: got 3,0,8"),
    "an input for nobody": (lambda: plain("--input", "3,8,8"), r"nothing takes an input: got \(3, 8, 8\), expected"),
    "no zoo": (lambda: ["m", "--zoo", "nowhere"], "no zoo in nowhere: expected manifest.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("here")
def test_bad_input_is_refused_in_one_sentence(case: str, peace: Peace) -> None:
    prepare, sentence = CASES[case]
    finished = peace("zoo", "show", *prepare(), "--symmetries")
    assert (finished.code, finished.out) == (2, ""), finished
    assert finished.err.startswith("peace: ") and finished.err.count("\n") == 1
    assert re.search(sentence, finished.err), finished.err
    assert finished.err.rstrip().endswith((".", "?")) and len(finished.err) < 700


class Undecided(nn.Module):
    """What it does depends on its numbers."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 4, config.image_size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x)
        return y if y.sum() > 0 else -y


@pytest.mark.usefixtures("here")
def test_a_module_that_cannot_be_traced_is_refused(peace: Peace, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("transformers")
    library.__spec__ = SimpleNamespace(name="transformers")  # type: ignore[assignment]
    for_model = lambda kind, **config: SimpleNamespace(**config)  # noqa: E731
    library.AutoConfig = SimpleNamespace(for_model=for_model)  # type: ignore[attr-defined]
    library.Undecided = type("Undecided", (Undecided,), {"main_input_name": "pixel_values"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", library)
    folder(
        {"patch.weight": torch.ones(4, 3, 8, 8), "patch.bias": torch.ones(4)},
        {"model_type": "undecided", "architectures": ["Undecided"], "image_size": 8},
    )
    finished = peace("zoo", "show", "model", "--symmetries")
    assert (finished.code, finished.out) == (2, ""), finished
    assert finished.err.startswith("peace: Undecided cannot be run on the example input without numbers")
    assert finished.err.count("\n") == 1


def test_a_zoo_is_not_a_model(home: Home, peace: Peace) -> None:
    finished = peace("zoo", "show", home.zoo, "--symmetries")
    assert finished.code == 2 and "got no file of weights" in finished.err
    finished = peace("zoo", "show", "mlp", "--zoo", home.zoo, "--symmetries")
    assert finished.code == 2 and "no model 'mlp' in" in finished.err


@pytest.mark.parametrize("option", [["--zoo", "z"], ["--input", "3"], ["--verbose"]])
def test_options_of_symmetries_need_them(peace: Peace, option: list[str]) -> None:
    finished = peace("zoo", "show", "folder", *option)
    assert finished.code == 2 and "go with --symmetries; see `peace zoo show --help`" in finished.err
