"""Typed registries: a component is a name plus arguments, checked against its constructor's signature."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from peace.errors import InputError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Components of one kind by name, found in the modules of one package when first asked for.

    Args:
        kind: What a component is called in messages, such as `encoder`.
        package: Dotted name of the package whose modules register components.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._factories: dict[str, Callable[..., T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Returns a decorator that registers a class or function under `name`."""

        def add(factory: Callable[..., T]) -> Callable[..., T]:
            if name in self._factories:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._factories[name] = factory
            return factory

        return add

    def names(self) -> list[str]:
        """Returns the registered names, sorted."""
        if not self._loaded:
            package = importlib.import_module(self.package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._loaded = True
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., T]:
        """Returns the factory called `name`.

        Raises:
            InputError: No component of this kind has that name.
        """
        self._load_namesake(name)
        if name not in self._factories and name not in self.names():
            raise InputError(f"unknown {self.kind} '{name}'", do=did_you_mean(name, self.names()))
        return self._factories[name]

    def _load_namesake(self, name: str) -> None:
        """Imports the module called like a component first: another one may need a library that takes seconds."""
        if name in self._factories or not name.isidentifier():
            return
        if name in {module.name for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__)}:
            importlib.import_module(f"{self.package}.{name}")

    def check(self, node: Mapping[str, Any], *given: str) -> dict[str, Any]:
        """Returns the node's arguments, converted to their annotated types; see `arguments`."""
        if not isinstance(node, Mapping) or not isinstance(node.get("name"), str):
            raise InputError(f"{self.kind} has no name", got=node, do=f"set {self.kind}.name")
        own = {key: value for key, value in node.items() if key != "name"}
        return arguments(self.get(node["name"]), own, f"{self.kind} '{node['name']}'", *given)

    def build(self, node: Mapping[str, Any], **given: Any) -> T:  # noqa: ANN401 - arguments of any component
        """Returns the component that `node` describes, with `given` arguments supplied by the code."""
        own = self.check(node, *given)
        return self.get(node["name"])(**own, **given)


def arguments(factory: Callable[..., Any], node: Mapping[str, Any], where: str, *given: str) -> dict[str, Any]:
    """Returns the arguments in `node`, checked against the factory's signature and converted to its annotations.

    Args:
        factory: A class or function whose parameters are annotated.
        node: Arguments from a config.
        where: What the node is called in messages.
        *given: Names of arguments that the code will supply, not the config.

    Raises:
        InputError: An argument is unknown, one is missing, or one has the wrong type.
    """
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    every = inspect.signature(factory).parameters
    # A torch module without a constructor of its own shows `*args, **kwargs`, which are no arguments to set.
    parameters = {name: parameter for name, parameter in every.items() if parameter.kind not in variadic}
    hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    checked = {}
    for key, value in node.items():
        if key not in parameters or key in given:
            settable = [name for name in parameters if name not in given]
            raise InputError(f"unknown key '{key}'", where=where, do=did_you_mean(key, settable))
        checked[key] = _convert(value, hints.get(key, Any), f"{where}, key '{key}'")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in checked and key not in given:
            raise InputError(f"missing key '{key}'", where=where, do=f"give {key} a value")
    return checked


def _convert(value: object, annotation: object, where: str) -> object:
    try:
        return TypeAdapter(annotation, config=_adapter_config(annotation)).validate_python(value)
    except ValidationError as error:
        # Such as PositiveInt, whose own text says little, also where it may be null.
        if Annotated in map(get_origin, (annotation, *get_args(annotation))):
            expected = error.errors()[0]["msg"].removeprefix("Input should be ").partition(",")[0]
        else:
            expected = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
        raise InputError("wrong type", where=where, got=repr(value), expected=expected) from error


def _adapter_config(annotation: object) -> ConfigDict | None:
    structured = hasattr(annotation, "__pydantic_config__") or hasattr(annotation, "__dataclass_fields__")
    return None if structured else ConfigDict(arbitrary_types_allowed=True)
