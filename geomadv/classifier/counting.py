"""Counts the images that go through a network, forwards and back."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from geomadv.classifier.network import Classifier


class CountedPasses:
    """While entered, counts the passes of a network's scores, image by image.

    Passes through traces, as those of Hessian products, and through copies in training are not
    seen.

    Attributes:
        forwards: images that went through the network.
        backwards: images whose gradient was taken, once for each gradient.
    """

    def __init__(self, net: Classifier) -> None:
        self.forwards = self.backwards = 0
        self._net = net

    def __enter__(self) -> Self:
        self._hook = self._net._engine.register_forward_hook(self._seen)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    @property
    def gradients(self) -> float:
        """Passes in units of a gradient: a forward pass, and a backward pass of twice its work."""
        return (self.forwards + 2 * self.backwards) / 3

    def _seen(self, module: nn.Module, inputs: Any, scores: Tensor) -> None:
        self.forwards += len(scores)
        if scores.requires_grad:
            scores.register_hook(self._back)

    def _back(self, cotangent: Tensor) -> None:
        self.backwards += len(cotangent)
