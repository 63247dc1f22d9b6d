"""Baselines that make embeddings without gradients: random, flattened weights, statistics, products along paths."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peace import seeding
from peace.errors import InputError
from peace.graph.stack import Stack
from peace.registry import Registry

BASELINES: Registry[nn.Module] = Registry("baseline", "peace.models")


class Baseline(nn.Module):
    """Features of one architecture at a time, padded with zeros at the end to a common width.

    Architectures of different shapes do not compare entry by entry: padding makes the comparison possible, not
    meaningful. `fit` takes the width from a zoo; models beyond it are refused afterwards. What a baseline estimates, it
    estimates from the training models alone, as an encoder does.

    Attributes:
        invertible: Whether it has an `inverse`, from vectors to features, so that its reconstruction can be scored.
    """

    invertible = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("width", torch.tensor(0))

    def features(self, stack: Stack) -> Tensor:
        """Returns the features of one stack. Shape: [B, any width]."""
        raise NotImplementedError

    def fit(self, batch: Sequence[Stack], others: Sequence[Stack] = ()) -> None:
        """Takes what the baseline needs to know from a zoo.

        Args:
            batch: The training models.
            others: Models of further architectures that are to be embedded; they count for the width alone.
        """
        self.width = torch.tensor(max(self.features(stack).shape[1] for stack in [*batch, *others]))

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns the vectors of a mixed batch, stack after stack; its padded features, unless a baseline says else."""
        return self.padded(batch)

    def padded(self, batch: Sequence[Stack]) -> Tensor:
        """Returns padded features of a mixed batch, stack after stack. Shape: [B, width].

        Raises:
            InputError: A model has more features than any that the baseline was fitted on.
        """
        return torch.cat([self._padded(self.features(stack)) for stack in batch])

    def inverse(self, vectors: Tensor) -> Tensor:
        """Returns the padded features that vectors stand for, where the baseline is invertible."""
        raise NotImplementedError

    def _padded(self, features: Tensor) -> Tensor:
        missing = int(self.width) - features.shape[1]
        if missing < 0:
            got, expected = f"{features.shape[1]} features", f"at most {int(self.width)}"
            raise InputError("the model is larger than any of the zoo", got=got, expected=expected,
                             do="fit the baseline on a zoo that holds it")  # fmt: skip
        return F.pad(features, (0, missing))


@BASELINES.register("random")
class Random(Baseline):
    """Vectors drawn from a model's bits alone: what chance looks like in the same machinery.

    Args:
        embedding_dim: D.
    """

    def __init__(self, embedding_dim: int = 128) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim

    def features(self, stack: Stack) -> Tensor:
        """Returns standard normal numbers keyed by all weights and biases. Shape: [B, D]."""
        words = flattened(stack).float().contiguous().view(torch.int32).long()
        keys = (words * torch.arange(1, 2 * words.shape[1], 2)).sum(1)
        return seeding.normal(seeding.keys(keys, "random baseline"), self.embedding_dim)


@BASELINES.register("flat")
class Flat(Baseline):
    """All weights and biases in one row, layer after layer."""

    def features(self, stack: Stack) -> Tensor:
        """Returns flattened weights. Shape: [B, P]."""
        return flattened(stack)


@BASELINES.register("statistics")
class Statistics(Baseline):
    """Mean, variance and quintiles of each layer's weights and of its biases, standardised over training models: s(W).

    The quintiles are the 0, 25, 50, 75 and 100 % quantiles. A layer without bias gives zeros. Standardisation, which
    the sources leave to the regressor, is what makes cosines of such features mean something.

    Reference:
        Unterthiner et al. 2020, arXiv:2002.11448, section 4; Schürholt et al. 2021, arXiv:2110.15288, s(W).
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("spread", torch.zeros(0))

    def features(self, stack: Stack) -> Tensor:
        """Returns raw statistics. Shape: [B, 14 L]."""
        columns = []
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            for tensor in (weight, bias):
                flat = weight.new_zeros(len(stack), 1) if tensor is None else tensor.flatten(1)
                quintiles = flat.quantile(torch.linspace(0, 1, 5, dtype=flat.dtype), dim=1).T
                columns += [flat.mean(1, keepdim=True), flat.var(1, correction=0, keepdim=True), quintiles]
        return torch.cat(columns, dim=1)

    def fit(self, batch: Sequence[Stack], others: Sequence[Stack] = ()) -> None:
        """Takes width, mean and standard deviation of every feature from a zoo; see `Baseline.fit`."""
        super().fit(batch, others)
        features = self.padded(batch)
        spread = features.std(0, correction=0)
        self.mean, self.spread = features.mean(0), torch.where(spread > 0, spread, 1)

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns standardised statistics. Shape: [B, width]."""
        return (self.padded(batch) - self.mean) / self.spread


@BASELINES.register("path_product")
class PathProduct(Baseline):
    """The product of the weight tensors from input to output: the network without its activations and biases.

    P[o, t_L, ..., t_2, i, t_1] = Σ over hidden nodes of Π_l W_l. It does not change when hidden neurons are renumbered
    or rescaled, and is defined for chains with equal input and output axes. Classes are centred, for a softmax does not
    see what all logits share.
    """

    def features(self, stack: Stack) -> Tensor:
        """Returns products. Shape: [B, outputs times taps of all layers times inputs]."""
        product = stack.weights[0].flatten(2)
        for weight in stack.weights[1:]:
            models, outputs, nodes, taps = weight.shape
            rows = weight.transpose(2, 3).reshape(models, outputs * taps, nodes)
            product = (rows @ product).reshape(models, outputs, taps * product.shape[2])
        return (product - product.mean(1, keepdim=True)).flatten(1)


def flattened(stack: Stack) -> Tensor:
    """Returns each layer's weights and then its biases, layer after layer. Shape: [B, P].

    `peace.graph.sequences.vector` has the same numbers neuron by neuron, which matters where stretches are erased.
    """
    pairs = zip(stack.weights, stack.biases, strict=True)
    return torch.cat([tensor.flatten(1) for pair in pairs for tensor in pair if tensor is not None], dim=1)


def landmarks(rows: Tensor, count: int) -> Tensor:
    """Returns at most so many of the rows, drawn at random and in their order. Shape: [n, P] to [count, P]."""
    drawn = torch.randperm(len(rows), generator=seeding.generator("landmarks"))[:count]
    return rows[drawn.sort().values]
