"""Predictions, boundary points, the spectrum of their normals, and what their span fools."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import h5py
import xarray as xr

import geomadv as ga
from geomadv.experiments.normals.boundary import stored_bytes
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import Bound, Count, Shares


@dataclass(frozen=True, kw_only=True)
class Train:
    """Loads the network, training it on first use, and stores what it predicts on test images."""

    count: int | None = None
    """Test images to predict; default: all."""


def train(run: Run, s: Train, images: ga.ImageSet) -> xr.Dataset:
    """Scores of the test images and the accuracy."""
    return ga.experiments.predictions(run.net, images, batch_size=run.pace["batch_size"])


def tell_train(ds: xr.Dataset) -> str:
    """The accuracy."""
    count = ds.sizes["sample"]
    return f"accuracy {100 * float(ds['correct'].mean()):.2f} % on {count} test images"


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Boundary points and normals of training images, by DeepFool."""

    count: int = 2000
    """Training images to start from; all if there are fewer."""
    fraction: float | None = None
    """Share of DeepFool's perturbation to go (paper preset: 0.8); default: onto the boundary."""
    nearest: bool = False
    """Slide on to the nearest boundary point."""
    overshoot: float = 0.02
    """DeepFool's overshoot."""
    max_iter: int = 50
    """DeepFool's most steps."""
    candidates: int = 10
    """Best-scoring classes that DeepFool considers."""
    points: bool = True
    """Keep the images, from which the points follow; no later experiment needs them."""


def boundary(run: Run, s: Boundary, images: ga.ImageSet) -> xr.Dataset:
    """One boundary point per image."""
    return ga.experiments.boundary(
        run.net,
        images,
        position="refine" if s.fraction is None else s.fraction,
        nearest=s.nearest,
        overshoot=s.overshoot,
        max_iter=s.max_iter,
        candidates=s.candidates,
        points=s.points,
        keep=run.keep,
        **run.pace,
    )


def boundary_bytes(images: Mapping[str, ga.ImageSet | None]) -> int:
    """Three image-sized arrays a point in parts, and the result."""
    starts = images["images"]
    if starts is None:
        return 0
    parts = 3 * 4 * math.prod(starts.shape) * len(starts)
    return parts + stored_bytes(len(starts), starts.shape)


def tell_boundary(ds: xr.Dataset) -> str:
    """How many points there are, and how far they lie."""
    distance = float(ds["distance"].where(ds["converged"]).median())
    return (
        f"{int(ds['converged'].sum())} of {ds.sizes['sample']} boundary points converged, "
        f"median distance {distance:.4g} image units"
    )


@dataclass(frozen=True, kw_only=True)
class NormalSvd:
    """Spectrum and leading directions of the boundary normals, beside a random baseline."""

    rank: Count = 100
    """Leading directions to keep; fewer where there are fewer normals or pixels."""
    baseline_draws: Count = 10
    """Random matrices behind the baseline's spread."""


@dataclass(frozen=True, kw_only=True)
class DirectionSvd(NormalSvd):
    """Spectrum and leading directions of the unit perturbations, beside a random baseline."""


def normal_svd(run: Run, s: NormalSvd, boundary: xr.Dataset) -> xr.Dataset:
    """Decomposes the normals, which are read from their file block by block."""
    return _svd(run, s, boundary, "normal")


def direction_svd(run: Run, s: DirectionSvd, boundary: xr.Dataset) -> xr.Dataset:
    """Decomposes the unit perturbations."""
    return _svd(run, s, boundary, "direction")


def _svd(
    run: Run, s: NormalSvd, boundary: xr.Dataset, rows: Literal["normal", "direction"]
) -> xr.Dataset:
    with h5py.File(boundary.encoding["source"]) as file:
        return ga.experiments.normal_spectrum(
            file[rows], run.net.input_shape, s.rank, s.baseline_draws, run.seed
        )


def tell_svd(ds: xr.Dataset) -> str:
    """Effective ranks."""
    if "spectrum" not in ds:
        return f"leading {ds.sizes['rank']} directions, method {ds.attrs['svd_method']}"
    return (
        f"effective rank {float(ds['normal_effective_rank']):.1f}, random directions "
        f"{float(ds['baseline_effective_rank'].mean()):.1f}"
    )


@dataclass(frozen=True, kw_only=True)
class RandomSubspaceFooling:
    """Fooling rates of random vectors from the normals' leading subspace, on held-out images."""

    count: int = 1000
    """Held-out (test) images; all if there are fewer."""
    dimensions: Annotated[tuple[int, ...], Bound(1, some=True)] = (1, 2, 5, 10, 20, 50, 100)
    """Dimensions m of the leading normal subspace; those beyond the stored rank are left out."""
    relative_norms: Shares = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    """Norms of the perturbation as shares of the mean image norm."""
    draws: Count = 10
    """Random vectors per dimension."""


def random_subspace_fooling(
    run: Run, s: RandomSubspaceFooling, held_out: ga.ImageSet, normal_svd: xr.Dataset
) -> xr.Dataset:
    """Fooling rates against dimension and norm, beside uniform directions."""
    directions = normal_svd["direction"].to_numpy()
    typical = held_out.mean_norm()
    return ga.experiments.random_subspace_fooling(
        run.net,
        held_out,
        directions.reshape(len(directions), -1).T,
        [m for m in s.dimensions if m <= len(directions)],
        [share * typical for share in s.relative_norms],
        s.draws,
        run.seed,
        keep=run.keep,
        **run.pace,
    )


def tell_fooling(ds: xr.Dataset) -> str:
    """The best dimension beside uniform directions, norm by norm."""
    best = ds["fooling_rate"].mean("draw").max("m")
    uniform = ds["uniform_fooling_rate"].mean("draw")
    shares = ds["norm"] / ds["mean_image_norm"]
    return "\n".join(
        f"norm {100 * float(share):3.0f} % of image: normal subspace {100 * float(inside):5.1f} % "
        f"fooled, uniform {100 * float(outside):5.1f} %"
        for share, inside, outside in zip(shares, best, uniform, strict=True)
    )


_SVD: dict[str, Any] = {"inputs": ("boundary",), "tell": tell_svd}

NORMALS = (
    Experiment(
        name="train",
        settings=Train,
        compute=train,
        images={"images": Sample("test", "count")},
        tell=tell_train,
    ),
    Experiment(
        name="boundary",
        divided="images",
        settings=Boundary,
        compute=boundary,
        images={"images": Sample("train", "count")},
        disk=boundary_bytes,
        tell=tell_boundary,
    ),
    Experiment(
        name="normal_svd",
        settings=NormalSvd,
        compute=normal_svd,
        figures={
            "normal_spectrum": Drawing(ga.plotting.normal_spectrum),
            "leading_directions": Drawing(ga.plotting.leading_directions),
        },
        **_SVD,
    ),
    Experiment(
        name="direction_svd", settings=DirectionSvd, compute=direction_svd, in_paper=False, **_SVD
    ),
    Experiment(
        name="random_subspace_fooling",
        divided="dimensions",
        settings=RandomSubspaceFooling,
        compute=random_subspace_fooling,
        images={"held_out": Sample("test", "count")},
        inputs=("normal_svd",),
        tell=tell_fooling,
        figures={"random_subspace_fooling": Drawing(ga.plotting.random_subspace_fooling)},
    ),
)
