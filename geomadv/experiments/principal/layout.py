"""What the result of the curvature experiment holds, and how it was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from geomadv.classifier import Classifier
from geomadv.curvature.choice import Hvp, paper_step
from geomadv.curvature.principal import Family
from geomadv.errors import InputError
from geomadv.labels import IMAGE, Schema, described
from geomadv.perturbations import DeepFoolSettings

# Codes of the variable `kind`, as CF flag values.
KINDS = ("exact", "finite-difference", "smoothed")
ENDS: tuple[Family, ...] = ("positive", "negative")
OPERATORS = ("hessian", "shape")
STATISTICS = ("min", "median", "max")

HESSIAN_UNITS, _PER_HESSIAN = "score units / image units^2", "image units^2 / score units"
# Grid on which the spectral density is given.
DENSITY_POINTS = 500

_CLASS, _EXTREME, _PAIR = ("class",), ("class", "end", "extreme"), ("class", "pair")
_HALVES, _GRID, _STEP = ("half_dimension", "angle"), ("class", "grid"), ("class", "step")
_ANGLE = "principal angle between"
_LEADING = f"{_ANGLE} the leading directions of the mean Hessians of two halves of the points"
_OF_DIFFERENCE, _MEAN = "step of the finite difference", "extreme directions of the mean Hessian"
_SWEPT = "v^T H_h v by finite difference at step h, v"
_RESIDUAL, _FIXED = "||A v - value v|| / max |value|", "v the extreme directions"
_ASYMMETRY = "||A - A^T|| / (2 ||A||), Frobenius, times the coherence of the points"


def _operator_schema(name: str, what: str, units: str) -> Schema:
    """Variables of one operator; those per extreme direction keep the directions fixed."""
    signs = f"share of the points whose v^T A_i v has the sign of the mean, {_FIXED}"
    point = f"v^T A_i v at boundary point i, {_FIXED}; NaN beyond the points used"
    interval = f"bootstrap interval of v^T A v over points, {_FIXED} held fixed"
    coherence = f"largest |mean v^T A_i v| over largest mean |v^T A_i v|, {_FIXED}"
    above = f"{_RESIDUAL} over the pairs; above 1 it is no eigenvector"
    return {
        f"{name}_value": (_PAIR, f"eigenvalues of the {what}", units),
        f"{name}_direction": ((*_PAIR, *IMAGE), f"eigenvectors of the {what}", "1"),
        f"{name}_residual": (_PAIR, _RESIDUAL, "1"),
        f"{name}_residual_range": ((*_CLASS, "statistic"), above, "1"),
        f"{name}_converged": (_PAIR, "residual within the tolerance", "1"),
        f"{name}_products": (_CLASS, f"products with the {what}", "1"),
        f"{name}_asymmetry": (_CLASS, _ASYMMETRY, "1"),
        f"{name}_coherence": (_CLASS, coherence, "1"),
        f"{name}_point_value": ((*_EXTREME, "point"), point, units),
        f"{name}_sign_share": (_EXTREME, signs, "1"),
        f"{name}_interval": ((*_EXTREME, "bound"), interval, units),
    }


# Of the ends of the spectrum; the full one has no density, nor does one class alone have what is
# random for all classes.
DENSITY: Schema = {
    "density_value": (_GRID, "eigenvalue at which the density is given", HESSIAN_UNITS),
    "density": (_GRID, "density of the eigenvalues of the mean Hessian", _PER_HESSIAN),
    "density_spread": (_GRID, "standard deviation over probes", _PER_HESSIAN),
}
_OF_ALL: Schema = {
    "class": (_CLASS, "class", "1"),
    "random_angle": (("random", *_HALVES), f"{_ANGLE} random subspaces", "radian"),
}
SCHEMA: Schema = {
    "target": (_CLASS, "class whose boundaries are measured", "1"),
    "points_tried": (_CLASS, "images that DeepFool started from", "1"),
    "points_used": (_CLASS, "boundary points that survived", "1"),
    "points_third": (_CLASS, "of these, points where a third class is on top", "1"),
    "median_distance": (_CLASS, "median distance of the points to images", "image units"),
    "kind": (_CLASS, "kind of Hessian-vector product", "1"),
    "hvp_step": (_CLASS, f"{_OF_DIFFERENCE}; NaN if none", "image units"),
    "step_distances": (_CLASS, f"{_OF_DIFFERENCE} over the median distance; NaN if none", "1"),
    "beta": (_CLASS, "sharpness of the smoothed network; NaN if none", "1 / activation units"),
    "fallback": (_CLASS, "the product fell back to another method", "1"),
    "wall_time": (_CLASS, "duration", "s"),
    "half_angle": ((*_CLASS, "end", *_HALVES), _LEADING, "radian"),
    "sweep": ((*_STEP, *_EXTREME[1:]), f"{_SWEPT} {_MEAN}", HESSIAN_UNITS),
    "sweep_random": ((*_STEP, "draw"), f"{_SWEPT} uniform random directions", HESSIAN_UNITS),
    **_operator_schema("hessian", "mean boundary Hessian", HESSIAN_UNITS),
    **_operator_schema("shape", "mean shape operator", "1 / image units"),
    "end": (("end",), "end of the spectrum", "1"),
    "statistic": (("statistic",), "statistic over the pairs", "1"),
    "point": (("point",), "number of the boundary point of its class", "1"),
    "bound": (("bound",), "quantile over resamplings of the points", "1"),
    "half_dimension": (("half_dimension",), "leading directions compared", "1"),
    "step": (("step",), "step h of the finite difference", "image units"),
    **DENSITY,
    **_OF_ALL,
}

# All others are float64, the eigenvectors of the network's precision.
_TYPES = {
    **dict.fromkeys(("target", "points_tried", "points_used", "points_third"), np.int64),
    **{f"{name}_products": np.int64 for name in OPERATORS},
    **{f"{name}_converged": np.bool_ for name in OPERATORS},
    "fallback": np.bool_,
    "kind": np.int8,
}


@dataclass(frozen=True, kw_only=True)
class CurvatureSettings:
    """How the curvature of the boundaries around a class is measured.

    The defaults take refined boundary points and the best product the network allows.

    Attributes:
        count: training images of other classes to start from.
        position: "refine", or the share of DeepFool's perturbation to go.
        boundary: "region": of the class's region, the paper's 1-vs-all; "pair": between the source
            class and it, as Algorithm 1 writes; a third class may be on top there.
        deepfool: how DeepFool walks.
        hvp: "auto", "exact", "finite-difference" or "smoothed".
        step: of the finite difference, image units; None: the library's choice.
        step_distances: the step as a multiple of the median distance of the class's boundary points
            to their images, instead of `step`; the result holds both.
        beta: sharpness of the smoothed network, 1 / activation units; None: the library's choice.
        pairs: eigenpairs at each end; None: the full spectrum.
        tolerance: largest relative residual of a converged eigenpair.
        half_dimensions: numbers d of leading directions whose span is compared between halves.
        extremes: directions at each end with bootstrap intervals and a scale sweep.
        draws: bootstrap resamplings.
        random_draws: pairs of random subspaces beside the halves.
        sweep_factors: steps of the scale sweep as multiples of `paper_step`.
        sweep_draws: random directions in the scale sweep.
        density_probes, density_steps: of the spectral density, which is estimated where the full
            spectrum is not computed.
        seed: of every random choice.
    """

    count: int = 200
    position: Literal["refine"] | float = "refine"
    boundary: Literal["region", "pair"] = "region"
    deepfool: DeepFoolSettings = DeepFoolSettings()  # noqa: RUF009 (frozen)
    hvp: Hvp = "auto"
    step: float | None = None
    step_distances: float | None = None
    beta: float | None = None
    pairs: int | None = None
    tolerance: float = 1e-4
    half_dimensions: tuple[int, ...] = (1, 2, 5, 10)
    extremes: int = 3
    draws: int = 1000
    random_draws: int = 10
    sweep_factors: tuple[float, ...] = tuple(10 ** (i / 2) for i in range(-4, 2))
    sweep_draws: int = 4
    density_probes: int = 2
    density_steps: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        wholes = ["count", "extremes", "draws", "random_draws", "sweep_draws"]
        wholes += ["density_probes", "density_steps"]
        small = [n for n in wholes if getattr(self, n) < 1]
        if small or (self.pairs is not None and self.pairs < 1):
            raise InputError(
                f"{', '.join(small or ['pairs'])}: expected at least 1, found "
                f"{', '.join(str(getattr(self, n)) for n in small or ['pairs'])}."
            )
        self._check_step()
        if not 0 < self.tolerance < 1:
            raise InputError(
                f"tolerance: expected a relative residual between 0 and 1, found {self.tolerance}."
            )
        if not self.half_dimensions or min(self.half_dimensions) < 1:
            raise InputError(
                f"half_dimensions={self.half_dimensions} must be whole numbers >= 1, at least one."
            )
        if not self.sweep_factors or not all(0 < f < math.inf for f in self.sweep_factors):
            raise InputError(f"sweep_factors={self.sweep_factors} must be positive, at least one.")

    def _check_step(self) -> None:
        if self.step_distances is None:
            return
        if self.step is not None:
            raise InputError(
                f"step={self.step:g}, step_distances={self.step_distances:g}: expected one of "
                "them. Leave out the other."
            )
        if not 0 < self.step_distances < math.inf:
            raise InputError(
                f"step_distances={self.step_distances}: expected a positive multiple of the median "
                "boundary distance, for example 0.5, or None."
            )
        if self.hvp not in ("auto", "finite-difference"):
            raise InputError(
                f"step_distances={self.step_distances:g} has no meaning with hvp={self.hvp!r}; it "
                "belongs to hvp='auto' or 'finite-difference'."
            )

    def with_step(self, distance: float) -> CurvatureSettings:
        """The same settings with the step in image units, for points at this median distance."""
        if self.step_distances is None or not 0 < distance < math.inf:
            return self
        return replace(self, step=self.step_distances * distance, step_distances=None)

    def fitted(self, dimension: int) -> CurvatureSettings:
        """The same settings with numbers of directions that D = `dimension` has room for."""
        full = self.pairs is None or 2 * self.pairs >= dimension
        half = max(1, dimension // 2)
        most = half if full else min(half, int(self.pairs or half))
        dims = tuple(d for d in self.half_dimensions if d <= half) or (1,)
        return replace(
            self,
            pairs=None if full else self.pairs,
            half_dimensions=dims,
            extremes=min(self.extremes, most),
        )


def paper_settings(net: Classifier, **changes: Any) -> CurvatureSettings:
    """Settings of the released code of "With Friends Like These" (Jetley, Lord and Torr, 2018).

    100 images a class, DeepFool of at most 5 steps with overshoot 0.05 towards the boundary with
    the source class, points at 0.8 of the perturbation, central difference with `paper_step`,
    tolerance 1e-5. The paper's D - 1 eigenpairs are what its solver gives at most; the full
    spectrum holds them and one more.
    """
    step = paper_step(net) if changes.get("step_distances") is None else None
    paper: dict[str, Any] = {
        "count": 100,
        "position": 0.8,
        "boundary": "pair",
        "deepfool": DeepFoolSettings(overshoot=0.05, max_iter=5),
        "hvp": "finite-difference",
        "step": step,
        "tolerance": 1e-5,
    }
    return CurvatureSettings(**{**paper, **changes})


def blank_curvature(net: Classifier, settings: CurvatureSettings) -> xr.Dataset:
    """The result of one class with nothing in it: NaN, 0 and False, with names, labels and units.

    It is what a class without usable boundary points keeps, and tells the layout of the file.
    """
    settings = settings.fitted(net.dimension)
    pairs = net.dimension if settings.pairs is None else 2 * settings.pairs
    sizes = {
        "class": 1,
        "pair": pairs,
        **dict(zip(IMAGE, net.input_shape, strict=True)),
        "end": 2,
        "extreme": settings.extremes,
        "statistic": len(STATISTICS),
        "point": settings.count,
        "bound": 2,
        "half_dimension": len(settings.half_dimensions),
        "angle": max(settings.half_dimensions),
        "step": len(settings.sweep_factors),
        "draw": settings.sweep_draws,
        "grid": DENSITY_POINTS,
    }
    coords = {
        "end": list(ENDS),
        "statistic": list(STATISTICS),
        "point": np.arange(settings.count),
        "bound": [0.025, 0.975],
        "half_dimension": list(settings.half_dimensions),
        "step": paper_step(net) * np.array(settings.sweep_factors),
    }
    left_out = {*_OF_ALL, *coords, *(() if settings.pairs is not None else DENSITY)}
    values: dict[str, Any] = {}
    for name in [name for name in SCHEMA if name not in left_out]:
        direction = name in ("hessian_direction", "shape_direction")
        dtype = (
            torch.empty(0, dtype=net.dtype).numpy().dtype if direction else _TYPES.get(name, float)
        )
        empty = np.nan if np.dtype(dtype).kind == "f" else 0
        values[name] = np.full([sizes[d] for d in SCHEMA[name][0]], empty, dtype=dtype)
    values["kind"][:] = -1
    ds = described(SCHEMA, values | coords)
    ds["kind"].attrs |= {
        "flag_values": np.arange(-1, 3),
        "flag_meanings": "none " + " ".join(KINDS),
    }
    return ds
