"""What the result of the curvature experiment holds, and how it was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

from geomadv.classifier import Classifier
from geomadv.curvature.choice import Hvp
from geomadv.errors import InputError
from geomadv.labels import IMAGE
from geomadv.perturbations import DeepFoolSettings

# Codes of the variable `kind`, as CF flag values.
KINDS = ("exact", "finite-difference", "smoothed")
ENDS = ("positive", "negative")
OPERATORS = ("hessian", "shape")
STATISTICS = ("min", "median", "max")

_HESSIAN = "score units / image units^2"
# Grid on which the spectral density is given.
DENSITY_POINTS = 500
_UNITS = {"hessian": _HESSIAN, "shape": "1 / image units"}
_NAMES = {"hessian": "mean boundary Hessian", "shape": "mean shape operator"}


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


def paper_step(net: Classifier) -> float:
    """Step of the paper's finite difference, 10 sqrt(D) (max - min) / 512, image units.

    From the released code of "With Friends Like These" (Jetley, Lord and Torr, 2018).
    """
    low, high = net.bounds
    return 10 * math.sqrt(net.dimension) * (high - low) / 512


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
    variables = {}
    table = _table(net) | (_density_table() if settings.pairs is not None else {})
    for name, (dims, dtype, long_name, units) in table.items():
        shape = [sizes[d] for d in ("class", *dims)]
        empty = np.nan if np.dtype(dtype).kind == "f" else 0
        labels = {"long_name": long_name, "units": units}
        variables[name] = (("class", *dims), np.full(shape, empty, dtype=dtype), labels)
    ds = xr.Dataset(variables)
    ds["kind"].attrs |= {
        "flag_values": np.arange(-1, 3),
        "flag_meanings": "none " + " ".join(KINDS),
    }
    ds["kind"][:] = -1
    ds.coords["end"] = list(ENDS)
    ds.coords["statistic"] = list(STATISTICS)
    ds.coords["point"] = np.arange(settings.count)
    ds.coords["bound"] = [0.025, 0.975]
    ds.coords["half_dimension"] = list(settings.half_dimensions)
    ds.coords["step"] = paper_step(net) * np.array(settings.sweep_factors)
    ds["step"].attrs = {"long_name": "step h of the finite difference", "units": "image units"}
    ds["statistic"].attrs = {"long_name": "statistic over the pairs", "units": "1"}
    ds["point"].attrs = {"long_name": "number of the boundary point of its class", "units": "1"}
    ds["bound"].attrs = {"long_name": "quantile over resamplings of the points", "units": "1"}
    ds["half_dimension"].attrs = {"long_name": "leading directions compared", "units": "1"}
    return ds


def _density_table() -> dict[str, tuple[tuple[str, ...], Any, str, str]]:
    """Further variables where only the ends of the spectrum are computed."""
    inverse = "image units^2 / score units"
    return {
        "density_value": (("grid",), float, "eigenvalue at which the density is given", _HESSIAN),
        "density": (("grid",), float, "density of the eigenvalues of the mean Hessian", inverse),
        "density_spread": (("grid",), float, "standard deviation over probes", inverse),
    }


def _table(net: Classifier) -> dict[str, tuple[tuple[str, ...], Any, str, str]]:
    """Per variable: dimensions after class, type, long name, units."""
    single = torch.empty(0, dtype=net.dtype).numpy().dtype
    angle = "principal angle between the leading directions of"
    table: dict[str, tuple[tuple[str, ...], Any, str, str]] = {
        "target": ((), np.int64, "class whose boundaries are measured", "1"),
        "points_tried": ((), np.int64, "images that DeepFool started from", "1"),
        "points_used": ((), np.int64, "boundary points that survived", "1"),
        "points_third": ((), np.int64, "of these, points where a third class is on top", "1"),
        "median_distance": ((), float, "median distance of the points to images", "image units"),
        "kind": ((), np.int8, "kind of Hessian-vector product", "1"),
        "hvp_step": ((), float, "step of the finite difference; NaN if none", "image units"),
        "step_distances": (
            (),
            float,
            "step of the finite difference over the median distance; NaN if none",
            "1",
        ),
        "beta": (
            (),
            float,
            "sharpness of the smoothed network; NaN if none",
            "1 / activation units",
        ),
        "fallback": ((), np.bool_, "the product fell back to another method", "1"),
        "wall_time": ((), float, "duration", "s"),
        "half_angle": (
            ("end", "half_dimension", "angle"),
            float,
            f"{angle} the mean Hessians of two halves of the points",
            "radian",
        ),
        "sweep": (
            ("step", "end", "extreme"),
            float,
            "v^T H_h v by finite difference at step h, v extreme directions of the mean Hessian",
            _HESSIAN,
        ),
        "sweep_random": (
            ("step", "draw"),
            float,
            "v^T H_h v by finite difference at step h, v uniform random directions",
            _HESSIAN,
        ),
    }
    for name in OPERATORS:
        table |= _operator_table(name, single)
    return table


def _operator_table(name: str, single: Any) -> dict[str, tuple[tuple[str, ...], Any, str, str]]:
    """Variables of one operator; those per extreme direction keep the directions fixed."""
    what, units = _NAMES[name], _UNITS[name]
    extreme = ("end", "extreme")
    directions = "v the extreme directions"
    return {
        f"{name}_value": (("pair",), float, f"eigenvalues of the {what}", units),
        f"{name}_direction": (("pair", *IMAGE), single, f"eigenvectors of the {what}", "1"),
        f"{name}_residual": (("pair",), float, "||A v - value v|| / max |value|", "1"),
        f"{name}_residual_range": (
            ("statistic",),
            float,
            "||A v - value v|| / max |value| over the pairs; above 1 it is no eigenvector",
            "1",
        ),
        f"{name}_converged": (("pair",), np.bool_, "residual within the tolerance", "1"),
        f"{name}_products": ((), np.int64, f"products with the {what}", "1"),
        f"{name}_asymmetry": (
            (),
            float,
            "||A - A^T|| / (2 ||A||), Frobenius, times the coherence of the points",
            "1",
        ),
        f"{name}_coherence": (
            (),
            float,
            f"largest |mean v^T A_i v| over largest mean |v^T A_i v|, {directions}",
            "1",
        ),
        f"{name}_point_value": (
            (*extreme, "point"),
            float,
            f"v^T A_i v at boundary point i, {directions}; NaN beyond the points used",
            units,
        ),
        f"{name}_sign_share": (
            extreme,
            float,
            f"share of the points whose v^T A_i v has the sign of the mean, {directions}",
            "1",
        ),
        f"{name}_interval": (
            (*extreme, "bound"),
            float,
            f"bootstrap interval of v^T A v over points, {directions} held fixed",
            units,
        ),
    }
