"""Points on the decision boundary, and the boundary's normals there."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, Unpack

import torch
from torch import Tensor

from geomadv.boundary.nearest import nearest_crossing
from geomadv.boundary.segment import crossing
from geomadv.classifier import Classifier
from geomadv.classifier.boundary_function import BoundaryFunction, drowned
from geomadv.classifier.precision import computes
from geomadv.errors import InputError
from geomadv.linalg.vectors import unit_rows
from geomadv.perturbations.deepfool import DeepFoolResult, deepfool_by
from geomadv.perturbations.result import Classes, check_classes
from geomadv.perturbations.settings import DeepFoolChanges, DeepFoolSettings
from geomadv.progress import tqdm

# |f| at a refined point, relative to |f| at the clean image: so the distance is right to that
# share. Far above the rounding of a network's forward pass in float64, near it in float32.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# Rounding of the two scores that f compares, in units of their last place.
SCORE_ROUNDINGS = 4

# A sum over D pixels adds up in D roundings of its growing partial sums: for a linear network a
# random walk with standard deviation sqrt(D / 24) eps * rms pixel * ||grad f||, that is 0.2 eps *
# ||image|| * ||grad f||, whatever order of the sums a batch size or a processor brings with it.
# Ten of these leave room for several layers, and still are a distance far below any pixel's step.
PIXEL_ROUNDINGS = 2


@dataclass(frozen=True)
class BoundaryPoints:
    """One boundary point per image, in the order of the images.

    f = F_target - F_near is negative at the image, zero on the boundary, and grows along the
    normal, which points into the target class. `near` is the source class, except on the boundary
    of a target class's region, where it is whichever class the target meets at the point. An image
    without a usable boundary point is kept: `converged` is False and its normal is NaN, so that it
    cannot enter a mean unnoticed.
    Indexing with a slice, mask or index array selects points: `pts[pts.converged]`.
    """

    points: Tensor  # (N, C, H, W)
    normals: Tensor  # (N, D) unit; NaN where there is none
    source: Tensor  # (N,) int64, predicted class at the image
    target: Tensor  # (N,) int64, the class across the boundary
    distance: Tensor  # (N,) ||point - image||, image units
    residual: Tensor  # (N,) |f| at the point, score units
    # (N,) between point - image and the normal, radians; 0 at a nearest point, NaN where there is
    # no normal or the image itself lies on the boundary
    angle: Tensor
    converged: Tensor  # (N,) bool
    iterations: Tensor  # (N,) int64, DeepFool steps
    # (N,) int64, the class that meets the target class at the point; None: the source class
    near: Tensor = None  # type: ignore[assignment]
    # (N,) bool, a third class is on top there, as it may be with boundary="pair"; None: nowhere
    third: Tensor = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Fills in what points of a pair's boundary need not say, also after `replace`."""
        near = self.source if vars(self)["near"] is None else self.near
        # A class does not meet itself: points whose source and target were exchanged.
        object.__setattr__(self, "near", torch.where(near == self.target, self.source, near))
        if vars(self)["third"] is None:
            object.__setattr__(self, "third", torch.zeros_like(self.converged))

    def __len__(self) -> int:
        return len(self.distance)

    def __repr__(self) -> str:
        reached = self.distance[self.converged]
        middle = (
            f", median distance {float(reached.double().quantile(0.5)):.3g}" if len(reached) else ""
        )
        return (
            f"BoundaryPoints({len(self)} of images {tuple(self.points.shape[1:])}, "
            f"{len(reached)} converged{middle})"
        )

    def __getitem__(self, index: Any) -> "BoundaryPoints":
        if isinstance(index, Integral):
            index = [index]
        return BoundaryPoints(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@computes
def boundary_points(
    net: Classifier,
    images: Any,
    target: Classes | None = None,
    position: Literal["refine"] | float = "refine",
    nearest: bool = False,
    *,
    boundary: Literal["region", "pair"] = "region",
    deepfool: DeepFoolSettings = DeepFoolSettings(),  # noqa: B008 (frozen)
    tolerance: float | None = None,
    nearest_steps: int = 100,
    batch_size: int | None = None,
    progress: bool = False,
    **changes: Unpack[DeepFoolChanges],
) -> BoundaryPoints:
    """Boundary points reached by DeepFool from images, with normals.

    Args:
        net: the network.
        images: clean images (N, C, H, W) inside the bounds: tensor, array or ImageSet.
        target: None for the boundary of the source class's region; a class or (N,) classes for
            a boundary of that class.
        position: "refine" finds where the segment from the image to DeepFool's point crosses the
            boundary (the crossing nearest to the image that the search brackets); a number is the
            share of DeepFool's perturbation to go, 0.8 in the released code of "With Friends Like
            These".
        nearest: then slide along the boundary until point - image is parallel to the normal, the
            optimality condition of the nearest boundary point (SuperDeepFool, Abdollahpoor et
            al. 2024). Costs `nearest_steps` gradients an image.
        boundary: which boundary of a target class c. "region": f = F_c - max over k != c of F_k,
            the boundary of the region where c is predicted ("1-vs-all" in the paper); where
            DeepFool fails, or ends farther away than another known point of the region (one of
            `images` predicted as c, or where the walk of another one ended), the segment to that
            point leads to it (refined points). "pair": f = F_c - F_source, as Algorithm 1 writes;
            a third class may be on top there (`third`).
        deepfool: how DeepFool walks.
        tolerance: largest |f| at a refined point relative to |f| at the image, that is the relative
            error of the distance; None: 1e-5 in float32, 1e-10 in float64. Where rounding forbids
            it, a residual within what rounding of the two scores and of sums over the image
            changes f by is accepted.
        nearest_steps: steps of the nearest-point polish.
        batch_size: images per pass; default from memory. It changes points by rounding, as the
            number of threads does: relative to the largest coordinate by 3e-6, behind the hundred
            steps of `nearest` by 1e-5 on a smooth network; kinks amplify it further
            (`geomadv.boundary.nearest`).
        progress: show progress bars.
        **changes: fields of `deepfool` by themselves, such as max_iter=5.

    Returns:
        BoundaryPoints. A point counts as converged if DeepFool crossed the boundary, |f| is within
        the tolerance (refined points), and the gradient does not vanish. An image that is
        predicted as the target already has no point.

    Raises:
        InputError: unusable images or settings; position other than "refine" or a finite number
            > 0; nearest with a fixed share of the perturbation.
    """
    fraction = _check_position(position, nearest)
    _check_search(boundary, tolerance, nearest_steps)
    search = replace(deepfool, **changes)
    x = net.check_images(images).detach()
    targets = check_classes("target", target, len(x), net)
    size = net.batch_size(batch_size)
    region = boundary == "region" and targets is not None
    walk = deepfool_by(search, net, x, targets, None, region, size, progress)
    if region and targets is not None and fraction is None:
        walk = _guided(x, walk, targets, size)
    function = BoundaryFunction.of(walk.source, targets, region)
    relative = TOLERANCE.get(x.dtype, 1e-5) if tolerance is None else tolerance
    parts = []
    with tqdm(total=len(x), desc="boundary", unit="image", disable=not progress) as bar:
        for index in torch.arange(len(x), device=net.device).split(size):
            piece = _Piece(net, x[index], _rows(walk, index), function[index], relative)
            if fraction is not None:
                parts.append(piece.at_fraction(fraction))
            else:
                parts.append(piece.nearest(nearest_steps) if nearest else piece.refined())
            bar.update(len(index))
    return BoundaryPoints(
        **{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(BoundaryPoints)}
    )


def boundary_gradient(
    net: Classifier, x: Tensor, source: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Boundary function f = F_target - F_source with its gradient, anywhere in image space.

    x (N, C, H, W), source and target (N,) int64 -> f (N,), gradient (N, D), scores (N, classes).
    """
    _, f, gradient, scores = _gradient_of(net, x, lambda _: (source, target))
    return f, gradient, scores


def _gradient_of(
    net: Classifier, x: Tensor, pair: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor, Tensor]:
    """The pair of classes that the scores tell, and f, gradient and scores from the same pass."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        scores = net.scores(x)
        near, far = pair(scores.detach())
        f = (scores.gather(1, far[:, None]) - scores.gather(1, near[:, None])).squeeze(1)
        (gradient,) = torch.autograd.grad(f.sum(), x)
    return (near, far), f.detach(), gradient.flatten(1), scores.detach()


class _Piece:
    """Boundary points of one batch of images whose DeepFool walks are done."""

    def __init__(
        self,
        net: Classifier,
        x: Tensor,
        walk: DeepFoolResult,
        boundary: BoundaryFunction,
        tolerance: float,
    ) -> None:
        self.net, self.x, self.walk, self.boundary = net, x, walk, boundary
        with torch.no_grad():
            self.start = boundary(net.scores(x)).value
        self.tolerance = tolerance * self.start.abs()

    def at_fraction(self, fraction: float) -> BoundaryPoints:
        """Points a fixed share of the way along DeepFool's perturbation.

        They need not lie where the class that DeepFool reached is the best of the others.
        """
        if self.boundary.target is None:
            self.boundary = BoundaryFunction(self.walk.source, self.walk.label, "pair")
        with torch.no_grad():
            beyond = self.boundary(self.net.scores(self.x + self.walk.delta)).value > 0
        return self._record(self.x + fraction * self.walk.delta, beyond)

    def refined(self) -> BoundaryPoints:
        """Points where the segment to DeepFool's point crosses the boundary."""
        return self._crossing(self.walk.delta)

    def nearest(self, steps: int) -> BoundaryPoints:
        """Refined points, replaced where sliding along the boundary gets nearer."""
        refined = self.refined()
        delta = nearest_crossing(self.net, self.x, self.walk.delta, self.boundary, steps)
        polished = self._crossing(delta)
        nearer = (polished.distance < refined.distance) | ~refined.converged
        return _choose(polished.converged & nearer, polished, refined)

    def _crossing(self, delta: Tensor) -> BoundaryPoints:
        share, crossed = crossing(
            self.net, self.x, delta, self.boundary, self.tolerance, self.start
        )
        points = self.x + share.reshape(-1, 1, 1, 1) * delta
        # Next to the boundary, DeepFool's overshoot is less than rounding: it may have crossed in
        # its own batch and not in this one. Whether f is small enough decides.
        return self._record(points, crossed | self.walk.converged, on_boundary=True)

    def _record(self, points: Tensor, reached: Tensor, on_boundary: bool = False) -> BoundaryPoints:
        source = self.walk.source
        (near, far), f, gradient, scores = _gradient_of(self.net, points, self._pair)
        normals, norm = unit_rows(gradient)
        own = scores.gather(1, torch.stack([near, far], dim=1))
        pixels = self.x.flatten(1).norm(dim=1) * norm
        rounding = PIXEL_ROUNDINGS * pixels + SCORE_ROUNDINGS * own.abs().amax(1)
        rounding *= _eps(rounding)
        step, distance = unit_rows((points - self.x).flatten(1))
        converged = reached & (norm > 0) & norm.isfinite() & (source != far)
        blur = _eps(norm) * own.abs().amax(1) / norm
        size = _eps(norm) * self.x.flatten(1).norm(dim=1)
        converged &= ~drowned(blur, size, distance)
        if on_boundary:
            converged &= f.abs() <= torch.maximum(self.tolerance, rounding)
        normals[~converged] = torch.nan
        return BoundaryPoints(
            points=points,
            normals=normals,
            source=source,
            target=far,
            distance=distance,
            residual=f.abs(),
            angle=_angle(torch.where(distance[:, None] > 0, step, torch.nan), normals),
            converged=converged,
            iterations=self.walk.iterations,
            near=near,
            third=scores.amax(1) > own.amax(1) + rounding,
        )

    @torch.no_grad()
    def _pair(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The classes that meet at points with these scores, near and far (n,).

        A region has corners, and the nearest point of one is often such a corner: of the classes
        that meet the target there, within the tolerance of the search, the first one is taken.
        """
        margin = self.boundary(scores)
        if self.boundary.kind != "region":
            return margin.near, margin.far
        others = scores.scatter(1, margin.far[:, None], -torch.inf)
        wanted = scores.gather(1, margin.far[:, None])
        reach = torch.maximum(self.tolerance, SCORE_ROUNDINGS * _eps(scores) * wanted[:, 0].abs())
        tied = (wanted - others).abs() <= reach[:, None]
        first = tied.to(torch.uint8).argmax(1)
        return torch.where(tied.any(1), first, margin.near), margin.far


def _guided(x: Tensor, walk: DeepFoolResult, target: Tensor, size: int) -> DeepFoolResult:
    """The walks, led to another known point of the region where that is nearer or they failed.

    On robust networks gradients vanish or mislead: of 400 CIFAR-10 images, DeepFool led 40 % into
    one class's region, at 10 times the images' norm. The segment to a point where the class is
    predicted enters its region on any network. Known are the images predicted as the class and
    where other images' walks ended.

    Args:
        x: (N, C, H, W) images.
        walk: DeepFool towards the regions.
        target: (N,) classes.
        size: images at a time.

    Returns:
        The walks; `delta` leads to the nearest known point, and `converged` is True, where a walk
        ends farther away than that or did not converge.
    """
    flat = x.flatten(1)
    delta, converged = walk.delta.clone(), walk.converged.clone()
    for c in target.unique():
        to_c = target == c
        ended = to_c & walk.converged & (walk.source != c)
        known = torch.cat([flat[walk.source == c], walk.adversarial[ended].flatten(1)])
        outside = (to_c & (walk.source != c)).nonzero().squeeze(1)
        for rows in outside.split(size) if len(known) > 0 else ():
            distance, nearest = torch.cdist(flat[rows], known).min(1)
            led = (distance < walk.norm[rows]) | ~walk.converged[rows]
            rows, guide = rows[led], known[nearest[led]]
            delta[rows], converged[rows] = (guide - flat[rows]).reshape(-1, *x.shape[1:]), True
    norm = delta.flatten(1).norm(dim=1)
    return replace(walk, delta=delta, adversarial=x + delta, norm=norm, converged=converged)


def _eps(t: Tensor) -> float:
    return torch.finfo(t.dtype).eps


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between unit rows, accurate near zero where arccos is not (Kahan)."""
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


def _rows(walk: DeepFoolResult, index: Tensor) -> DeepFoolResult:
    return DeepFoolResult(**{f.name: getattr(walk, f.name)[index] for f in fields(walk)})


def _choose(mask: Tensor, a: BoundaryPoints, b: BoundaryPoints) -> BoundaryPoints:
    """Row by row a where the mask (N,) says so, else b."""

    def pick(name: str) -> Tensor:
        x, y = getattr(a, name), getattr(b, name)
        return torch.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, y)

    return BoundaryPoints(**{f.name: pick(f.name) for f in fields(BoundaryPoints)})


def _check_search(boundary: str, tolerance: float | None, nearest_steps: int) -> None:
    if boundary not in ("region", "pair"):
        raise InputError(f"boundary={boundary!r} must be 'region' or 'pair'.")
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise InputError(f"tolerance={tolerance} must be finite and >= 0, or None for the default.")
    if nearest_steps < 1:
        raise InputError(f"nearest_steps={nearest_steps} must be at least 1; 100 is the default.")


def _check_position(position: Any, nearest: bool) -> float | None:
    """The fixed share, or None for refined points."""
    if position == "refine":
        return None
    number = isinstance(position, Real) and not isinstance(position, bool)
    if not number or not 0 < position < math.inf:
        raise InputError(
            f"position={position!r} must be 'refine' or a share of DeepFool's perturbation such "
            "as 0.8 (paper preset)."
        )
    if nearest:
        raise InputError("nearest=True needs position='refine': a share is not on the boundary.")
    return float(position)
