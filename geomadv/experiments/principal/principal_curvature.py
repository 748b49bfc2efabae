"""Principal curvatures of the boundaries around a class, with what tells how far to trust them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.boundary import BoundaryPoints, boundary_points
from geomadv.classifier import Classifier
from geomadv.curvature import (
    BoundaryOperator,
    PrincipalCurvatures,
    mean_hessian,
    mean_shape_operator,
    principal_curvatures,
)
from geomadv.curvature.choice import check_curved, choose
from geomadv.curvature.measured import Verdict
from geomadv.curvature.operators import median_distance, smoothness
from geomadv.curvature.principal import beside_points
from geomadv.curvature.shared import KnownSum, PointSums, SharedMean, solve_on_main
from geomadv.distributed import from_main, gather_rows, is_main, share
from geomadv.errors import InputError
from geomadv.experiments.lines.lines import check_target
from geomadv.experiments.principal.layout import (
    DENSITY_POINTS,
    ENDS,
    KINDS,
    OPERATORS,
    CurvatureSettings,
    blank_curvature,
)
from geomadv.experiments.principal.uncertainty import (
    bootstrap_interval,
    random_halves,
    sign_shares,
)
from geomadv.images import ImageSet
from geomadv.linalg import Subspace, spectral_density, uniform_directions


def class_curvature(
    net: Classifier,
    images: ImageSet,
    target: int,
    settings: CurvatureSettings | None = None,
    *,
    batch_size: int | None = None,
    memory: int | None = None,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Principal curvatures of the boundaries into one class (Algorithm 1 of the paper).

    "With Friends Like These" (Jetley, Lord and Torr, 2018): boundary points of the region of the
    target (or of its boundaries with the source classes), eigenpairs of the mean over them of the
    Hessian of F_target - F_near, where `near` is the class that the target meets at the point.
    Beside it: the mean shape operator, the agreement of two halves of the points, bootstrap
    intervals and the curvature against the step of a finite difference. Under torchrun the points
    are divided over the processes; all of them return the same dataset.

    Args:
        net: the network.
        images: training images with labels; those of other classes than the target are the start.
        target: the class c, 0 <= c < net.num_classes.
        settings: see `CurvatureSettings`.
        batch_size: images per pass; default from memory.
        memory: bytes for what exact products keep for reuse; default from the machine.
        checkpoint: beginning of the path of the files in which long solves keep their state.
        progress: show progress bars, on the main process.

    Returns:
        Dataset with dimension class (of length 1) first, laid out as `blank_curvature` says; its
        attribute `note` tells what product was taken instead of the one asked for, if any.
        Eigenvalues run from the most positive to the most negative; `sweep` and the intervals
        belong to the first `extremes` pairs from either end, the extreme one first. The intervals
        hold the directions fixed, which is cheap and leaves out how the directions themselves
        vary: `half_angle` tells that. `hessian_sign_share` tells how many single points share the
        sign of the mean along an extreme direction, `step_distances` the step of a finite
        difference in boundary distances. With fewer than two surviving points nothing is solved:
        `points_used` says so and the values are NaN. With fewer than four there are no halves.

    Raises:
        InputError: no such class, no labels, no image of another class, or an operator that the
            network does not admit (see `mean_hessian`).
    """
    settings = (settings or CurvatureSettings()).fitted(net.dimension)
    # Only the operators use these, after the search for boundary points.
    any_step = settings.with_step(1.0).step
    choose(net, settings.hvp, any_step, settings.beta)
    started = time.perf_counter()
    ds = blank_curvature(net, settings)
    ds["target"][:] = target
    start = _starting_images(net, images, target, settings)
    check_curved(net, settings.hvp, start.images)
    show = progress and is_main()
    points = _surviving_points(net, start, target, settings, batch_size, show)
    ds["points_tried"][:] = len(start)
    ds["points_used"][:] = len(points)
    ds["points_third"][:] = int(points.third.sum())
    if len(points) < 2:
        return ds
    distance = median_distance(points)
    ds["median_distance"][:] = distance
    settings = settings.with_step(distance)
    verdict = smoothness(net, points, settings.hvp, batch_size)
    work = _Work(net, settings, batch_size, memory, show, verdict)
    _solve_all(work, ds, points, checkpoint)
    _sweep(work, ds, points)
    ds["wall_time"][:] = time.perf_counter() - started
    return ds


@dataclass(frozen=True)
class _Work:
    """The operators of one class, their points divided over the processes."""

    net: Classifier
    settings: CurvatureSettings
    batch_size: int | None
    memory: int | None
    progress: bool
    verdict: Verdict | None

    def local(
        self, make: Callable[..., BoundaryOperator], points: BoundaryPoints, **changes: Any
    ) -> BoundaryOperator | None:
        """The mean over this process's share of the points; None where it has none."""
        mine = points[share(len(points))]
        if len(mine) == 0:
            return None
        s = self.settings
        how: dict[str, Any] = {"hvp": s.hvp, "step": s.step, "beta": s.beta} | changes
        how |= {"batch_size": self.batch_size, "memory": self.memory, "verdict": self.verdict}
        return make(self.net, mine, **how)

    def shared(self, local: PointSums | None) -> SharedMean:
        """The mean over the points of all processes."""
        return SharedMean(local, self.net.dimension, self.net.dtype, self.net.device)

    def solve(
        self, shared: SharedMean, k: int | None, checkpoint: Path | None = None
    ) -> PrincipalCurvatures:
        """The k pairs at each end, or all."""
        s = self.settings
        full = k is None or 2 * k >= self.net.dimension
        return solve_on_main(
            shared,
            lambda operator: principal_curvatures(
                operator,
                k=k or 1,
                which="all" if full else "both",
                tolerance=s.tolerance,
                seed=s.seed,
                checkpoint=checkpoint,
                progress=self.progress,
            ),
        )


def _starting_images(
    net: Classifier, images: ImageSet, target: int, settings: CurvatureSettings
) -> ImageSet:
    check_target(net, target)
    other = images.labels != target
    if not other.any():
        raise InputError(
            f"image set {images.name!r} has images of class {target} only: give images of other "
            "classes, from which its boundary is reached."
        )
    others = images[other]
    # Another sample for every class, whichever classes are asked for.
    seed = settings.seed + target
    return others if settings.count >= len(others) else others.sample(settings.count, seed)


def _surviving_points(
    net: Classifier,
    start: ImageSet,
    target: int,
    settings: CurvatureSettings,
    batch_size: int | None,
    progress: bool,
) -> BoundaryPoints:
    """The converged boundary points, in the order of the images.

    Every process searches all of them: that takes little beside the products, and one image's walk
    may lead another one.
    """
    found = boundary_points(
        net,
        start.images,
        target=target,
        position=settings.position,
        boundary=settings.boundary,
        deepfool=settings.deepfool,
        batch_size=batch_size,
        progress=progress,
    )
    return found[found.converged]


def _solve_all(
    work: _Work, ds: xr.Dataset, points: BoundaryPoints, checkpoint: Path | None
) -> None:
    """Both operators and the halves of the points, from shared products where that is possible."""
    state = {
        name: None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}-{name}")
        for name in OPERATORS
    }
    halves = random_halves(len(points), work.settings.seed) if len(points) >= 4 else ()
    hessian = work.local(mean_hessian, points)
    _describe(ds, hessian)
    linear = from_main(hessian is None or hessian.linear)
    if linear and work.settings.pairs is None:
        shape = work.local(mean_shape_operator, points)
        whole, scaled, *parts = _known_sums(hessian, shape, halves, len(points))
        _solve(work, ds, "hessian", hessian, whole, state["hessian"])
        _solve(work, ds, "shape", shape, scaled, state["shape"])
        _compare_halves(work, ds, parts)
        return
    _solve(work, ds, "hessian", hessian, hessian, state["hessian"])
    del hessian  # what it keeps makes room for the next ones
    shape = work.local(mean_shape_operator, points)
    _solve(work, ds, "shape", shape, shape, state["shape"])
    del shape
    _compare_halves(work, ds, (work.local(mean_hessian, points[index]) for index in halves))


def _known_sums(
    hessian: BoundaryOperator | None,
    shape: BoundaryOperator | None,
    halves: Sequence[Tensor],
    count: int,
) -> tuple[PointSums | None, ...]:
    """The sums of both operators and of the halves of the mean Hessian as matrices.

    The full spectrum of a linear operator takes its products with the pixels' unit vectors. The
    points' products with the same vectors serve all of these sums.
    """
    if hessian is None or shape is None:
        return (None,) * (2 + len(halves))
    mine = torch.arange(count)[share(count)]
    chosen = torch.stack([torch.isin(mine, index) for index in (mine, *halves)])
    factors = torch.cat([chosen.to(shape.scales), shape.scales[None]])
    *sums, scaled = hessian.matrix_sums(factors)
    whole, *parts = map(KnownSum, sums, chosen.sum(1).tolist())
    return (whole, KnownSum(shape.from_hessians(scaled), len(mine)), *parts)


def _solve(
    work: _Work,
    ds: xr.Dataset,
    name: str,
    local: BoundaryOperator | None,
    sums: PointSums | None,
    checkpoint: Path | None,
) -> None:
    """Eigenpairs and intervals of one operator, written into the dataset.

    local: what gives its points' own curvatures; sums: what gives products with their sum.
    """
    shared = work.shared(sums)
    pairs = work.solve(shared, work.settings.pairs, checkpoint)
    each = _per_point(local, _columns(pairs.directions, work))
    pairs = beside_points(pairs, each, float(ds["step_distances"][0]))
    found = len(pairs.values)
    ds[f"{name}_value"][0, :found] = pairs.values
    shape = (found, *work.net.input_shape)
    ds[f"{name}_direction"][0, :found] = _array(pairs.directions).T.reshape(shape)
    ds[f"{name}_residual"][0, :found] = pairs.residuals
    ds[f"{name}_residual_range"][0] = np.quantile(_array(pairs.residuals), (0, 0.5, 1))
    ds[f"{name}_converged"][0, :found] = pairs.converged
    ds[f"{name}_products"][:] = pairs.products
    ds[f"{name}_asymmetry"][:] = pairs.asymmetry
    ds[f"{name}_coherence"][:] = pairs.coherence
    if name == "hessian" and work.settings.pairs is not None:
        _density(work, ds, shared)
    by_end = (2, work.settings.extremes)
    interval = bootstrap_interval(each, ds["bound"].to_numpy(), work.settings)
    ds[f"{name}_interval"][0] = interval.reshape(*by_end, 2)
    ds[f"{name}_sign_share"][0] = sign_shares(each).reshape(by_end)
    ds[f"{name}_point_value"][0, :, :, : len(each)] = each.T.reshape(*by_end, len(each))


def _density(work: _Work, ds: xr.Dataset, shared: SharedMean) -> None:
    """Density of the whole spectrum where only its ends are known.

    Lanczos quadrature takes the products for those of one symmetric matrix. Finite differences over
    a step that crosses many kinks are not: the density would be far wider than any curvature. It is
    left out where the asymmetry exceeds the quadrature's resolution, a step in `density_steps`.
    What counts there is the mean itself, also where little of the points' curvature is left in it.
    """
    s = work.settings
    asymmetry, left = float(ds["hessian_asymmetry"][0]), float(ds["hessian_coherence"][0])
    if asymmetry * s.density_steps > left:
        return
    found = solve_on_main(
        shared,
        lambda operator: spectral_density(
            operator, s.density_probes, s.density_steps, DENSITY_POINTS, seed=s.seed
        ),
    )
    ds["density_value"][0] = found.grid
    ds["density"][0] = found.density
    ds["density_spread"][0] = found.spread


def _describe(ds: xr.Dataset, local: BoundaryOperator | None) -> None:
    """Which product it is; the main process always has points and knows."""
    told = local and (local.kind, local.step, local.beta, local.note)
    kind, step, beta, note = from_main(told) or ("", None, None, "")
    ds["kind"][:] = KINDS.index(kind)
    ds["hvp_step"][:] = np.nan if step is None else step
    ds["step_distances"][:] = ds["hvp_step"] / ds["median_distance"]
    ds["beta"][:] = np.nan if beta is None else beta
    ds["fallback"][:] = bool(note)
    ds.attrs["note"] = note
    ds["kind"].attrs["note"] = note


def _extremes(work: _Work, ds: xr.Dataset) -> Tensor:
    """The extreme directions (D, 2 e) of the mean Hessian, as `_columns` gives them."""
    stored = ds["hessian_direction"].to_numpy()[0].reshape(-1, work.net.dimension)
    return _columns(torch.from_numpy(stored.T), work)


def _columns(directions: Tensor, work: _Work) -> Tensor:
    """Of all (D, m) the extreme ones (D, 2 e): e most positive first, then e most negative."""
    e = work.settings.extremes
    chosen = torch.cat([directions[:, :e], directions.flip(1)[:, :e]], dim=1)
    return chosen.to(work.net.device, work.net.dtype)


def _per_point(local: BoundaryOperator | None, vectors: Tensor) -> NDArray[np.float64]:
    """v^T A_i v for every boundary point i of all processes (points, vectors)."""
    if local is None:
        mine = torch.zeros((0, vectors.shape[1]), dtype=torch.float64)
    else:
        mine = torch.as_tensor(local.per_point_quadratic(vectors)).double().cpu()
    values: NDArray[np.float64] = gather_rows(mine).numpy()
    return values


def _compare_halves(work: _Work, ds: xr.Dataset, parts: Iterable[PointSums | None]) -> None:
    """Principal angles between the leading directions of two halves of the points, if any."""
    s = work.settings
    most = max(s.half_dimensions)
    halves = []
    for part in parts:
        pairs = work.solve(work.shared(part), most)
        if not pairs.values.any():
            return  # of a flat boundary any direction is as good, and agreement says nothing
        solved = _array(pairs.directions)
        halves.append({"positive": solved[:, :most], "negative": solved[:, ::-1][:, :most]})
    for e, end in enumerate(ENDS if halves else ()):
        for i, d in enumerate(s.half_dimensions):
            one, two = (Subspace(np.ascontiguousarray(half[end][:, :d])) for half in halves)
            ds["half_angle"][0, e, i, :d] = one.principal_angles(two).cpu().numpy()


def _sweep(work: _Work, ds: xr.Dataset, points: BoundaryPoints) -> None:
    """v^T H_h v against h for the extreme directions of the Hessian and for random ones."""
    s, net = work.settings, work.net
    random = uniform_directions(s.sweep_draws, net.dimension, s.seed, net.dtype).T.to(net.device)
    vectors = torch.cat([_extremes(work, ds), random], dim=1)
    for i, step in enumerate(ds["step"].to_numpy()):
        local = work.local(
            mean_hessian, points, hvp="finite-difference", step=float(step), beta=None
        )
        values = _per_point(local, vectors).mean(axis=0)
        ds["sweep"][0, i] = values[: 2 * s.extremes].reshape(2, s.extremes)
        ds["sweep_random"][0, i] = values[2 * s.extremes :]


def _array(value: Any) -> NDArray[Any]:
    array: NDArray[Any] = value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array
