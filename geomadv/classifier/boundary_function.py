"""The function f whose zero set is a decision boundary, from class scores alone."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Kind = Literal["own", "pair", "region"]


@dataclass(frozen=True)
class Margin:
    """f = F_far - F_near of n points, and the two classes that it compares."""

    value: Tensor  # (n,) score units; positive beyond the boundary
    near: Tensor  # (n,) int64, the class on the image's side
    far: Tensor  # (n,) int64, the class beyond


@dataclass(frozen=True)
class BoundaryFunction:
    """Which boundary is meant, for each of n images.

    f is negative at the image and positive beyond the boundary. Three kinds (definitions,
    "Boundary of a class"):

    "own":    max over k != s of F_k - F_s: out of the region of the source class s.
    "pair":   F_c - F_s: the boundary between s and a target class c, whatever other classes do.
    "region": F_c - max over k != c of F_k: into the region of the target class c.
    """

    source: Tensor  # (n,) int64, class predicted at the image
    target: Tensor | None = None  # (n,) int64; None for "own"
    kind: Kind = "own"

    @staticmethod
    def of(source: Tensor, target: Tensor | None, region: bool = False) -> "BoundaryFunction":
        """The kind that belongs to a target, or to none."""
        if target is None:
            return BoundaryFunction(source)
        return BoundaryFunction(source, target, "region" if region else "pair")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: Any) -> "BoundaryFunction":
        target = None if self.target is None else self.target[index]
        return BoundaryFunction(self.source[index], target, self.kind)

    def __call__(self, scores: Tensor) -> Margin:
        """F and its pair of classes at points with scores (n, classes); differentiable."""
        if self.target is None:
            best, far = _best_but(scores, self.source)
            return Margin(best - _of(scores, self.source), self.source, far)
        wanted = _of(scores, self.target)
        if self.kind == "pair":
            return Margin(wanted - _of(scores, self.source), self.source, self.target)
        best, near = _best_but(scores, self.target)
        return Margin(wanted - best, near, self.target)


def _of(scores: Tensor, classes: Tensor) -> Tensor:
    return scores.gather(1, classes[:, None]).squeeze(1)


def _best_but(scores: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Largest score (n,) of the other classes, and whose it is (n,)."""
    best: tuple[Tensor, Tensor] = scores.scatter(1, classes[:, None], -torch.inf).max(1)
    return best[0], best[1]


def drowned(resolution: Tensor, pixels: Tensor, distance: Tensor) -> Tensor:
    """Whether rounding of the scores leaves distances undecided (n,), all in image units.

    By more than a thirtieth (some roundings then make a tenth) and more than a hundred times the
    rounding of the pixels (n,) themselves, which no precision of scores would mend: that is so
    where all scores share a large offset.
    """
    return (resolution > distance / 30) & (resolution > 100 * pixels)
