"""Principal curvatures of the boundaries around every class."""

import dataclasses
import functools
import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import tyro
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import NO_BOUNDARY, UnconvergedWarning
from geomadv.experiments import CurvatureSettings
from geomadv.experiments.principal.layout import DENSITY, DENSITY_POINTS
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import LARGE_IMAGE, CountOrAll
from geomadv.pipeline.work import Case, End, Product, Walk, Work

# The full spectrum takes D products and D^2 numbers a class: on a CPU up to MNIST's D = 784, on a
# GPU up to the largest dense matrix that is supported.
_FULL_CPU, _FULL_GPU, _PAIRS = 1024, 4096, 20

# Pixels up to which the default settings take a minute or two for all classes on a CPU.
_SMALL = 256

# Of large images: classes, images a class, pairs at each end, and the step of finite differences in
# distances: the library's choice, a share of the length of an image, is ten of them on ImageNet.
_FEW = (3, 20, 5)
# The classes of `--quick`.
_FIRST = ("0", "1", "2")
_STEP_DISTANCES = 0.3


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Principal curvatures of the boundaries around every class."""

    preset: Literal["auto", "default", "paper"] = "auto"
    """paper: the numbers of "With Friends Like These"; default: better ones; auto: default for
    images of up to 256 pixels, else the paper's, which take a fifth of the time, but for images of
    over 4,096 numbers, where the five steps of its DeepFool reach few classes. Settings below
    win."""
    classes: tuple[str, ...] = ()
    """Target classes by name or number; default: all, of images of over 4,096 numbers three. 0, 1
    and 2 stand for all of a network of two."""
    count: CountOrAll = None
    """Training images of other classes to start from, per class; default: 200, the paper's 100, 20
    for images of over 4,096 numbers."""
    pairs: Annotated[int | Literal["auto"] | None, tyro.conf.arg(metavar="K|auto|None")] = "auto"
    """Eigenpairs at each end, None for the full spectrum; auto: full where cheap, else 20, 5 for
    images of over 4,096 numbers."""
    boundary: Literal["region", "pair"] | None = None
    """Of the class's region (default), or between it and the source class (paper preset)."""
    hvp: Literal["auto", "exact", "finite-difference", "smoothed"] | None = None
    """Hessian-vector product; auto: exact for smooth networks, else finite differences."""
    step: float | None = None
    """Step of finite differences, in image units."""
    step_distances: float | None = None
    """The step as a multiple of the median distance of a class's boundary points: beyond 1 it is
    coarser than the boundary's distance; default for images of over 4,096 numbers: 0.3."""
    beta: float | None = None
    """Sharpness of the smoothed network."""
    tolerance: float | None = None
    """Relative residual at which an eigenpair counts as converged."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `Curvature` means for one network; the seed stands in the settings too.

    Attributes:
        classes: by number.
        settings: of every class.
    """

    classes: tuple[int, ...]
    settings: CurvatureSettings = CurvatureSettings()  # noqa: RUF009 (frozen)


def resolve(s: Curvature, net: Classifier) -> Measured:
    """Classes as numbers, and the preset with the settings that were given."""
    named = ("count", "boundary", "hvp", "step", "step_distances", "beta", "tolerance")
    given: dict[str, Any] = {n: getattr(s, n) for n in named if getattr(s, n) is not None}
    given["pairs"] = s.pairs
    large = net.dimension > LARGE_IMAGE
    if s.pairs == "auto":
        affordable = _FULL_GPU if net.device.type == "cuda" else _FULL_CPU
        most = _FEW[2] if large else _PAIRS
        given["pairs"] = None if net.dimension <= affordable else most
    if large and s.preset != "paper":
        given.setdefault("count", _FEW[1])
        if s.step is None and s.hvp in (None, "auto", "finite-difference"):
            given.setdefault("step_distances", _STEP_DISTANCES)
    automatic = "default" if large or net.dimension <= _SMALL else "paper"
    if (automatic if s.preset == "auto" else s.preset) == "paper":
        if s.hvp not in (None, "finite-difference"):
            given["step"] = s.step
        settings = ga.experiments.paper_settings(net, **given)
    else:
        settings = CurvatureSettings(**given)
    few = s.classes == _FIRST and net.num_classes < len(_FIRST)
    classes = ga.experiments.class_numbers(net, () if few else s.classes)
    if large and not s.classes:
        classes = classes[:: -(-len(classes) // _FEW[0])]
    return Measured(classes=tuple(classes), settings=settings.fitted(net.dimension))


def curvature(run: Run, s: Measured, images: ga.ImageSet) -> xr.Dataset:
    """Class after class, then how far two halves of the points agree."""
    with warnings.catch_warnings():
        # The line of each class tells how many pairs converged, and the file each residual.
        warnings.simplefilter("ignore", UnconvergedWarning)
        return ga.experiments.curvature(
            run.net,
            images,
            s.classes,
            dataclasses.replace(s.settings, seed=run.seed),
            memory=run.memory,
            tell=functools.partial(_tell_class, run.say),
            keep=run.keep,
            **run.pace,
        )


def _tell_class(say: Any, ds: xr.Dataset, name: str) -> None:
    """One line a class."""
    used, tried = int(ds["points_used"][0]), int(ds["points_tried"][0])
    line = f"class {name}: {used} of {tried} boundary points"
    if third := int(ds["points_third"][0]):
        line += f" ({third} with a third class on top)"
    if used < 2:
        say(f"{line}: skipped, at least 2 are needed")
        return
    values = ds["hessian_value"].to_numpy()[0]
    if not values.any():
        say(f"{line}, all curvatures 0, {float(ds['wall_time'][0]):.1f} s")
        return
    doubt = ga.experiments.class_doubt(ds)
    least, middle, most = ds["hessian_residual_range"].to_numpy()[0]
    shares = ds["hessian_sign_share"].isel(extreme=0).to_numpy()[0]
    parts = [
        f"{line}, curvatures {values[0]:.3g} to {values[-1]:.3g}",
        f"{int(ds['hessian_converged'].sum())} of {len(values)} pairs converged",
        f"residuals {least:.2g} to {most:.2g}, median {middle:.2g}",
        f"sign shared by {100 * shares[0]:.0f} % and {100 * shares[1]:.0f} % of the points",
        f"asymmetry {float(ds['hessian_asymmetry'][0]):.1g}",
        *filter(None, [doubt.words, ga.experiments.cancellation(ds)]),
        f"{float(ds['wall_time'][0]):.1f} s",
    ]
    say(", ".join(parts) + (f" ({ds.attrs['note']})" if ds["fallback"][0] else ""))


def work(case: Case) -> Work:
    """The walks of every class, then products: two operators, two halves, and a sweep of steps."""
    s, d, classes = case.settings.settings, case.net.dimension, len(case.settings.classes)
    n = min(s.count, case.count["images"])
    differs = s.hvp == "finite-difference" or (s.hvp == "auto" and case.net.is_piecewise_linear)
    how = (s.hvp, s.step, s.beta, n)
    hessian, shape = Product(*how), Product(*how, shape=True)
    pairs = d if s.pairs is None else 2 * s.pairs
    solved, half = (_products(k, d, differs) for k in (pairs, 2 * max(s.half_dimensions)))
    density = 0 if s.pairs is None or differs else s.density_probes * s.density_steps
    swept = len(s.sweep_factors) * (2 * s.extremes + s.sweep_draws)
    extremes = min(4, pairs) + 2 * s.extremes
    end: End = s.position if isinstance(s.position, float) else "refine"
    one = Work(
        {
            Walk(s.deepfool, s.boundary, end): n,
            hessian: n * (solved + half + density + extremes),
            shape: n * (solved + extremes),
            Product("finite-difference", points=n): n * swept,
            Product(*how, setup=True): 2 * n,
        },
        flops=2 * _solving(solved, d) + 2 * _solving(half, d),
    )
    sizes = {"class": classes, "pair": pairs, "extreme": s.extremes, "point": n, "bound": 2}
    sizes |= {"half_dimension": len(s.half_dimensions), "angle": max(s.half_dimensions)}
    sizes |= {"step": len(s.sweep_factors), "draw": s.sweep_draws, "random": s.random_draws}
    return replace(
        classes * one,
        memory=16 * d * max(solved, half) + (8 * n * case.image_bytes if differs else 0),
        sizes=sizes | {"end": 2, "statistic": 3, "grid": DENSITY_POINTS},
        types={"hessian_converged": 1, "shape_converged": 1},
        without=() if s.pairs else tuple(DENSITY),
    )


def _products(pairs: int, d: int, differs: bool) -> int:
    """Hessian products for eigenpairs in R^d: about as many as Lanczos takes, and to measure them.

    Differences across kinks fill the Krylov space that they are allowed.
    """
    if differs:
        return min(d, max(500, 25 * pairs)) + pairs
    return d if 4 * pairs > d and d <= _FULL_GPU else min(d, 20 + 2 * pairs)


def _solving(products: int, d: int) -> float:
    """Operations of a solve beside its products: keeping vectors orthogonal, and Ritz pairs."""
    return 8.0 * d * products**2 + 100.0 * products**3


def tell(ds: xr.Dataset) -> str:
    """How far the leading directions of two halves of the boundary points agree."""
    if not ds["hessian_value"].notnull().any():
        return f"no class had two boundary points. {NO_BOUNDARY}"
    if not ds["hessian_value"].where(ds["hessian_value"].notnull(), 0).any():
        return "every curvature is 0: the boundary is flat, and no direction leads"
    lines = []
    for d in ds["half_dimension"].to_numpy():
        at = {"half_dimension": d}
        positive, negative = (
            float(np.degrees(ds["half_angle"].sel(at).sel(end=end).median()))
            for end in ("positive", "negative")
        )
        if np.isnan([positive, negative]).any():
            continue
        random = float(np.degrees(ds["random_angle"].sel(at).median()))
        lines.append(
            f"{d} leading direction{'s' * bool(d > 1)} of two halves, median angle: positive "
            f"{positive:.0f}°, negative {negative:.0f}°, random {random:.0f}°"
        )
    few = "points and pairs are too few to compare the leading directions of two halves"
    return "\n".join(lines or [few])


CURVATURE = (
    Experiment(
        name="curvature",
        version=2,  # the median distance is the middle of two
        divided="classes, or points",
        settings=Curvature,
        compute=curvature,
        resolve=resolve,
        images={"images": Sample("train", labels=True)},
        work=work,
        quick={"classes": _FIRST, "count": 20, "pairs": 3},
        quick_large={"classes": _FIRST[:2], "count": 2, "pairs": 2},
        tell=tell,
        figures={
            "curvature_profile": Drawing(
                ga.plotting.curvature_profile,
                "The eigenvalues computed of each class's mean Hessian (left) and mean shape "
                "operator (right), most positive first, as averages over boundary points. "
                "The boundary curves along the few directions at both ends and is nearly "
                "flat along the long middle, which may be left out.",
            ),
            "curvature_directions": Drawing(
                ga.plotting.curvature_directions,
                "The directions along which each class's boundary curves most, as images in "
                "their own grey scales, with the eigenvalue below. Positive: from the boundary "
                "a step either way leads into the class; negative: out of it.",
            ),
            "sharedness": Drawing(
                ga.plotting.sharedness,
                "Whether different images agree on the curved directions. Left and middle: "
                "principal angles between the directions found from two halves of the "
                "points; below the grey band of random subspaces they agree. Right: share "
                "of single points whose curvature has the sign of the mean.",
            ),
            "scale_sweep": Drawing(
                ga.plotting.scale_sweep,
                "Curvature along the leading directions against the step h with which it is "
                "measured. Level curves mean the same curvature at all scales; right of the "
                "dashed line, the median distance to the boundary, a step is coarser than "
                "the boundary's distance. Grey: random directions.",
            ),
            "spectral_density": Drawing(
                ga.plotting.spectral_density,
                "Density of all eigenvalues, estimated with random probes (stochastic "
                "Lanczos quadrature), which large images need; ticks are "
                "eigenvalues that were computed. A sharp peak at zero means that most "
                "directions are flat.",
                variable="density",
            ),
        },
    ),
)
