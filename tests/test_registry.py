"""Registries: components are found when first asked for, and their arguments checked against their signatures."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from torch import nn

from peace.errors import InputError
from peace.registry import Registry, arguments

REGISTRY = """
from peace.registry import Registry
SHAPES = Registry("shape", "peace_test_shapes")
"""
ROUND = """
from peace_test_shapes import SHAPES

@SHAPES.register("circle")
class Circle:
    def __init__(self, radius: float, unit: str = "cm") -> None:
        self.radius, self.unit = radius, unit
"""
STRAIGHT = """
from peace_test_shapes import SHAPES

@SHAPES.register("box")
def box(width: int, sides: list[float] | None = None, *, colour: object = None) -> tuple:
    return width, sides, colour
"""


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[Any]]:
    """A registry of a package that exists only for this test."""
    package = tmp_path / "peace_test_shapes"
    package.mkdir()
    for name, text in (("__init__", REGISTRY), ("round", ROUND), ("straight", STRAIGHT)):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import peace_test_shapes  # type: ignore[import-not-found]

    yield peace_test_shapes.SHAPES
    for name in [name for name in sys.modules if name.startswith("peace_test_shapes")]:
        del sys.modules[name]


def test_modules_are_imported_when_a_name_is_first_asked_for(shapes: Registry[Any]) -> None:
    assert "peace_test_shapes.round" not in sys.modules
    assert shapes.names() == ["box", "circle"]
    assert "peace_test_shapes.round" in sys.modules
    assert shapes.get("circle") is sys.modules["peace_test_shapes.round"].Circle  # type: ignore[attr-defined]


def test_a_component_in_a_module_of_its_name_needs_no_other(shapes: Registry[Any]) -> None:
    package = Path(sys.modules["peace_test_shapes"].__path__[0])
    (package / "dot.py").write_text("from peace_test_shapes import SHAPES\nSHAPES.register('dot')(int)\n")
    assert shapes.get("dot") is int and "peace_test_shapes.round" not in sys.modules
    # A module of a component's name that registers another one hides nothing.
    (package / "circle.py").write_text("")
    assert shapes.get("circle").__name__ == "Circle" and shapes.names() == ["box", "circle", "dot"]


def test_a_component_is_built_from_its_node(shapes: Registry[Any]) -> None:
    circle = shapes.build({"name": "circle", "radius": 2})
    assert (circle.radius, type(circle.radius), circle.unit) == (2.0, float, "cm")
    assert shapes.build({"name": "box", "width": 3.0, "sides": [1, 2.5]}, colour="red") == (3, [1.0, 2.5], "red")


def test_checking_leaves_the_node_as_it_was(shapes: Registry[Any]) -> None:
    node = {"name": "circle", "radius": 2}
    assert shapes.check(node) == {"radius": 2.0}
    assert node == {"name": "circle", "radius": 2}


REFUSED: list[tuple[object, str]] = [
    ({"name": "circel"}, "unknown shape 'circel'; did you mean 'circle'?"),
    ({"name": "zzz"}, "unknown shape 'zzz'; choose from box, circle."),
    ({"radius": 1.0}, "shape has no name: got {'radius': 1.0}; set shape.name."),
    ({"name": 3}, "shape has no name: got {'name': 3}; set shape.name."),
    (None, "shape has no name; set shape.name."),
    ("circle", "shape has no name: got circle; set shape.name."),
    ({"name": "circle", "radius": 1.0, "radus": 2}, "unknown key 'radus' in shape 'circle'; did you mean 'radius'?"),
    ({"name": "circle"}, "missing key 'radius' in shape 'circle'; give radius a value."),
    ({"name": "circle", "radius": "wide"}, "wrong type in shape 'circle', key 'radius': got 'wide', expected float."),
    ({"name": "box", "width": 2.5}, "wrong type in shape 'box', key 'width': got 2.5, expected int."),
    (
        {"name": "box", "width": 2, "sides": 1},
        "wrong type in shape 'box', key 'sides': got 1, expected list[float] | None.",
    ),
]


@pytest.mark.parametrize(("node", "sentence"), REFUSED)
@pytest.mark.parametrize("verb", ["check", "build"])
def test_a_wrong_node_is_refused_in_one_sentence(
    shapes: Registry[Any], verb: str, node: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        getattr(shapes, verb)(node)
    assert str(caught.value) == sentence


def test_what_the_code_supplies_the_config_may_not(shapes: Registry[Any]) -> None:
    assert shapes.check({"name": "circle"}, "radius") == {}
    with pytest.raises(InputError, match=r"unknown key 'radius' in shape 'circle'; choose from unit\."):
        shapes.check({"name": "circle", "radius": 1.0}, "radius")


def test_a_name_is_registered_once() -> None:
    registry: Registry[Any] = Registry("shape", "nowhere")
    registry.register("circle")(dict)
    with pytest.raises(ValueError, match="shape 'circle' is registered twice"):
        registry.register("circle")(list)


class WithoutConstructor(nn.Module):
    """A torch module whose signature is `*args, **kwargs`."""


@dataclass
class Point:
    x: float
    y: float = 0.0


def mixed(point: Point, norm: Literal["batch", "layer"] = "batch", *rest: int, **more: int) -> None:
    """A signature with every kind of parameter."""


def test_a_module_without_a_constructor_takes_no_arguments() -> None:
    assert arguments(WithoutConstructor, {}, "module") == {}
    for key in ("args", "kwargs", "width"):
        with pytest.raises(InputError, match=f"unknown key '{key}' in module"):
            arguments(WithoutConstructor, {key: 1}, "module")


def test_nested_nodes_become_dataclasses() -> None:
    assert arguments(Point, {"x": 1}, "point") == {"x": 1.0}
    assert arguments(mixed, {"point": {"x": 1, "y": 2}, "norm": "layer"}, "mixed") == {
        "point": Point(1.0, 2.0),
        "norm": "layer",
    }


@pytest.mark.parametrize(
    ("factory", "node", "words"),
    [
        (mixed, {"point": {"x": 1}, "norm": "group"}, r"key 'norm': got 'group', expected Literal\['batch', 'layer'\]"),
        (mixed, {"point": {"y": 1}}, r"key 'point': got \{'y': 1\}, expected Point"),
        (mixed, {"norm": "batch"}, "missing key 'point'"),
        (mixed, {"point": {"x": 1}, "more": 1}, "unknown key 'more'"),
        (Point, {"x": None}, "key 'x': got None, expected float"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(factory: Callable[..., Any], node: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        arguments(factory, node, "mixed")
