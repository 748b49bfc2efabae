"""What the boundary looks like in planes: normal sections, and regions around images."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import NO_BOUNDARY, InputError
from geomadv.experiments.planes.decision_plane import MOST_STEPS
from geomadv.experiments.planes.second import CANDIDATES, PRODUCTS, Second
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.lines import FAMILIES
from geomadv.pipeline.settings import LARGE_IMAGE, Bound, Count, CountOrAll
from geomadv.pipeline.work import FORWARD, GRADIENT, Case, Product, Unit, Walk, Work

# Passes for a root, with one for what is on top there: 6.6 by measurement on the digits.
_ROOT = 6.6

# Reach of a section in median boundary distances.
_DISTANCES = 2.0

# Gradients by the point to measure, at up to eight, whether exact products hold all curvature.
_VERDICT, _MEASURED = 90, 8

# Planes of large images: how many images, and steps on either side.
_FEW = (2, 20)


@dataclass(frozen=True, kw_only=True)
class NormalSection:
    """The boundary in planes of its normals and of directions, beside its quadratic model."""

    count: Count = 30
    """Test images whose boundary points are taken, in every class; all if there are fewer."""
    directions: Count = 1
    """Directions per class and family."""
    steps: Count = 8
    """Distances s on either side of the point, denser near it: as the squares of 1, 2, ..."""
    reach: Annotated[float | None, Bound(0, above=True)] = None
    """Largest s, and largest offset looked for, in image units; default: twice the median distance
    of the curvature's boundary points."""
    boundary: Literal["pair", "region"] = "pair"
    """Between the two classes that meet at the point, whatever others do; or of the class's
    region."""
    step_distances: Annotated[float | None, Bound(0, above=True)] = None
    """Step of finite differences as a multiple of the class's median boundary distance; default:
    the step of the curvature result."""


@dataclass(frozen=True, kw_only=True)
class DecisionPlane:
    """Predicted classes and margins in planes through an image and its boundary point."""

    count: CountOrAll = None
    """Test images; default: 4, 2 for images of over 4,096 numbers."""
    second: tuple[Second, ...] = ("runner-up", "positive", "random")
    """What the second axis is made of: DeepFool's direction to the second-nearest class, the most
    positive or negative curvature at the point, a random direction, another image."""
    steps: Annotated[int | None, Bound(1, most=MOST_STEPS)] = None
    """Grid steps on either side of the image; default: 30, 20 for images of over 4,096 numbers."""
    reach: Annotated[float, Bound(0, above=True)] = 3.0
    """Half the side of the plane in distances of the boundary point; farther where the second axis
    leads beyond."""


def normal_section(
    run: Run, s: NormalSection, images: ga.ImageSet, curvature: xr.Dataset
) -> xr.Dataset:
    """All classes along their positive, negative, flat and random directions."""
    reach = s.reach or _DISTANCES * float(curvature["median_distance"].median())
    shares = np.linspace(-1, 1, 2 * s.steps + 1)
    return ga.experiments.class_normal_section(
        run.net,
        images,
        curvature,
        reach * np.sign(shares) * shares**2,
        count=s.directions,
        step_distances=s.step_distances,
        boundary=s.boundary,
        seed=run.seed,
        keep=run.keep,
        **run.pace,
    )


def section_work(case: Case) -> Work:
    """Walks to the points of every class, two products for each direction, and the roots."""
    s, n = case.settings, case.count["images"]
    measured = case.inputs["curvature"].settings
    classes, c = len(measured.classes), measured.settings
    lines = FAMILIES * s.directions
    how = (c.hvp, c.step, c.beta, n)
    scales = 2 * s.steps + 1
    units: dict[Unit, float] = {
        Walk(ga.DeepFoolSettings(), "region", "refine"): n,
        Product(*how): n * lines,
        Product(*how, shape=True): n * lines,
        Product(*how, setup=True): 2 * n,
        FORWARD: _ROOT * n * lines * scales,
    }
    if c.hvp in ("auto", "exact") and not case.net.is_piecewise_linear:
        units[GRADIENT] = _VERDICT * min(n, _MEASURED)
    sizes = {"sample": n, "class": classes, "family": FAMILIES, "direction": s.directions}
    return replace(
        classes * Work(units),
        memory=2**24 + 100 * classes * n * lines * scales,
        sizes=sizes | {"scale": scales, "model": 2, "quantile": 3},
        types={"third": 1, "converged": 1},
    )


def tell_section(ds: xr.Dataset) -> str:
    """How far the quadratic model holds, what was not found, and where a third class is on top."""
    reach = float(ds["scale"].max())
    lines = [f"s to ±{reach:.3g} image units; the model is within 20 % of the boundary, medians,"]
    for family in ds["family"].to_numpy():
        one = ds.sel(family=family).isel(direction=0)
        known = one["normal_share"].notnull()
        radii = {
            str(model): np.sort(one["radius"].sel(model=model).to_numpy()[known.to_numpy()])
            for model in one["model"].to_numpy()
        }
        points = int(known.sum())
        if points == 0:
            lines.append(f"{family}: no boundary point")
            continue
        shape, hessian = (radii[name][(points - 1) // 2] for name in ("shape", "hessian"))
        third = float(one["third"].where(one["offset"].notnull()).mean())
        lines.append(
            f"{family}: up to {_distance(shape, reach)} (S), {_distance(hessian, reach)} (H) at "
            f"{points} points; {int(one['missing'].sum())} of {points * ds.sizes['scale']} offsets "
            f"not found, a third class on top at {100 * third:.0f} %"
        )
    return "\n".join(lines)


def _distance(radius: float, reach: float) -> str:
    return f"{radius:.2g}" if np.isfinite(radius) else f"more than {reach:.2g}"


def resolve_planes(s: DecisionPlane, net: Classifier) -> DecisionPlane:
    """The numbers of images and steps; raises `InputError` for directions named twice or none."""
    if not s.second or len({*s.second}) < len(s.second):
        raise InputError(
            f"second={[*s.second]}: expected one or more directions, each once; each makes a plane "
            "of its own."
        )
    large = net.dimension > LARGE_IMAGE
    count = (_FEW[0] if large else 4) if s.count is None else s.count
    steps = (_FEW[1] if large else 30) if s.steps is None else s.steps
    return replace(s, count=count, steps=steps)


def decision_plane(run: Run, s: DecisionPlane, images: ga.ImageSet) -> xr.Dataset:
    """Image after image."""
    return ga.experiments.decision_plane(
        run.net,
        images,
        s.second,
        steps=int(s.steps or 30),
        reach=s.reach,
        seed=run.seed,
        keep=run.keep,
        **run.pace,
    )


def plane_work(case: Case) -> Work:
    """A walk for each image, what the second directions need, and every point of the grids."""
    s, n, d = case.settings, case.count["images"], case.net.dimension
    planes, side = len(s.second), 2 * s.steps + 1
    units: dict[Unit, float] = {FORWARD: n * (2 + planes * side**2), Walk(end="refine"): n}
    if "runner-up" in s.second:
        others = max(0, min(case.net.num_classes - 2, CANDIDATES - 1))
        units[Walk(ga.DeepFoolSettings(), "region", "refine")] = n * others
    if {"positive", "negative"} & {*s.second}:
        one = Product(points=1, shape=True)
        units[one] = n * min(PRODUCTS, d)
        units[replace(one, setup=True)] = 2 * n
        if not case.net.is_piecewise_linear:
            units[GRADIENT] = n * _VERDICT
    return Work(
        units,
        flops=100.0 * n * d * PRODUCTS,
        memory=16 * d * PRODUCTS + 16 * n * planes * side**2,
        sizes={
            "sample": n, "second": planes, "vertical": side, "horizontal": side, "axis": 2,
            "label": case.net.num_classes,
        },
        types={"prediction": 0.1, "margin": 4},
    )  # fmt: skip


def tell_planes(ds: xr.Dataset) -> str:
    """How many planes there are, how many classes each shows, and how much its own class fills."""
    grid = ("vertical", "horizontal")
    if not ds["margin"].notnull().any():
        return f"{ds.sizes['sample']} images, no plane. {NO_BOUNDARY}"
    half = ds["coordinate"].max("horizontal")
    words = f"half sides {float(half.min()):.3g} to {float(half.max()):.3g} image units"
    lines = [f"{ds.sizes['sample']} images, {words}"]
    for name in ds["second"].to_numpy():
        one = ds.sel(second=name)
        known = one["prediction"].to_numpy()[one["margin"].notnull().any(grid).to_numpy()]
        if len(known) == 0:
            lines.append(f"{name}: no plane")
            continue
        classes = [len(np.unique(plane[plane >= 0])) for plane in known]
        own = (one["prediction"] == ds["source"]).where(one["margin"].notnull()).mean(grid)
        lines.append(
            f"{name}: {len(known)} planes of {min(classes)} to {max(classes)} classes, the image's "
            f"own fills {100 * float(own.median()):.0f} % (median)"
        )
    return "\n".join(lines)


PLANES = (
    Experiment(
        name="normal_section",
        divided="classes",
        settings=NormalSection,
        compute=normal_section,
        images={"images": Sample("test", "count")},
        inputs=("curvature",),
        work=section_work,
        quick={"count": 10, "steps": 4},
        quick_large={"count": 3},
        tell=tell_section,
        headline=1,
        figures={
            "normal_section": Drawing(
                ga.plotting.normal_section,
                "The boundary cut along the normal and one direction s, beside the parabola and "
                "the circle that its curvature promises: at the point of median curvature, at "
                "all points, and below, at which share of the points the promise holds to a "
                "fifth up to |s|. Curves that end early mean that curvature says little about "
                "the boundary further off.",
            )
        },
    ),
    Experiment(
        name="decision_plane",
        divided="images",
        settings=DecisionPlane,
        compute=decision_plane,
        resolve=resolve_planes,
        images={"images": Sample("test", "count")},
        work=plane_work,
        quick={"count": 2, "second": ("runner-up", "random"), "steps": 10},
        tell=tell_planes,
        headline=1,
        figures={
            "decision_plane": Drawing(
                ga.plotting.decision_plane,
                "Which class the network sees in planes through an image (a column each) that "
                "hold the boundary point that DeepFool finds and a second direction (a row each). "
                "Thin lines join points of equal margin, best minus second-best score. Large, "
                "smooth regions in random rows beside narrow ones elsewhere show that only some "
                "directions are near a boundary.",
            )
        },
    ),
)
