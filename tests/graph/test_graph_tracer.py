"""What a run must not miss: memory that is shared, types that round, parts that are used twice, outputs in objects."""

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from symmetry_cases import Written
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from peace.errors import InputError
from peace.graph.derive import derive


def tensors_of(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [
        tensor
        for part in (result if isinstance(result, list) else vars(result).values())
        for tensor in tensors_of(part)
    ]


@torch.no_grad()
def keeps(module: nn.Module, *inputs: Tensor) -> None:
    """The group found keeps the function, and deriving leaves the module as it was."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    group = derive(module, *inputs)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])
    module.eval()
    expected = tensors_of(module(*inputs))
    generator = torch.Generator().manual_seed(0)
    elements = [group.sample(generator, general=general) for general in (True, False) for _ in range(5)]
    for element in elements:
        module.load_state_dict(element.apply(before))
        for first, second in zip(expected, tensors_of(module(*inputs)), strict=True):
            assert (first - second).abs().max() <= 1e-9 * max(1.0, first.abs().max())


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU())


def twice() -> nn.Module:
    shared = block()
    return nn.Sequential(nn.Linear(4, 6), shared, shared, nn.Linear(6, 3))


def grouped_twice() -> nn.Module:
    shared = nn.Conv1d(8, 8, 3, padding=1, groups=2)
    return nn.Sequential(nn.Conv1d(4, 8, 1), nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU(), nn.Conv1d(8, 3, 1))


def transposed_memory() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4))
    module[1].weight.data = module[0].weight.data.t()
    return module


@dataclass
class Out:
    y: Tensor


class Outside(torch.autograd.Function):
    """Uses what it is not given as a tensor."""

    @staticmethod
    def forward(context: object, x: Tensor, layer: Callable[[Tensor], Tensor]) -> Tensor:
        return layer(x).cumsum(-1)

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class IntoBuffer(torch.autograd.Function):
    """Writes its result into an argument."""

    @staticmethod
    def forward(context: object, x: Tensor, target: Tensor) -> Tensor:
        target.copy_(x.flip(-1))
        return x.sum()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def into_buffer(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    target = torch.zeros_like(h)
    IntoBuffer.apply(h, target)
    return m.b(target)


def integers(m: Any, x: Tensor) -> Tensor:
    target = torch.zeros(x.shape[0], 6, dtype=torch.int64, device=x.device)
    target.copy_(m.a(x) * 5)
    return m.b(target.to(x.dtype))


def stacked(m: Any, x: Tensor) -> Tensor:
    s = torch.stack([m.a(x), m.c(x)], 1)
    s[:, 0] = x.sum()
    return m.b(F.relu(s[:, 1]))


def padded(m: Any, x: Tensor) -> Tensor:
    return F.pad(m.a(x), (1, 1)).view(-1, 2, 4) @ m.b.weight.view(-1)[:8].view(4, 2)


def rolled(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)
    return m.b(F.group_norm(h + 2 * h.roll(2, 1), 2))


def expanded(m: Any, x: Tensor) -> Tensor:
    h = m.a(x)[:, :, None].expand(-1, -1, 3).cumsum(-1)
    return m.b((h * m.c(x)[:, :, None] * torch.arange(1.0, 4.0, device=x.device, dtype=x.dtype)).sum(2))


def pool_places(m: Any, x: Tensor) -> Tensor:
    h, places = F.max_pool1d(m.a(x)[:, :, None] * torch.arange(1, 5, device=x.device), 2, return_indices=True)
    return m.b((h + places.to(h.dtype)).sum(2))


def filtered(m: Any, x: Tensor) -> Tensor:
    kernel = torch.arange(1.0, 4.0, device=x.device, dtype=x.dtype).expand(6, 1, 3)
    return m.b(F.conv1d(F.relu(m.a(x))[:, :, None].expand(-1, -1, 3), kernel, groups=6)[..., 0])


CASES: dict[str, Callable[[Any, Tensor], Any]] = {
    "autograd function that reaches a layer": lambda m, x: m.b(Outside.apply(m.a(x), m.c0) + m.a(x)),
    "autograd function that writes": into_buffer,
    "integers": integers,
    "sum of integers": lambda m, x: m.b(F.relu(m.a(x))) * (m.a(x) * 3).sum(1, dtype=torch.int64)[:, None],
    "stack": stacked,
    "padding": padded,
    "rolled groups": rolled,
    "expanded": expanded,
    "places of a pool": pool_places,
    "exponents": lambda m, x: m.b(torch.frexp(m.a(x))[1].to(x.dtype)),
    "same memory": lambda m, x: m.b(F.relu(m.a(x))) + torch.Tensor.as_subclass(m.a(x), torch.Tensor)[:, :3],
    "dataclass in a list": lambda m, x: [Out(m.a(x))],
    "namespace": lambda m, x: types.SimpleNamespace(y=m.a(x), z=m.b(m.a(x))),
    "higher mask": lambda m, x: m.b(m.a(x).masked_fill(torch.ones(2, 1, 1, device=x.device).bool(), 0.0)),
    "empty parts": lambda m, x: m.b(torch.cat([m.a(x), torch.cat([x.new_zeros(0), x.new_zeros(0)]).view(-1, 6)])),
    "fixed filter": filtered,
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_missed(name: str) -> None:
    torch.manual_seed(0)
    parts = {"a": nn.Linear(4, 6), "b": nn.Linear(6, 3), "c": nn.Linear(4, 6), "c0": nn.Linear(6, 6)}
    keeps(Written(CASES[name], **parts).double(), torch.randn(3, 4).double())


@pytest.mark.parametrize("build", [twice, transposed_memory], ids=lambda build: build.__name__)
def test_parts_and_memory_in_two_places(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    keeps(build().double(), torch.randn(3, 4).double())


def test_grouped_convolutions_used_twice_or_with_a_computed_weight() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5).double()
    keeps(grouped_twice().double(), x)
    normed = weight_norm(nn.Conv1d(8, 8, 3, groups=2))
    keeps(nn.Sequential(nn.Conv1d(4, 8, 1), nn.ReLU(), normed, nn.ReLU(), nn.Conv1d(8, 3, 1)).double(), x)


def test_a_cache_made_in_the_forward_pass_is_not_left_behind() -> None:
    class Caching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.mask = nn.Linear(4, 3), None

        def forward(self, x: Tensor) -> Tensor:
            self.mask = torch.ones(3, device=x.device) if self.mask is None else self.mask
            return self.layer(x) * self.mask

    module = Caching()
    derive(module, torch.randn(2, 4))
    assert module.mask is None
    assert module(torch.randn(2, 4)).shape == (2, 3)


def test_an_operator_of_another_library_has_no_rule_of_ours() -> None:
    @torch.library.custom_op("peace_tests::tanh", mutates_args=())
    def other(x: Tensor) -> Tensor:
        return x.cumsum(-1) ** 2

    other.register_fake(lambda x: torch.empty_like(x))
    module = Written(
        lambda m, x: m.b(torch.ops.peace_tests.tanh(m.a(x))), a=nn.Linear(4, 6), b=nn.Linear(6, 3)
    ).double()
    x = torch.randn(3, 4).double()
    assert "peace_tests.tanh.default" in [pinned.operation for pinned in derive(module, x).pinned]
    keeps(module, x)


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match="not a module"):
        derive(lambda x: x, torch.zeros(1))
    with pytest.raises(InputError, match="cannot be run"):
        derive(nn.LazyLinear(3), torch.zeros(1, 2))
