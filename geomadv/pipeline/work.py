"""What an experiment costs, in a small vocabulary: the units that a plan measures and multiplies.

An experiment says how many of each it needs (`Work`), from what it would work on (`Case`). Each
unit is measured once, on the caller's network, images and machine (`geomadv.pipeline.pace`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.experiments.universality.finetuning import BATCH
from geomadv.labels import IMAGE, Schema

# Bytes of the file per byte of images of 8 bits: what filters leave of them, 0.1 (MNIST) to 0.35
# (CIFAR-10). Of other variables they leave all.
STORED_IMAGE = 0.3
# Bytes of an HDF5 file beside numbers: of itself, of an array and of a dimension that is no array,
# fitted to the results of all experiments on the digits, within 15 %.
_FILE, _ARRAY, _DIMENSION = 2_000, 3_500, 2_000

End = Literal["", "refine", "nearest"] | float


@dataclass(frozen=True)
class Trial:
    """A unit made ready: what is to be timed.

    Attributes:
        run: does it, and returns how many units it did.
        gradients: passes of one unit in gradients, where they go past the network's own scores.
    """

    run: Callable[[], int]
    gradients: float | None = None


class Unit(Protocol):
    """Something that can be measured on a few images; hashable, so that it is measured once."""

    @property
    def load(self) -> float:
        """About how many gradients an image takes, so that a trial ends in seconds."""

    def ready(self, net: Classifier, x: Tensor) -> Trial:
        """The trial on images (n, C, H, W)."""


@dataclass(frozen=True)
class Forward:
    """An image through the network, `together` at a time; None: the default batch."""

    together: int | None = None
    load = 0.3

    def ready(self, net: Classifier, x: Tensor) -> Trial:
        """As `Unit`."""
        x = x[: net.batch_size(self.together)]

        @torch.no_grad()
        def run() -> int:
            return len(net.scores(x))

        return Trial(run)


@dataclass(frozen=True)
class Gradient:
    """An image through the network and back; `training`: to its parameters, in small batches."""

    training: bool = False
    load = 1.0

    def ready(self, net: Classifier, x: Tensor) -> Trial:
        """As `Unit`."""
        x = x[: BATCH if self.training else net.batch_size()].clone()
        x.requires_grad_(not self.training)
        module = net.to(fast=False).module.requires_grad_() if self.training else None

        def run() -> int:
            with torch.enable_grad(), net.smoothing:
                scores = net.scores(x) if module is None else module(x)
                scores[:, 0].sum().backward()
            return len(x)

        return Trial(run, 1.0)


@dataclass(frozen=True)
class Walk:
    """A walk of DeepFool from an image, with its real steps.

    Attributes:
        deepfool: how it walks.
        boundary: with a target: to its region, or to the boundary with the source class alone.
        end: "": DeepFool's own; a share of its way, the boundary point, or the nearest one.
        dimensions: of a random subspace that it is confined to; 0: all of image space.
        together: images at a time; None: all.
    """

    deepfool: ga.DeepFoolSettings = ga.DeepFoolSettings()  # noqa: RUF009 (frozen)
    boundary: Literal["", "region", "pair"] = ""
    end: End = ""
    dimensions: int = 0
    together: int | None = None

    @property
    def load(self) -> float:
        """As `Unit`."""
        if self.end == "nearest":
            return 120.0
        return 60.0 if self.dimensions else 20.0

    def ready(self, net: Classifier, x: Tensor) -> Trial:
        """As `Unit`."""
        parts = x.split(self.together or len(x))

        def run() -> int:
            for part in parts:
                self._walk(net, part)
            return len(x)

        return Trial(run)

    def _walk(self, net: Classifier, x: Tensor) -> None:
        how: dict[str, Any] = vars(self.deepfool)
        target = _others(net, x) if self.boundary else None
        if self.end:
            nearest = self.end == "nearest"
            position: Any = self.end if isinstance(self.end, float) else "refine"
            if self.boundary:
                how = how | {"boundary": self.boundary}
            ga.boundary_points(net, x, target=target, position=position, nearest=nearest, **how)
            return
        confined = None
        if self.dimensions:
            generator = torch.Generator().manual_seed(0)
            size = (net.dimension, min(self.dimensions, net.dimension))
            confined = ga.Subspace(torch.randn(size, generator=generator))
        ga.deepfool(net, x, target, confined, **how)


@dataclass(frozen=True)
class Product:
    """A Hessian product at a boundary point, as `geomadv.mean_hessian` makes it.

    Attributes:
        hvp, step, beta: as there.
        points: how many boundary points there are.
        setup: instead of a product, what making the operator takes, by the point.
        shape: of the shape operator, as `geomadv.mean_shape_operator` makes it.
    """

    hvp: str = "auto"
    step: float | None = None
    beta: float | None = None
    points: int = 100
    setup: bool = False
    shape: bool = False
    load = 8.0

    def ready(self, net: Classifier, x: Tensor) -> Trial:
        """As `Unit`."""
        x = x[: min(self.points, len(x))]
        points = _points(net, x)

        def operator() -> Any:
            make: Any = ga.mean_shape_operator if self.shape else ga.mean_hessian
            return make(net, points, self.hvp, self.step, beta=self.beta)

        made = operator()
        passes = 2.0 if made.kind == "finite-difference" else 1.0

        def run() -> int:
            made.products_sum(vectors)
            return len(x) * vectors.shape[1]

        def again() -> int:
            net.traces.clear()
            operator()
            return len(x)

        vectors = torch.randn(net.dimension, 4, generator=torch.Generator().manual_seed(0))
        made.products_sum(vectors)
        return Trial(again, 0.0) if self.setup else Trial(run, passes)


def _others(net: Classifier, x: Tensor) -> Tensor:
    """The classes of other images as targets."""
    return net.predict(x).roll(1)


def _points(net: Classifier, x: Tensor) -> ga.BoundaryPoints:
    """The images themselves as if they were boundary points, for what does not depend on that."""
    with torch.no_grad():
        best = torch.cat([net.scores(part).topk(2).indices for part in x.split(net.batch_size())])
    n, zero = len(x), torch.zeros(len(x), dtype=x.dtype, device=x.device)
    return ga.BoundaryPoints(
        points=x,
        normals=torch.nn.functional.normalize(x.flatten(1) + 1),
        source=best[:, 0],
        target=best[:, 1],
        distance=zero + 1,
        residual=zero,
        angle=zero,
        converged=zero == 0,
        iterations=torch.zeros(n, dtype=torch.int64, device=x.device),
        near=best[:, 0],
        third=zero > 0,
    )


FORWARD, GRADIENT, TRAINING = Forward(), Gradient(), Gradient(training=True)


@dataclass(frozen=True)
class Case:
    """What an experiment would work on.

    Attributes:
        net: one of its networks.
        settings: resolved.
        count: role -> how many images; 0 where there are none.
        networks: how many networks there are.
        inputs: the results that it starts from, as far as they are or will be there.
    """

    net: Classifier
    settings: Any
    count: Mapping[str, int]
    networks: int = 1
    inputs: Mapping[str, Case] = field(default_factory=dict)

    @property
    def image_bytes(self) -> int:
        """Of one image in the network's precision."""
        return self.net.dimension * torch.empty(0, dtype=self.net.dtype).element_size()


@dataclass(frozen=True)
class Work:
    """What an experiment needs on one of its networks.

    Attributes:
        units: how many of each.
        flops: of dense linear algebra.
        memory: bytes that its arrays take beside the network, a batch and the images.
        sizes: lengths of the result's dimensions; those of images and classes are known.
        types: bytes of a number of the variables that are neither images (the network's
            precision) nor of 8 bytes.
        without: variables of the schema that the result will not have.
    """

    units: Mapping[Unit, float] = field(default_factory=dict)
    flops: float = 0
    memory: float = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    types: Mapping[str, float] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __add__(self, other: Work) -> Work:
        every = [*self.units, *other.units]
        both = {unit: self.units.get(unit, 0) + other.units.get(unit, 0) for unit in every}
        return replace(self, units=both, flops=self.flops + other.flops)

    def __rmul__(self, times: float) -> Work:
        units = {unit: times * number for unit, number in self.units.items()}
        return replace(self, units=units, flops=times * self.flops)

    def disk(self, schema: Schema, case: Case) -> int:
        """Bytes of the result's file."""
        net = case.net
        sizes = {**dict(zip(IMAGE, net.input_shape, strict=True)), "pixel": net.dimension}
        sizes |= {"class": net.num_classes, "network": case.networks} | dict(self.sizes)
        known = {name: v[0] for name, v in schema.items() if name not in self.without}
        total = 0.0
        for name, dims in known.items():
            image = not {"pixel", "row"}.isdisjoint(dims)
            number: float = self.types.get(name, case.image_bytes // net.dimension if image else 8)
            for dim in dims:
                number *= sizes.get(dim, 1)
            total += number
        bare = {dim for dims in known.values() for dim in dims} - {*known}
        described = _ARRAY * sum(map(bool, known.values())) + _DIMENSION * len(bare)
        return int(total) + _FILE + described
