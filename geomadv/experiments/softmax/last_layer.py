"""The last layer of a classifier and the features that it reads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from geomadv.classifier import Classifier
from geomadv.classifier.batching import check_batch_size
from geomadv.errors import InputError


@dataclass(frozen=True)
class LastLayer:
    """A network as scores W g(x) + b, with g the map to the features of its last linear layer.

    Attributes:
        net: the network.
        layer: the linear layer as the network evaluates it.
        weight: (m, l) float64 array W, one row per class.
        bias: (m,) float64 array b; zero where the layer has none.
    """

    net: Classifier
    layer: nn.Linear
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, l) and scores (N, m) of images (N, C, H, W), both differentiable in x.

        One pass of the network as `Classifier.scores` runs it, folded or smoothed.
        """
        with _Watch(self.layer) as watch:
            scores = self.net.scores(x)
        return watch.given, scores

    @torch.no_grad()
    def features(
        self, x: Tensor, batch_size: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Features (N, l) as float64 and predicted classes (N,) of images (N, C, H, W)."""
        parts = [self(part) for part in x.split(check_batch_size(batch_size, self.net))]
        features = torch.cat([g for g, _ in parts]).double().cpu().numpy()
        return features, torch.cat([scores.argmax(1) for _, scores in parts]).cpu().numpy()


class _Watch:
    """While entered, keeps what a layer is given."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.given: Any = None

    def _keep(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.given = args[0] if args else kwargs["input"]

    def __enter__(self) -> "_Watch":
        self._handle = self.layer.register_forward_pre_hook(self._keep, with_kwargs=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()


@torch.no_grad()
def last_layer(net: Classifier, images: Tensor) -> LastLayer:
    """Finds the linear layer whose outputs are the network's scores.

    The layer is looked for among the modules that run on the way to the scores, so it does not
    matter how the network is wrapped or folded. Modules behind it that change nothing in
    evaluation mode (dropout, identity) do not hide it.

    Args:
        net: the network.
        images: (N, C, H, W), at least one; the layer is looked for on the first.

    Raises:
        InputError: the scores are not the outputs of an `nn.Linear`; the message names the module
            that ran last.
    """
    ran: list[tuple[nn.Module, Any]] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        if next(module.children(), None) is None:
            ran.append((module, output))

    scores = _hooked(note, lambda: net.scores(images[:1]))
    for module, output in reversed(ran):
        if isinstance(output, Tensor) and torch.equal(output, scores):
            if isinstance(module, nn.Linear):
                return LastLayer(net, module, _array(module.weight), _bias(module))
        else:
            break
    last = f"the module that ran last is {ran[-1][0]}" if ran else "it runs no modules at all"
    if ran and isinstance(ran[-1][0], nn.Linear):
        last += ", whose outputs are changed before they become the scores"
    raise InputError(
        f"network {net.name!r} does not end in a linear layer (nn.Linear): {last}. Adversarial "
        "directions belong to a softmax layer W h + b; write the last step as an nn.Linear, or "
        "take another network."
    )


def _hooked(note: Callable[[nn.Module, Any, Any], None], run: Callable[[], Tensor]) -> Tensor:
    handle = register_module_forward_hook(note)
    try:
        return run()
    finally:
        handle.remove()


def _array(t: Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = t.detach().double().cpu().numpy()
    return array


def _bias(layer: nn.Linear) -> NDArray[np.float64]:
    return np.zeros(layer.out_features) if layer.bias is None else _array(layer.bias)
