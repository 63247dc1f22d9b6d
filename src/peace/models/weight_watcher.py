"""Spectra of weight matrices as the package `weightwatcher` sums them up: a baseline. It is optional."""

import logging
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.stack import Stack
from peace.graph.weight_graph import Layer
from peace.models.baselines import BASELINES, Baseline

_FITTED = ["alpha", "alpha_weighted", "log_alpha_norm"]
METRICS = (*_FITTED, "log_norm", "log_spectral_norm", "stable_rank")
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@BASELINES.register("weight_watcher")
class WeightWatcher(Baseline):
    """Six numbers of a model's weight spectra, standardised over training models, and the share of them missing.

    They are means over its layers of `alpha`, the exponent of the power law that the package fits to the squared
    singular values of a layer, two weighted forms of it, the logarithms of the Frobenius and the spectral norm, and the
    stable rank. Biases are not read, nor layers with fewer values than `min_evals`; of a small layer the exponent says
    little. A layer to which no power law can be fitted is left out of the first three numbers; where there is no other,
    they are those of the mean training model. It takes 0.05 s for a network of five layers.

    Args:
        min_evals: Fewest squared singular values of a layer that is read; the package's own default is 8.

    Raises:
        InputError: `weightwatcher` is not installed, or reads no layer of an architecture; raised when it is fitted.

    Reference:
        Martin, Peng and Mahoney 2021, *Predicting trends in the quality of state-of-the-art neural networks without
        access to training or testing data*, arXiv:2002.06716. It is no baseline of paper c.
    """

    def __init__(self, min_evals: PositiveInt = 8) -> None:
        super().__init__()
        self.min_evals = min_evals
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("spread", torch.zeros(0))

    def features(self, stack: Stack) -> Tensor:
        """Returns the package's summary of each model. Shape: [B, 6].

        Raises:
            InputError: The package is not installed, or reads no layer of this architecture.
        """
        if find_spec("weightwatcher") is None:
            raise InputError("weightwatcher is not installed", where="producer 'weight_watcher'",
                             do="run `pip install -e .[weightwatcher]`")  # fmt: skip
        rows = []
        for place in range(len(stack)):
            summary = _summary(_module(stack, place), self.min_evals)
            if not summary:
                got = ", ".join("x".join(map(str, weight.shape[1:])) for weight in stack.weights)
                raise InputError(
                    "weightwatcher reads no layer", where="producer 'weight_watcher'", got=f"weights of {got}",
                    do="lower producer.min_evals, or take another baseline",
                )  # fmt: skip
            rows.append([float(summary.get(name, torch.nan)) for name in METRICS])
        return torch.tensor(rows, dtype=stack.weights[0].dtype)

    def fit(self, batch: Sequence[Stack], others: Sequence[Stack] = ()) -> None:
        """Takes mean and standard deviation from the training models; see `Baseline.fit`."""
        self.width = torch.tensor(len(METRICS))
        features = self.padded(batch)
        features = features.where(features.isfinite(), torch.nan)
        self.mean = features.nanmean(0)
        spread = (features - self.mean).square().nanmean(0).sqrt()
        self.spread = torch.where(spread > 0, spread, 1)

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns standardised summaries of a mixed batch, stack after stack, and the share of each that is missing.

        What the package could not fit counts as the mean. Shape: [B, 7].
        """
        features = self.padded(batch)
        missing = features.isfinite().logical_not().to(features).mean(1, keepdim=True)
        return torch.cat([((features - self.mean) / self.spread).nan_to_num(0, 0, 0), missing], dim=1)


def _summary(module: nn.Module, min_evals: int) -> dict[str, float]:
    logging.getLogger("weightwatcher").setLevel(logging.ERROR)
    # The package prints what it does, at import too, which takes seconds.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        import weightwatcher

        watcher = weightwatcher.WeightWatcher(model=module)
        details = watcher.analyze(min_evals=min_evals)
        if "status" in details:
            # Where no power law fits a layer, the package has -1 for its exponent, and averages it too.
            details.loc[details["status"] != "success", _FITTED] = float("nan")
        return watcher.get_summary(details)


def _module(stack: Stack, place: int) -> nn.Sequential:
    """The layers of one model, in their order and nothing between them."""
    pairs = zip(stack.graph.layers, stack.weights, strict=True)
    return nn.Sequential(*(_layer(layer, weight[place]) for layer, weight in pairs))


def _layer(layer: Layer, weight: Tensor) -> nn.Module:
    outputs, inputs, taps = weight.shape
    if layer.kind == "conv":
        module = _CONVOLUTIONS[len(layer.taps)](inputs * layer.groups, outputs, layer.taps, groups=layer.groups)
    else:
        module = nn.Linear(inputs * taps, outputs)
    module.weight = nn.Parameter(weight.reshape(module.weight.shape), requires_grad=False)
    return module
