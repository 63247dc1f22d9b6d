"""Runs a module once on tensors without memory and lets every operation say what it demands of the entries."""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from peace.graph.labels import Ids, Ledger, Value
from peace.graph.rules import RULES, Operation, contraction, creation, movement, origin, pointwise, reduction
from peace.graph.shadow import Shadow, overlap

__all__ = ["contraction", "creation", "movement", "pointwise", "reduction", "trace"]

_PARTIAL = ("select", "unbind")


def trace(shadow: Shadow, inputs: Sequence[Any], named: Mapping[str, Any]) -> Ledger:
    """Returns what a run of a module demands of the entries of its parameters.

    Args:
        shadow: The module.
        inputs: Positional arguments of the run, on the meta device.
        named: Keyword arguments.

    Raises:
        Whatever the module raises when it is run on such inputs.
    """
    tracer = _Tracer(shadow)
    ledger = tracer.ledger
    for tensor in _leaves((inputs, named)):
        tracer.put(tensor, Value(tuple(tensor.shape)))
    with torch.no_grad(), tracer.watching(shadow.module), tracer:
        result = shadow.module(*inputs, **named)
    for tensor in _tensors(result, set()):
        value = tracer.get(tracer.twin(tensor))
        for ids in _labels(value):
            ledger.pin(ids, "output")
    for name in shadow.entwined:
        for ids in ledger.leaves[name].values():
            ledger.pin(ids, "memory shared with another tensor")
    for ids in list(ledger.unused()):
        ledger.pin(ids, "position")
    return ledger


def _labels(value: Value) -> list[Ids]:
    return [*value.labels, *(ids for part in value.parts for ids in part.labels)]


def _tensors(result: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that an output holds, however deep."""
    if isinstance(result, Tensor):
        yield result
    elif id(result) not in seen and not isinstance(result, (str, bytes, int, float, complex, type(None))):
        seen.add(id(result))
        if isinstance(result, Mapping):
            inside: Iterable[Any] = result.values()
        elif isinstance(result, (list, tuple, set, frozenset)):
            inside = result
        else:
            inside = vars(result).values() if hasattr(result, "__dict__") else ()
        for part in inside:
            yield from _tensors(part, seen)


def _constant(tensor: Tensor) -> Value:
    """A tensor that is neither parameter nor input, by its numbers where it has any."""
    if tensor.is_meta or tensor.numel() == 0:
        return Value(tuple(tensor.shape), constant="varying")
    first = tensor.flatten()[0]
    kind = "varying" if not bool((tensor == first).all()) else "zero" if not bool(first) else "uniform"
    return Value(tuple(tensor.shape), constant=kind)


class _Tracer(TorchDispatchMode):
    """Keeps a value for each tensor of a run."""

    def __init__(self, shadow: Shadow) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.unwatched: list[tuple[list[Tensor], list[Tensor]]] | None = None
        self.sharing: dict[int, list[weakref.ref]] = {}
        self.twins = dict(shadow.twins)
        self.homes = {tensor.untyped_storage()._cdata for tensor, _ in shadow.twins.values()}
        for name, tensor in shadow.tensors.items():
            self.put(tensor, self.ledger.leaf(name, tuple(tensor.shape)))
        for tensor, twin in shadow.twins.values():
            if not hasattr(twin, "_peace_value"):
                self.put(twin, _constant(tensor))

    def put(self, tensor: Tensor, value: Value) -> None:
        """Remembers the value of a tensor."""
        if not hasattr(tensor, "_peace_value"):
            self.sharing.setdefault(tensor.untyped_storage()._cdata, []).append(weakref.ref(tensor))
        tensor._peace_value, tensor._peace_stale = value, None

    def get(self, tensor: Tensor) -> Value:
        """Returns the value of a tensor; one that was never seen is a constant, unless it is another's memory."""
        value = getattr(tensor, "_peace_value", None)
        if value is None:
            near = [other for other in self._sharing(tensor) if overlap(tensor, other)]
            if not near:
                return Value(tuple(tensor.shape), constant="varying")
            return self._lost(tensor, [self.get(other) for other in near])
        if tensor._peace_stale is not None:
            if value.constant and tensor._peace_stale.constant:
                return Value(value.shape, constant="varying")
            # Part of its memory was written through another tensor: nothing can be said of the whole.
            return self._lost(tensor, [value, tensor._peace_stale])
        return value

    def _lost(self, tensor: Tensor, values: Sequence[Value]) -> Value:
        """The value of a tensor of which nothing can be said but that these are in it."""
        why = "an in-place operation on a view"
        for value in values:
            for ids in _labels(value):
                self.ledger.pin(ids, why)
        self.put(tensor, Value(tuple(tensor.shape), origin=why))
        return tensor._peace_value

    def _sharing(self, tensor: Tensor) -> list[Tensor]:
        """The other tensors over the same memory that are still there."""
        found = (reference() for reference in self.sharing.get(tensor.untyped_storage()._cdata, []))
        return [other for other in found if other is not None and other is not tensor]

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
        if id(tensor) in self.twins:
            return self.twins[id(tensor)][1]
        if tensor.is_meta or tensor.ndim == 0:
            return tensor
        twin = tensor.to("meta")
        self.put(twin, _constant(tensor))
        if tensor.untyped_storage()._cdata in self.homes:
            # A view of a parameter that was made before the run.
            self._lost(twin, [Value((), tuple(labels.values())) for labels in self.ledger.leaves.values()])
        self.twins[id(tensor)] = (tensor, twin)
        return twin

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operation, then its rule."""
        if self.unwatched is not None:
            self.unwatched.append((_leaves((args, kwargs)), _written(function, args, kwargs or {})[0]))
            return function(*args, **(kwargs or {}))
        args, kwargs = pytree.tree_map_only(Tensor, self.twin, (tuple(args), dict(kwargs or {})))
        result = function(*args, **kwargs)
        self._follow(function, args, kwargs, result)
        return result

    def _follow(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        outputs = _leaves(result)
        written, results = _written(function, args, kwargs)
        if not outputs and not written:
            return
        kwargs = {name: given for name, given in kwargs.items() if name not in results}
        # What returns nothing has changed what it was given, and no rule is written for such.
        changed = outputs or written
        operation = Operation(self.ledger, str(function), tuple(tuple(tensor.shape) for tensor in changed))
        get = self.get if operation.base in _PARTIAL else self.whole
        given, named = pytree.tree_map_only(Tensor, get, (args, kwargs))
        values = [value for value in pytree.tree_leaves((given, named)) if isinstance(value, Value)]
        for leaf in dict.fromkeys(value.leaf for value in values if value.leaf):
            self.ledger.ask(leaf)
        self.ledger.operation, why = operation.name, operation.name
        try:
            found = outputs and self._values(function, operation, values, given, named)
        # A rule that fails on what it did not foresee has not understood it; the report says that it failed.
        except Exception as error:
            found, why = None, f"{operation.name}, whose rule failed ({type(error).__name__})"
        if not found or len(found) < len(changed):
            found = self.opaque(why, values, operation.shapes)
        for tensor, value in zip(changed, found, strict=False):
            self.put(tensor, value)
            if not tensor.is_floating_point() and not tensor.is_complex():
                # What is rounded, or compared, does not scale.
                for ids in _labels(value):
                    self.ledger.fix_scale(ids)
        for tensor in written:
            self._overwritten(tensor, self.get(tensor))

    def _values(self, function: Any, op: Operation, values: list[Value], given: Any, named: Any) -> list[Value]:
        ours = function.namespace == "aten"
        rule = RULES.get(op.base) if ours else None
        kinds = {value.constant for value in values}
        if rule is not None and rule.__module__ in (creation.__name__, movement.__name__):
            found = rule(op, *given, **named)
        elif values and None not in kinds:
            found = [Value(shape, constant="varying") for shape in op.shapes]
        elif not any(value.labels or value.parts for value in values):
            found = [Value(shape, origin=origin(*values)) for shape in op.shapes]
        elif rule is not None:
            found = rule(op, *given, **named)
        elif ours and torch.Tag.pointwise in function.tags:
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
            for ids in _labels(value):
                self.ledger.pin(ids, name)
        return [Value(shape, origin=name) for shape in shapes]

    def _overwritten(self, tensor: Tensor, value: Value) -> None:
        """Marks tensors that share memory with one that was written to."""
        for other in self._sharing(tensor):
            if overlap(tensor, other):
                stale = other._peace_stale
                labels = (*(_labels(stale) if stale else ()), *_labels(value))
                other._peace_stale = replace(value, labels=labels, parts=())

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
            self.unwatched = []
            try:
                result, changed = _on_some_device(original, args, kwargs)
            finally:
                seen, self.unwatched = self.unwatched, None
            # Whatever it reached, also by other ways than its arguments.
            reached = [*_leaves((args, kwargs)), *(tensor for given, _ in seen for tensor in given)]
            known = [self.twin(tensor) for tensor in reached if tensor.is_meta or id(tensor) in self.twins]
            values = [self.whole(tensor) for tensor in known]
            written = [*changed, *(tensor for _, targets in seen for tensor in targets if tensor.is_meta)]
            outputs = [*_leaves(result), *written]
            shapes = [tuple(tensor.shape) for tensor in outputs]
            for tensor, value in zip(outputs, self.opaque(function.__name__, values, shapes), strict=True):
                self.put(tensor, value)
            for tensor in written:
                self._overwritten(tensor, self.get(tensor))
            return result

        return forward


def _leaves(tree: Any) -> list[Tensor]:
    return [tensor for tensor in pytree.tree_leaves(tree) if isinstance(tensor, Tensor)]


def _written(function: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], set[str]]:
    """The tensors that an operation writes to, and the names of those that are there for its results alone."""
    written: list[Tensor] = []
    results = set()
    for place, about in enumerate(function._schema.arguments):
        if about.alias_info is not None and about.alias_info.is_write:
            given = args[place] if place < len(args) else kwargs.get(about.name)
            written += _leaves(given)
            if about.kwarg_only:
                results.add(about.name)
    return written, results


def _custom_functions(function: type) -> Iterator[type]:
    """Autograd functions that are not torch's own."""
    for part in function.__subclasses__():
        if not part.__module__.startswith("torch."):
            yield part
        yield from _custom_functions(part)


def _on_some_device(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, list[Tensor]]:
    """Runs a custom function for the shapes of its results; one that needs numbers is given zeros.

    Returns:
        The results, and the arguments that were written to in place of which zeros were given.
    """
    try:
        return function(*args, **kwargs), []
    except (RuntimeError, NotImplementedError, TypeError):
        leaves, tree = pytree.tree_flatten((args, kwargs))
        zeros = [torch.zeros(leaf.shape, dtype=leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        versions = [zero._version if isinstance(zero, Tensor) else 0 for zero in zeros]
        there = pytree.tree_unflatten(zeros, tree)
        result = function(*there[0], **there[1])
        pairs = zip(leaves, zeros, versions, strict=True)
        changed = [leaf for leaf, zero, version in pairs if isinstance(zero, Tensor) and zero._version > version]
        return pytree.tree_map_only(Tensor, lambda tensor: tensor.to("meta"), result), changed
