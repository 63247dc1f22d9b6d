"""Architectures rebuilt from what travels with a checkpoint: the right module, or a reason, and never another one."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.families.candidate import on_meta
from peace.graph.families.fitting import fit
from peace.graph.families.route import Rebuilt, rebuild
from peace.zoo import architectures
from peace.zoo.checkpoint import Checkpoint, open_checkpoint
from peace.zoo.readers import write_safetensors

MLP = {"name": "mlp", "input_shape": [1, 6, 6], "outputs": 3, "activation": "relu", "hidden": [4]}
VIT = "vit_tiny_patch16_224"


def checkpoint(
    tensors: Mapping[str, Tensor],
    config: dict[str, Any] | None = None,
    metadata: dict[str, str] | None = None,
    path: str = "x.safetensors",
) -> Checkpoint:
    return Checkpoint(Path(path), (), dict(tensors), metadata or {}, config)


def state(name: str, **options: Any) -> dict[str, Tensor]:
    return on_meta(timm.create_model, name, **options).state_dict()


def vision(name: str, **options: Any) -> dict[str, Tensor]:
    return on_meta(torchvision.models.get_model, name, weights=None, **options).state_dict()


def summary(found: Rebuilt) -> tuple[str, str, tuple[tuple[int, ...], ...]]:
    return found.route.name, found.route.detail, tuple(tuple(x.shape) for x in found.inputs if x is not None)


def refusal(of: Checkpoint) -> str:
    with pytest.raises(InputError) as caught:
        rebuild(of)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- PEACE's own


def test_an_exported_zoo_model_is_rebuilt(tmp_path: Path) -> None:
    module = architectures.build(MLP)
    about = {"id": "m", "architecture": "mlp-4-3-relu", "architecture_config": json.dumps(MLP)}
    write_safetensors(tmp_path / "m.safetensors", module.state_dict(), about)
    found = rebuild(open_checkpoint(tmp_path / "m.safetensors"))
    assert summary(found) == ("zoo", "mlp-4-3-relu", ((1, 1, 6, 6),))
    assert [type(layer) for layer in found.module or []] == [type(layer) for layer in module]
    assert {tensor.device.type for tensor in (found.module or module).state_dict().values()} == {"meta"}
    assert found.route.others == {}


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{", "cannot read JSON in the architecture_config of x.safetensors"),
        ("[]", r"no input_shape in the architecture_config of x.safetensors: expected a list of sizes"),
        (json.dumps({**MLP, "name": "mpl"}), "unknown architecture 'mpl'"),
        (json.dumps({**MLP, "hidden": [4, 4]}), "the tensors are not those of 'mlp-4-4-3-relu' in x.safetensors"),
        (json.dumps({**MLP, "hidden": [1 << 70]}), "cannot build 'mlp' in the architecture_config of x.safetensors"),
    ],
)
def test_a_description_that_does_not_hold_is_refused(config: str, sentence: str) -> None:
    tensors = architectures.build(MLP).state_dict()
    assert sentence in refusal(checkpoint(tensors, metadata={"architecture_config": config}))


# --- timm


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("resnet18", {}, (1, 3, 224, 224)),
        ("mobilenetv3_small_050", {"num_classes": 7}, (1, 3, 224, 224)),
        (VIT, {"img_size": 64, "num_classes": 0}, (1, 3, 64, 64)),
        ("convnext_atto", {"in_chans": 1}, (1, 1, 224, 224)),
        ("efficientnet_b3", {}, (1, 3, 288, 288)),
        ("regnety_002", {}, (1, 3, 224, 224)),
        ("swin_tiny_patch4_window7_224", {}, (1, 3, 224, 224)),
    ],
)
def test_a_timm_model_is_rebuilt_from_the_hubs_config(
    name: str, options: dict[str, Any], expected: tuple[int, ...]
) -> None:
    published = on_meta(timm.create_model, name).pretrained_cfg
    beside = {"num_classes": options["num_classes"]} if "num_classes" in options else {}
    model_args = {key: value for key, value in options.items() if key != "num_classes"}
    config = {"architecture": name, "num_features": 9, "pretrained_cfg": published, "model_args": model_args, **beside}
    found = rebuild(checkpoint(state(name, **options), json.loads(json.dumps(config)), path="folder"))
    assert summary(found) == ("timm", name, (expected,))
    assert found.route.evidence == "architecture in config.json"
    assert list(found.route.others) == ["zoo"]
    assert {tensor.device.type for tensor in (found.module or nn.Identity()).state_dict().values()} == {"meta"}


def test_what_the_hub_says_of_the_weights_decides_open_sizes_flat_or_not() -> None:
    published = {"input_size": [3, 96, 96], "fixed_input_size": True, "num_classes": 5, "of_later_versions": 1}
    tensors = state(VIT, img_size=96, num_classes=5)
    for config in ({"architecture": VIT, "pretrained_cfg": published}, {"architecture": VIT, **published}):
        assert summary(rebuild(checkpoint(tensors, config))) == ("timm", VIT, ((1, 3, 96, 96),))


def test_metadata_may_name_a_timm_model_with_its_tag() -> None:
    found = rebuild(checkpoint(state("resnet18"), metadata={"architecture": "resnet18.a1_in1k"}))
    assert summary(found) == ("timm", "resnet18.a1_in1k", ((1, 3, 224, 224),))


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:.", "resnet20 (CIFAR)"])
def test_metadata_that_names_nothing_known_is_no_fault_and_fetches_nothing(name: str) -> None:
    found = rebuild(checkpoint({"w": torch.ones(2, 2)}, metadata={"architecture": name}))
    assert found.route.name == "layers" and found.module is None
    assert found.route.others["timm"] == f"'{name}' is none of its models"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"architecture": "resnet81"}, "unknown architecture 'resnet81' in folder/config.json; did you mean 'resnet"),
        ({"architecture": "hf-hub:timm/resnet18"}, "unknown architecture 'hf-hub:timm/resnet18' in folder/config.json"),
        (
            {"architecture": "resnet18", "model_args": {"checkpoint_path": "evil.pth"}},
            "not arguments of a model in folder/config.json: got model_args {'checkpoint_path': 'evil.pth'}",
        ),
        ({"architecture": "resnet18", "model_args": [3]}, "not arguments of a model in folder/config.json"),
        ({"architecture": "resnet18", "model_args": {"wdth": 3}}, "cannot build 'resnet18' in folder/config.json: got"),
        (
            {"architecture": "resnet18", "num_classes": 10},
            "the tensors are not those of 'resnet18' in folder: got a checkpoint that has fc.weight of shape "
            "(1000, 512) instead of (10, 512), fc.bias of shape (1000,) instead of (10,), "
            "expected its names and shapes, as architecture in config.json says",
        ),
    ],
)
def test_a_config_that_does_not_hold_is_refused(config: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(checkpoint(state("resnet18"), config, path="folder"))


# --- how tensors fit


def without(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without("fc.bias"), "lacks fc.bias, expected"),
        (without("bn1.running_var"), "lacks bn1.running_var, expected"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "has besides extra, expected"),
        (
            lambda tensors: tensors.update({"conv1.weight": torch.ones(64, 3, 3, 3), "more": torch.ones(1)}),
            "has besides more and has conv1.weight of shape (64, 3, 3, 3) instead of (64, 3, 7, 7), expected",
        ),
        (
            lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("layer1.")],
            "lacks layer1.0.conv1.weight, layer1.0.bn1.weight, layer1.0.bn1.bias and 17 more, expected",
        ),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[dict[str, Tensor]], object], sentence: str) -> None:
    tensors = dict(state("resnet18"))
    change(tensors)
    assert f"got a checkpoint that {sentence}" in refusal(checkpoint(tensors, {"architecture": "resnet18"}))


def test_counters_are_left_aside() -> None:
    tensors = {name: tensor for name, tensor in state("resnet18").items() if tensor.is_floating_point()}
    assert rebuild(checkpoint(tensors, {"architecture": "resnet18"})).route.name == "timm"


def test_a_prefix_is_stripped_only_if_everything_fits_then() -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in state("resnet18").items()}
    found = rebuild(checkpoint(wrapped, {"architecture": "resnet18"}))
    assert found.fit.names == {name: name.removeprefix("module.") for name in wrapped if "num_" not in name}
    assert list(found.fit.renamed({"module.fc.bias": torch.ones(1)})) == ["fc.bias"]
    wrapped.pop("module.fc.bias")
    assert "lacks conv1.weight" in refusal(checkpoint(wrapped, {"architecture": "resnet18"}))


def test_a_tied_tensor_is_needed_under_one_name_only() -> None:
    with torch.device("meta"):
        module = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    module["head"].weight = module["embedding"].weight
    assert fit(module, {"embedding.weight": (5, 3)}).exact
    assert fit(module, {"embedding.weight": (5, 3), "head.weight": (5, 3)}).exact
    assert fit(module, {}).missing == ("embedding.weight", "head.weight")


def test_quantised_weights_are_read_tensor_by_tensor() -> None:
    tensors = dict(state("resnet18"))
    tensors["fc.weight"] = tensors["fc.weight"].to(torch.int8)
    found = rebuild(checkpoint(tensors, {"architecture": "resnet18"}))
    assert found.route.name == "layers"
    assert found.route.others["timm"] == "resnet18 by architecture in config.json, but 'fc.weight' holds integers"


# --- torchvision


@pytest.mark.parametrize(
    ("name", "options", "path", "shape"),
    [
        ("resnet18", {}, "resnet18-f37072fd.pth", (1, 3, 224, 224)),
        ("mobilenet_v2", {"num_classes": 12}, "mobilenet_v2.pt", (1, 3, 224, 224)),
        ("inception_v3", {"init_weights": False}, "inception_v3_google-0cc3c7bd.pth", (1, 3, 299, 299)),
        ("vgg11_bn", {}, "model.safetensors", (1, 3, 224, 224)),
        ("r3d_18", {}, "model.safetensors", (1, 3, 16, 112, 112)),
        ("fcn_resnet50", {"weights_backbone": None, "aux_loss": True}, "fcn_resnet50.pth", (1, 3, 520, 520)),
    ],
)
def test_torchvision_models_are_known_by_name_or_by_all_their_tensors(
    name: str, options: dict[str, Any], path: str, shape: tuple[int, ...]
) -> None:
    found = rebuild(checkpoint(vision(name, **options), path=path))
    assert summary(found) == ("torchvision", name, (shape,))
    assert found.route.evidence == (
        "the file's name" if path.startswith(f"{name}.") or "-f370" in path else "names and shapes of its tensors"
    )
    assert list(found.route.others) == ["zoo", "timm", "transformers"]


def test_a_file_name_that_promises_too_much_is_no_fault() -> None:
    found = rebuild(checkpoint({"w": torch.ones(2, 2)}, path="resnet18.pth"))
    assert found.route.name == "layers"
    assert found.route.others["torchvision"].startswith(
        "not resnet18, which the file's name says: the checkpoint lacks conv1.weight"
    )


def test_metadata_that_promises_too_much_is_a_fault() -> None:
    assert "the tensors are not those of 'alexnet'" in refusal(
        checkpoint({"w": torch.ones(2, 2)}, metadata={"architecture": "alexnet"})
    )


# --- transformers, of which a stand-in has the few names that are used


class Config(SimpleNamespace):
    """What the library makes of a `config.json`."""


class TinyModel(nn.Module):
    base_model_prefix = "transformer"
    _keys_to_ignore_on_load_unexpected = (r"attn\.mask$",)

    def __init__(self, config: Config) -> None:
        super().__init__()
        assert not getattr(config, "use_pretrained_backbone", False), "it would be fetched"
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(config.vocab, config.width)})
        self.lm_head = nn.Linear(config.width, config.vocab, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight


class TinyVision(nn.Module):
    main_input_name = "pixel_values"

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch = nn.Conv2d(config.num_channels, 4, config.image_size)


def for_model(kind: str, **config: Any) -> Config:
    if kind not in ("tiny", "vision"):
        raise ValueError(f"Unrecognized model identifier: {kind}.")
    return Config(model_type=kind, **config)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package that is found and imported under the library's name."""
    stand_in = ModuleType("transformers")
    stand_in.__spec__ = SimpleNamespace(name="transformers")  # type: ignore[assignment]
    stand_in.AutoConfig = SimpleNamespace(for_model=for_model)  # type: ignore[attr-defined]
    stand_in.AutoModel = SimpleNamespace(from_config=TinyVision)  # type: ignore[attr-defined]
    stand_in.TinyModel, stand_in.Other = TinyModel, "no class"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", stand_in)
    return stand_in


TINY = {"model_type": "tiny", "architectures": ["TinyModel"], "vocab": 7, "width": 3, "use_pretrained_backbone": True}
TINY |= {"auto_map": {"AutoModel": "evil.py"}}


@pytest.mark.usefixtures("library")
def test_a_transformers_model_is_rebuilt_with_a_tied_head_and_without_its_prefix() -> None:
    tensors = {"wte.weight": torch.ones(7, 3), "h.0.attn.mask": torch.ones(4, 4), "rotary_emb.inv_freq": torch.ones(2)}
    found = rebuild(checkpoint(tensors, TINY, path="folder"))
    assert summary(found) == ("transformers", "TinyModel", ((1, 16),))
    assert [None if tensor is None else tensor.dtype for tensor in found.inputs] == [torch.long]
    assert found.fit.names == {name: f"transformer.{name}" for name in tensors}
    assert isinstance(found.module, TinyModel) and not found.module.training


@pytest.mark.usefixtures("library")
def test_a_transformers_model_without_a_class_is_the_bare_one() -> None:
    config = {"model_type": "vision", "num_channels": 3, "image_size": 8}
    tensors = {"patch.weight": torch.ones(4, 3, 8, 8), "patch.bias": torch.ones(4)}
    assert summary(rebuild(checkpoint(tensors, config))) == ("transformers", "vision", ((1, 3, 8, 8),))


@pytest.mark.usefixtures("library")
def test_an_encoder_and_decoder_gets_tokens_for_both_and_no_mask() -> None:
    found = rebuild(checkpoint({"wte.weight": torch.ones(7, 3)}, TINY | {"is_encoder_decoder": True}))
    assert found.inputs[1] is None and summary(found)[2] == ((1, 16), (1, 16))


def test_names_of_an_earlier_version_of_the_library_are_brought_up_to_date(
    library: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library keeps a list of renamings for each model, and a function that applies them to a name."""

    class WeightRenaming(SimpleNamespace):
        pass

    def rename_source_key(name: str, given: list[Any], converters: list[Any], *_: Any) -> tuple[str, None]:
        assert [type(one) for one in given] == [WeightRenaming] and converters == []
        return name.replace(given[0].old, given[0].new), None

    mapping, loading = ModuleType("transformers.conversion_mapping"), ModuleType("transformers.core_model_loading")
    known = [WeightRenaming(old="gpt.words", new="transformer.wte"), SimpleNamespace()]
    mapping.get_model_conversion_mapping = lambda model: known  # type: ignore[attr-defined]
    loading.WeightRenaming, loading.rename_source_key = WeightRenaming, rename_source_key  # type: ignore[attr-defined]
    library.__path__ = []  # type: ignore[attr-defined]
    for module in (mapping, loading):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = rebuild(checkpoint({"gpt.words.weight": torch.ones(7, 3)}, TINY))
    assert found.route.name == "transformers"
    assert found.fit.names == {"gpt.words.weight": "transformer.wte.weight"}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"architectures": ["Other"]}, "unknown architecture 'Other' in folder/config.json"),
        ({"architectures": ["Nowhere"]}, "unknown architecture 'Nowhere' in folder/config.json"),
        ({"model_type": "huge"}, "cannot build 'TinyModel' in folder/config.json: got Unrecognized model identifier"),
        ({"vocab": 8}, "transformer.wte.weight of shape (7, 3) instead of (8, 3)"),
    ],
)
def test_a_transformers_config_that_does_not_hold_is_refused(change: dict[str, Any], sentence: str) -> None:
    tensors = {name: torch.ones(7, 3) for name in ("transformer.wte.weight", "lm_head.weight")}
    assert sentence in refusal(checkpoint(tensors, TINY | change, path="folder"))


@pytest.mark.usefixtures("library")
def test_a_quantised_transformers_model_is_read_tensor_by_tensor() -> None:
    found = rebuild(checkpoint({"w": torch.ones(7, 3)}, TINY | {"quantization_config": {"bits": 4}}))
    assert found.route.others["transformers"] == "config.json says that its weights are quantised"


def test_without_the_library_its_models_are_read_tensor_by_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else name)
    found = rebuild(checkpoint({"wte.weight": torch.ones(7, 3)}, TINY))
    assert found.route.name == "layers"
    assert found.route.others["transformers"] == "config.json says 'tiny', but that library is not installed"


# --- and otherwise


def test_the_route_of_an_unknown_checkpoint_says_why_no_family_was_taken(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"license": "mit"}')
    found = rebuild(open_checkpoint(tmp_path))
    assert found.route.others == {
        "zoo": "no architecture_config in the metadata",
        "timm": "no architecture in config.json or the metadata",
        "transformers": "no model_type in config.json",
        "torchvision": "none of its models has tensors of these names and shapes",
    }
    with pytest.raises(InputError, match=r"nothing takes an input: got \(3, 8, 8\)"):
        found.on_input((3, 8, 8))


def test_an_example_input_can_be_given() -> None:
    found = rebuild(checkpoint(state("resnet18"), {"architecture": "resnet18"})).on_input((3, 64, 48))
    assert summary(found)[2] == ((1, 3, 64, 48),)
    assert [tensor is not None and tensor.device.type for tensor in found.inputs] == ["meta"]
