"""Runs a module once on tensors without memory and lets every operation say what it demands of the entries."""

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from peace.graph.labels import Ledger, Value
from peace.graph.rules import RULES, Operation, contraction, creation, movement, origin, pointwise, reduction

__all__ = ["contraction", "creation", "movement", "pointwise", "reduction", "trace"]

_PARTIAL = ("select", "unbind")


def trace(module: nn.Module, tensors: Mapping[str, Tensor], inputs: Sequence[Any], named: Mapping[str, Any]) -> Ledger:
    """Returns what a run of a module demands of the entries of its parameters.

    Args:
        module: It is run in its present mode and comes back as it was.
        tensors: Its parameters and persistent floating-point buffers, by name, on the meta device.
        inputs: Positional arguments of the run, on the meta device.
        named: Keyword arguments.

    Raises:
        Whatever the module raises when it is run on such inputs.
    """
    tracer = _Tracer()
    for name, tensor in tensors.items():
        tracer.put(tensor, tracer.ledger.leaf(name, tuple(tensor.shape)))
    for tensor in pytree.tree_leaves((inputs, named)):
        if isinstance(tensor, Tensor):
            tracer.put(tensor, Value(tuple(tensor.shape)))
    constants = {name: buffer for name, buffer in module.named_buffers() if name not in tensors}
    for name, buffer in constants.items():
        constants[name] = buffer.to("meta")
        tracer.put(constants[name], _constant(buffer))
    with torch.no_grad(), tracer.watching(module), tracer:
        result = torch.func.functional_call(module, {**tensors, **constants}, tuple(inputs), dict(named))
    for tensor in pytree.tree_leaves(_plain(result)):
        if isinstance(tensor, Tensor):
            value = tracer.get(tracer.twin(tensor))
            for ids in itertools.chain(value.labels, *(part.labels for part in value.parts)):
                tracer.ledger.pin(ids, "output")
    for ids in list(tracer.ledger.unused()):
        tracer.ledger.pin(ids, "position")
    return tracer.ledger


def _plain(result: Any) -> Any:
    """Outputs as containers that pytree knows: some libraries return mappings or records of their own."""
    if isinstance(result, Mapping):
        return [_plain(value) for value in result.values()]
    if hasattr(result, "__dataclass_fields__"):
        return [_plain(getattr(result, name)) for name in result.__dataclass_fields__]
    return result


def _constant(tensor: Tensor) -> Value:
    """A tensor that is neither parameter nor input, by its numbers where it has any."""
    if tensor.is_meta or tensor.numel() == 0:
        return Value(tuple(tensor.shape), constant="varying")
    first = tensor.flatten()[0]
    kind = "varying" if not bool((tensor == first).all()) else "zero" if not bool(first) else "uniform"
    return Value(tuple(tensor.shape), constant=kind)


class RuleError(Exception):
    """A rule of ours failed: a fault of this package, not of the module that is run."""


class _Tracer(TorchDispatchMode):
    """Keeps a value for each tensor of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.paused = False
        self.sharing: dict[int, list[weakref.ref]] = {}
        self.twins: dict[int, tuple[Tensor, Tensor]] = {}

    def put(self, tensor: Tensor, value: Value) -> None:
        """Remembers the value of a tensor."""
        if not hasattr(tensor, "_peace_value"):
            self.sharing.setdefault(tensor.untyped_storage()._cdata, []).append(weakref.ref(tensor))
        tensor._peace_value, tensor._peace_stale = value, None

    def get(self, tensor: Tensor) -> Value:
        """Returns the value of a tensor; one that was never seen is a constant."""
        value = getattr(tensor, "_peace_value", None)
        if value is None:
            return Value(tuple(tensor.shape), constant="varying")
        if tensor._peace_stale is not None:
            # Part of its memory was written through another tensor: nothing can be said of the whole.
            written = tensor._peace_stale
            if value.constant and written.constant:
                return Value(value.shape, constant="varying")
            for ids in (*value.labels, *written.labels):
                self.ledger.pin(ids, "an in-place operation on a view")
            value = Value(value.shape, origin="an in-place operation on a view")
            self.put(tensor, value)
        return value

    def whole(self, tensor: Tensor) -> Value:
        """Returns the value of a tensor with all parts tied."""
        value = self.get(tensor)
        if value.parts:
            value = movement.whole(Operation(self.ledger, "aten.stack.default", (value.shape,)), value)
            self.put(tensor, value)
        return value

    def twin(self, tensor: Tensor) -> Tensor:
        """Returns the same tensor without memory, always the same one, so that what is written to it is seen later.

        A module makes such tensors without a word on the device, or keeps them outside its buffers. A number may stay
        where it is.
        """
        if tensor.is_meta or tensor.ndim == 0:
            return tensor
        if id(tensor) not in self.twins:
            twin = tensor.to("meta")
            self.put(twin, _constant(tensor))
            self.twins[id(tensor)] = (tensor, twin)
        return self.twins[id(tensor)][1]

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operation, then its rule."""
        if self.paused:
            return function(*args, **(kwargs or {}))
        args, kwargs = pytree.tree_map_only(Tensor, self.twin, (tuple(args), dict(kwargs or {})))
        result = function(*args, **kwargs)
        self._follow(function, args, kwargs, result)
        return result

    def _follow(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        outputs = [tensor for tensor in pytree.tree_leaves(result) if isinstance(tensor, Tensor)]
        written, results = _written(function, args, kwargs)
        if not outputs and not written:
            return
        kwargs = {name: given for name, given in kwargs.items() if name not in results}
        name = function._schema.name.partition("::")[2]
        get = self.get if name in _PARTIAL else self.whole
        given, named = pytree.tree_map_only(Tensor, get, (args, kwargs))
        values = [value for value in pytree.tree_leaves((given, named)) if isinstance(value, Value)]
        for leaf in dict.fromkeys(value.leaf for value in values if value.leaf):
            self.ledger.asked[leaf] += 1
        # What returns nothing has changed what it was given, and no rule is written for such.
        changed = outputs or written
        operation = Operation(self.ledger, str(function), tuple(tuple(tensor.shape) for tensor in changed))
        try:
            known = outputs and self._values(function, operation, values, given, named)
            found = known or self.opaque(operation.name, values, operation.shapes)
        except Exception as error:
            raise RuleError(f"the rule of {operation.name} failed in {self.ledger.module or 'the module'}") from error
        for tensor, value in zip(changed, found, strict=False):
            self.put(tensor, value)
        for tensor in written:
            self._overwritten(tensor, self.get(tensor))

    def _values(self, function: Any, op: Operation, values: list[Value], given: Any, named: Any) -> list[Value]:
        name = function._schema.name.partition("::")[2]
        rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
        kinds = {value.constant for value in values}
        if rule is not None and rule.__module__ in (creation.__name__, movement.__name__):
            found = rule(op, *given, **named)
        elif values and None not in kinds:
            found = [Value(shape, constant="varying") for shape in op.shapes]
        elif not any(value.labels or value.parts for value in values):
            found = [Value(shape, origin=origin(*values)) for shape in op.shapes]
        elif rule is not None:
            found = rule(op, *given, **named)
        elif torch.Tag.pointwise in function.tags:
            found = pointwise.other(op, *values)
        else:
            found = None
        if found is None:
            return self.opaque(op.name, values, op.shapes)
        found = list(found) if isinstance(found, (list, tuple)) else [found]
        if values and None not in kinds and rule is not None and rule.__module__ == movement.__name__:
            kind = kinds.pop() if len(kinds) == 1 else "varying"
            return [replace(value, constant=kind) for value in found]
        if any(value.labels for value in values):
            found = [
                value if value.labels or value.origin != "input" else replace(value, origin="position")
                for value in found
            ]
        return found

    def opaque(self, name: str, values: Sequence[Value], shapes: Sequence[tuple[int, ...]]) -> list[Value]:
        """Returns the values of an operation that is not understood: whatever it touches is pinned."""
        for value in values:
            for ids in value.labels:
                self.ledger.pin(ids, name)
        return [Value(shape, origin=name) for shape in shapes]

    def _overwritten(self, tensor: Tensor, value: Value) -> None:
        """Marks tensors that share memory with one that was written to."""
        for reference in self.sharing.get(tensor.untyped_storage()._cdata, []):
            other = reference()
            if other is not None and other is not tensor and _overlap(tensor, other):
                stale = other._peace_stale
                labels = (*(stale.labels if stale else ()), *value.labels)
                other._peace_stale = replace(value, labels=labels)

    @contextlib.contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Follows which module runs, keeps attention unfused and treats custom autograd functions as opaque."""
        names = {id(part): name for name, part in module.named_modules()}
        stack: list[str] = []

        def enter(part: nn.Module, _: Any) -> None:
            stack.append(names.get(id(part), stack[-1] if stack else ""))
            self.ledger.module = stack[-1]

        def leave(part: nn.Module, *_: Any) -> None:
            stack.pop()
            self.ledger.module = stack[-1] if stack else ""

        fused = torch.backends.mha.get_fastpath_enabled()
        handles = [
            nn.modules.module.register_module_forward_pre_hook(enter),
            nn.modules.module.register_module_forward_hook(leave, always_call=True),
        ]
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with contextlib.ExitStack() as custom:
                for part in _custom_functions(torch.autograd.Function):
                    custom.enter_context(mock.patch.object(part, "forward", staticmethod(self._unknown(part))))
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
            for handle in handles:
                handle.remove()

    def _unknown(self, function: type[torch.autograd.Function]) -> Callable[..., Any]:
        """What stands in for the forward of a custom function, which may do anything: nothing is claimed of it."""
        original = function.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            values = [self.whole(tensor) for tensor in pytree.tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            self.paused = True
            try:
                result = _on_some_device(original, args, kwargs)
            finally:
                self.paused = False
            outputs = [tensor for tensor in pytree.tree_leaves(result) if isinstance(tensor, Tensor)]
            shapes = [tuple(tensor.shape) for tensor in outputs]
            for tensor, value in zip(outputs, self.opaque(function.__name__, values, shapes), strict=True):
                self.put(tensor, value)
            return result

        return forward


def _written(function: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], set[str]]:
    """The tensors that an operation writes to, and the names of those that are there for its results alone."""
    written: list[Tensor] = []
    results = set()
    for place, about in enumerate(function._schema.arguments):
        if about.alias_info is not None and about.alias_info.is_write:
            given = args[place] if place < len(args) else kwargs.get(about.name)
            written += [tensor for tensor in pytree.tree_leaves(given) if isinstance(tensor, Tensor)]
            if about.kwarg_only:
                results.add(about.name)
    return written, results


def _custom_functions(function: type) -> Iterator[type]:
    """Autograd functions that are not torch's own."""
    for part in function.__subclasses__():
        if not part.__module__.startswith("torch."):
            yield part
        yield from _custom_functions(part)


def _on_some_device(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Runs a custom function for the shapes of its results; one that needs numbers is given zeros."""
    try:
        return function(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError):
        there = pytree.tree_map_only(Tensor, lambda tensor: torch.zeros_like(tensor, device="cpu"), (args, kwargs))
        return pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), function(*there[0], **there[1]))


def _overlap(first: Tensor, second: Tensor) -> bool:
    size = max(_end(first), _end(second))
    if first.numel() * second.numel() == 0:
        return False
    used = np.zeros(size, dtype=bool)
    view = np.lib.stride_tricks.as_strided
    for tensor, mark in ((first, True), (second, None)):
        strides = [stride * used.itemsize for stride in tensor.stride()]
        part = view(used[tensor.storage_offset() :], tuple(tensor.shape), strides)
        if mark is None:
            return bool(part.any())
        part[...] = True
    return False


def _end(tensor: Tensor) -> int:
    """One more than the last place of memory that a tensor uses."""
    return tensor.storage_offset() + 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
