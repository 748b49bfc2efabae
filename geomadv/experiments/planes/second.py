"""Second directions of a plane through an image and its boundary point."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import PrincipalCurvatures, mean_shape_operator, principal_curvatures
from geomadv.errors import UnconvergedWarning
from geomadv.linalg import uniform_directions

Second = Literal["runner-up", "positive", "negative", "random", "image"]
SECONDS: tuple[Second, ...] = get_args(Second)

# Classes among which the second-nearest is looked for, as many as DeepFool considers.
CANDIDATES = 10
# Hessian products for the curvature of a single point: the extreme pairs of smooth networks take 20
# to 60, and differences across kinks converge with none.
PRODUCTS = 100
# Step of finite differences in boundary distances; beyond 1 it is coarser than the distance.
STEP = 0.5


@dataclass(frozen=True)
class Direction:
    """A second direction, of any norm.

    Attributes:
        vector: (D,), NaN where there is none.
        end: the point of interest in the plane (D,), relative to the image; None for none.
        label: the class beyond that point, or of that image; -1 for none.
        curvature: of the boundary along it, 1 / image units; NaN where it is not known.
        residual: ||S v - value v|| / max |value|; above 1 it is no eigenvector.
    """

    vector: Tensor
    end: Tensor | None = None
    label: int = -1
    curvature: float = math.nan
    residual: float = math.nan


class SecondDirections:
    """All second directions of one image x (1, C, H, W) with its boundary point."""

    def __init__(
        self,
        net: Classifier,
        x: Tensor,
        point: BoundaryPoints,
        other: tuple[Tensor, int],
        seed: int,
        batch_size: int | None,
    ) -> None:
        self.net, self.x, self.point = net, x, point
        self.other, self.seed, self.batch_size = other, seed, batch_size

    def named(self, name: Second) -> Direction:
        """The direction of this name."""
        ways: dict[Second, Callable[[], Direction]] = {
            "runner-up": self._runner_up,
            "positive": lambda: self._curved(0),
            "negative": lambda: self._curved(1),
            "random": self._random,
            "image": self._towards_image,
        }
        return ways[name]()

    def _random(self) -> Direction:
        drawn = uniform_directions(1, self.net.dimension, self.seed, self.net.dtype)
        return Direction(drawn[0].to(self.net.device))

    def _towards_image(self) -> Direction:
        image, label = self.other
        way = (image - self.x[0]).flatten()
        return Direction(way, way, label)

    def _runner_up(self) -> Direction:
        """DeepFool's direction to the class whose boundary is second-nearest."""
        with torch.no_grad():
            order = self.net.scores(self.x)[0].argsort(descending=True)
        others = [c for c in order.tolist() if c not in (*self.point.source, *self.point.target)]
        classes = torch.tensor(others[: CANDIDATES - 1], device=self.net.device)
        if len(classes) == 0:
            return Direction(torch.full_like(self.x[0].flatten(), torch.nan))
        many = self.x.expand(len(classes), -1, -1, -1)
        found = boundary_points(self.net, many, target=classes, batch_size=self.batch_size)
        best = int(torch.where(found.converged, found.distance, torch.inf).argmin())
        if not found.converged[best]:
            return Direction(torch.full_like(self.x[0].flatten(), torch.nan))
        way = (found.points[best] - self.x[0]).flatten()
        return Direction(way, way, int(found.target[best]))

    def _curved(self, number: int) -> Direction:
        pairs = self._curvatures
        if pairs.values[number] == 0:  # A flat boundary: any direction would do.
            return Direction(torch.full_like(self.x[0].flatten(), torch.nan))
        return Direction(
            pairs.directions[:, number].to(self.x),
            curvature=float(pairs.values[number]),
            residual=float(pairs.residuals[number]),
        )

    @cached_property
    def _curvatures(self) -> PrincipalCurvatures:
        """The most positive and the most negative principal curvature at the boundary point."""
        step = STEP * float(self.point.distance)
        operator = mean_shape_operator(self.net, self.point, "auto", step)
        with warnings.catch_warnings():
            # Each direction tells its residual.
            warnings.simplefilter("ignore", UnconvergedWarning)
            return principal_curvatures(operator, 1, "both", seed=self.seed, max_products=PRODUCTS)
