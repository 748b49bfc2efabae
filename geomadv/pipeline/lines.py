"""What happens along the most curved and the flattest directions of every class."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import Count, Draws
from geomadv.pipeline.work import FORWARD, Case, Work

# Doublings of the boundary distance until the directions lead into their classes: 4 by
# measurement on the digits, at most 10.
_PILOTS = 4

# Positive, negative, flat and random directions.
FAMILIES = 4


@dataclass(frozen=True, kw_only=True)
class ScoreCurves:
    """Response curves of single test images along each class's curved and flat directions."""

    count: Count = 200
    """Test images; all if there are fewer."""
    directions: Count = 1
    """Directions per class and family."""
    steps: int = 20
    """Scales on either side of zero, at least 3."""
    reach: float | None = None
    """Largest scale in image units; default: where the directions have led into their classes."""
    draws: Draws = 1000
    """Bootstrap resamplings of the images, for the intervals of the shares of variance."""


@dataclass(frozen=True, kw_only=True)
class DirectionSweep:
    """Class scores of test images along each class's most curved and flattest directions."""

    count: Count = 300
    """Test images; all if there are fewer."""
    directions: Count = 2
    """Directions per class and family."""
    steps: int = 15
    """Scales on either side of zero."""
    reach: float | None = None
    """Largest scale in image units; default: where the directions have led into their classes."""


def _check(least: int) -> Any:
    def check(s: ScoreCurves | DirectionSweep, net: Classifier) -> ScoreCurves | DirectionSweep:
        """The settings; raises `InputError` if they give no scales on either side of zero."""
        del net
        if s.reach is not None and not 0 < s.reach < math.inf:
            raise InputError(
                f"reach={s.reach:g}: expected a finite distance > 0 in image units; leave it out "
                "to go as far as the directions lead into their classes."
            )
        if s.steps < least:
            raise InputError(
                f"steps={s.steps}: expected at least {least} scales on either side of zero."
            )
        return s

    return check


def score_curves(
    run: Run, s: ScoreCurves, images: ga.ImageSet, curvature: xr.Dataset
) -> xr.Dataset:
    """All classes along their positive, negative and flat directions."""
    curved, scales = _lines(run, s, images, curvature)
    return ga.experiments.class_score_curves(
        run.net, images, curved, scales, draws=s.draws, seed=run.seed, keep=run.keep, **run.pace
    )


def direction_sweep(
    run: Run, s: DirectionSweep, images: ga.ImageSet, curvature: xr.Dataset
) -> xr.Dataset:
    """All classes along their positive, negative and flat directions."""
    curved, scales = _lines(run, s, images, curvature)
    return ga.experiments.class_direction_sweep(
        run.net, images, curved, scales, keep=run.keep, **run.pace
    )


def _lines(
    run: Run, s: ScoreCurves | DirectionSweep, images: ga.ImageSet, curvature: xr.Dataset
) -> tuple[Any, Any]:
    """The directions of all classes, and the scales to visit."""
    curved = ga.experiments.curved_directions(curvature, s.directions, run.seed)
    reach = s.reach
    if reach is None:
        size = run.pace["batch_size"]
        reach = ga.experiments.sweep_reach(run.net, images, curved, batch_size=size)
    return curved, np.linspace(-reach, reach, 2 * s.steps + 1)


def curves_work(case: Case) -> Work:
    """Every image along every direction, and resampled images for the intervals."""
    swept, s = sweep_work(case), case.settings
    points = (
        swept.sizes["class"] * FAMILIES * s.directions * case.count["images"] * (2 * s.steps + 1)
    )
    return replace(
        swept,
        flops=4.0 * s.draws * points,
        sizes={**swept.sizes, "example": 2, "step": 7, "side": 2, "bound": 2},
        types={"score": 4, "prediction": 2, "example_prediction": 2},
    )


def sweep_work(case: Case) -> Work:
    """Every image along the directions of four families, after pilots that find the reach."""
    s, n = case.settings, case.count["images"]
    classes = len(case.inputs["curvature"].settings.classes)
    scales = 2 * s.steps + 1
    pilot = _PILOTS * 3 * min(n, 100) if s.reach is None else 0
    sizes = {"sample": n, "class": classes, "family": FAMILIES, "direction": s.directions}
    return Work(
        {FORWARD: classes * (FAMILIES * s.directions * scales * n + n + pilot)},
        memory=2**27 + 24 * classes * FAMILIES * s.directions * scales * n,
        sizes=sizes
        | {"scale": scales, "label": case.net.num_classes}
        | {"population": 3, "quantile": 3},
        types={"prediction": 2},
    )


def _doubt(ds: xr.Dataset, family: str) -> str:
    """What is to be doubted of a sweep's leading directions of a family, behind their name."""
    leading = ds.sel(family=[family]).isel(direction=[0])
    return ga.experiments.bracketed(ga.experiments.line_doubt(leading))


def tell_curves(ds: xr.Dataset) -> str:
    """Medians over classes of the measures of the curves' shape."""
    lines = [f"scales to ±{float(ds['scale'].max()):.3g} image units; median over classes,"]
    shown = ("symmetry_median", "monotonicity_median", "separability", "shape_share")
    for family in ds["family"].to_numpy():
        one = ds.sel(family=family).isel(direction=0)
        words = [
            f"{name.removesuffix('_median').replace('_', ' ')} {float(one[name].median()):.2f}"
            for name in shown
        ]
        lines.append(f"leading {family} direction{_doubt(ds, family)}: {', '.join(words)}")
    return "\n".join(lines)


def tell_sweep(ds: xr.Dataset) -> str:
    """How many images enter the class along its directions, and how many of its own stay."""
    lines = [f"scales to ±{float(ds['scale'].max()):.3g} image units; median over classes,"]
    for family in ds["family"].to_numpy():
        one = ds.sel(family=family).isel(direction=0)
        enter = 100 * float(one["transition"].max("scale").median())
        stay = 100 * float(one["retention"].min("scale").median())
        own = "none is of the class" if np.isnan(stay) else f"at least {stay:.0f} % of its own stay"
        lines.append(
            f"leading {family} direction{_doubt(ds, family)}: up to {enter:.0f} % of other images "
            f"enter the class, {own}"
        )
    return "\n".join(lines)


_LINES: dict[str, Any] = {
    "divided": "classes",
    "images": {"images": Sample("test", "count")},
    "inputs": ("curvature",),
    "version": 3,  # with random directions; pilots from all over the images
}

LINES = (
    Experiment(
        name="score_curves",
        settings=ScoreCurves,
        compute=score_curves,
        resolve=_check(3),
        work=curves_work,
        quick={"count": 30, "steps": 5, "draws": 100},
        tell=tell_curves,
        headline=1,
        figures={
            "score_curves": Drawing(
                ga.plotting.score_curves,
                "Scores of one class while images move by s along its most positively and "
                "most negatively curved direction: a thin line per image, two examples in "
                "colour, with pictures and predicted labels below.",
            ),
            "score_curve_measures": Drawing(
                ga.plotting.score_curve_measures,
                "The curves in numbers, a dot per class and family of directions, with 95 % "
                "intervals: symmetry about the best centre, monotonicity on either side of "
                "it, the variance that one common curve and an offset per image explain, "
                "and how much of that is the curve's shape.",
            ),
        },
        **_LINES,
    ),
    Experiment(
        name="direction_sweep",
        settings=DirectionSweep,
        compute=direction_sweep,
        resolve=_check(1),
        work=sweep_work,
        quick={"count": 30, "steps": 5},
        tell=tell_sweep,
        headline=1,
        figures={
            "direction_sweep": Drawing(
                ga.plotting.direction_sweep,
                "Images moved by s along directions of one class. Left: median scores with "
                "30th to 70th percentile; right: share of other images that enter the class "
                "(transition), their median softmax, and share of its own images that stay "
                "(retention). Curves that rise at both ends mean that either way leads into "
                "the class.",
            ),
            "direction_sweep_classes": Drawing(
                ga.plotting.direction_sweep_classes,
                "The same shares for every class, a column each, along its leading "
                "direction of each kind, which is drawn above. Rows that look like the last "
                "one, random directions, do nothing special.",
            ),
        },
        **_LINES,
    ),
)
