"""Points on the decision boundary, and the boundary's normals there."""

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from geomadv.boundary.nearest import nearest_crossing
from geomadv.boundary.segment import crossing
from geomadv.classifier import Classifier
from geomadv.classifier.batching import check_batch_size
from geomadv.classifier.boundary_function import BoundaryFunction
from geomadv.errors import InputError
from geomadv.perturbations.deepfool import DeepFoolResult, deepfool

# |f| at a refined point, relative to the largest score at the clean image: some tens of roundings
# of a network's forward pass in float32, far more than that in float64.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

# A sum over D pixels adds up in D roundings of its growing partial sums: for a linear network a
# random walk with standard deviation sqrt(D / 24) eps * rms pixel * ||grad f||, that is 0.2 eps *
# ||image|| * ||grad f||, whatever order of the sums a batch size or a processor brings with it.
# Ten of these leave room for several layers, and still are a distance far below any pixel's step.
_ROUNDINGS = 2


@dataclass(frozen=True)
class BoundaryPoints:
    """One boundary point per image, in the order of the images.

    f = F_target - F_source is negative at the image, zero on the boundary, and grows along the
    normal, which points into the target class. An image without a usable boundary point is kept:
    `converged` is False and its normal is NaN, so that it cannot enter a mean unnoticed.
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

    def __len__(self) -> int:
        return len(self.distance)

    def __getitem__(self, index: Any) -> "BoundaryPoints":
        if isinstance(index, Integral):
            index = [index]
        return BoundaryPoints(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def boundary_points(
    net: Classifier,
    images: Any,
    target: int | Tensor | None = None,
    position: Literal["refine"] | float = "refine",
    nearest: bool = False,
    *,
    overshoot: float = 0.02,
    max_iter: int = 50,
    candidates: int = 10,
    tolerance: float | None = None,
    nearest_steps: int = 100,
    batch_size: int | None = None,
    progress: bool = False,
) -> BoundaryPoints:
    """Boundary points reached by DeepFool from images, with normals.

    Args:
        net: the network.
        images: clean images (N, C, H, W) inside the bounds: tensor, array or ImageSet.
        target: None for the boundary of the source class's region; a class or (N,) classes for
            the boundary between the source class and that one.
        position: "refine" finds where the segment from the image to DeepFool's point crosses the
            boundary (the crossing nearest to the image that the search brackets); a number is the
            share of DeepFool's perturbation to go, 0.8 in the released code of "With Friends Like
            These".
        nearest: then slide along the boundary until point - image is parallel to the normal, the
            optimality condition of the nearest boundary point (SuperDeepFool, Abdollahpoor et
            al. 2024). Costs `nearest_steps` gradients an image.
        overshoot: of DeepFool.
        max_iter: of DeepFool.
        candidates: of DeepFool.
        tolerance: largest |f| at a refined point relative to the largest |score| at the image;
            None: 1e-5 in float32, 1e-10 in float64. Where rounding forbids it, a residual within
            what rounding of sums over the image changes f by is accepted.
        nearest_steps: steps of the nearest-point polish.
        batch_size: images per pass; default from memory.
        progress: show progress bars.

    Returns:
        BoundaryPoints. A point counts as converged if DeepFool crossed the boundary, |f| is within
        the tolerance (refined points), no third class scores higher there than both of the pair,
        and the gradient does not vanish.

    Raises:
        InputError: unusable images or settings; position other than "refine" or a finite number
            > 0; nearest with a fixed share of the perturbation.
    """
    fraction = _check_position(position, nearest)
    _check_search(tolerance, nearest_steps)
    x = net.check_images(images).detach()
    size = check_batch_size(batch_size, net)
    walk = deepfool(
        net,
        x,
        target=target,
        overshoot=overshoot,
        max_iter=max_iter,
        candidates=candidates,
        batch_size=size,
        progress=progress,
    )
    relative = TOLERANCE.get(x.dtype, 1e-5) if tolerance is None else tolerance
    targets = None
    if target is not None:
        targets = torch.as_tensor(target, device=net.device).to(torch.int64).expand(len(x))
    parts = []
    with tqdm(total=len(x), desc="boundary", unit="image", disable=not progress) as bar:
        for index in torch.arange(len(x), device=net.device).split(size):
            chosen = None if targets is None else targets[index]
            piece = _Piece(net, x[index], _rows(walk, index), chosen, relative)
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
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        scores = net.scores(x)
        f = (scores.gather(1, target[:, None]) - scores.gather(1, source[:, None])).squeeze(1)
        (gradient,) = torch.autograd.grad(f.sum(), x)
    return f.detach(), gradient.flatten(1), scores.detach()


class _Piece:
    """Boundary points of one batch of images whose DeepFool walks are done."""

    def __init__(
        self,
        net: Classifier,
        x: Tensor,
        walk: DeepFoolResult,
        targets: Tensor | None,
        tolerance: float,
    ) -> None:
        self.net, self.x, self.walk, self.targets = net, x, walk, targets
        self.boundary = BoundaryFunction.of(walk.source, targets)
        with torch.no_grad():
            self.tolerance = tolerance * net.scores(x).abs().amax(1)

    def at_fraction(self, fraction: float) -> BoundaryPoints:
        """Points a fixed share of the way along DeepFool's perturbation."""
        points = self.x + fraction * self.walk.delta
        target = self.walk.label if self.targets is None else self.targets
        return self._record(points, target, self.walk.converged)

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
        share, crossed = crossing(self.net, self.x, delta, self.boundary, self.tolerance)
        points = self.x + share.reshape(-1, 1, 1, 1) * delta
        with torch.no_grad():
            rival = self.boundary(self.net.scores(points)).far
        # Next to the boundary, DeepFool's overshoot is less than rounding: it may have crossed in
        # its own batch and not in this one. Whether f is small enough decides.
        return self._record(points, rival, crossed | self.walk.converged, on_boundary=True)

    def _record(
        self, points: Tensor, target: Tensor, reached: Tensor, on_boundary: bool = False
    ) -> BoundaryPoints:
        source = self.walk.source
        f, gradient, scores = boundary_gradient(self.net, points, source, target)
        norm = gradient.norm(dim=1)
        usable = (norm > torch.finfo(norm.dtype).tiny) & norm.isfinite() & (source != target)
        converged = reached & usable
        if on_boundary:
            pair = torch.stack([source, target], dim=1)
            third = scores.scatter(1, pair, -torch.inf).amax(1)
            rounding = torch.finfo(norm.dtype).eps * self.x.flatten(1).norm(dim=1) * norm
            tolerance = torch.maximum(self.tolerance, _ROUNDINGS * rounding)
            converged &= f.abs() <= tolerance
            converged &= third <= scores.gather(1, pair).amax(1) + tolerance
        normals = gradient / norm[:, None]
        normals[~converged] = torch.nan
        step = (points - self.x).flatten(1)
        distance = step.norm(dim=1)
        return BoundaryPoints(
            points=points,
            normals=normals,
            source=source,
            target=target,
            distance=distance,
            residual=f.abs(),
            angle=_angle(step / distance[:, None], normals),
            converged=converged,
            iterations=self.walk.iterations,
        )


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


def _check_search(tolerance: float | None, nearest_steps: int) -> None:
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
