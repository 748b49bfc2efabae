"""Predictions, boundary points, the spectrum of their normals, and what their span fools."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import h5py
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import NO_BOUNDARY
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import LARGE_IMAGE, Bound, Count, CountOrAll, Draws, Shares
from geomadv.pipeline.work import FORWARD, STORED_IMAGE, Case, End, Walk, Work

# Operations of the eigenvalues of a symmetric matrix with vectors, by the cube of its side, and of
# drawing a random number, as many as a product of matrices makes meanwhile.
_SPECTRUM, _RANDOM = 20.0, 500.0
# Bytes of the arrays of a chunk of boundary points, which is of 64 MiB, with those of its search.
_CHUNKS = 2**28
# What `geomadv.normal_svd` keeps to, and what it does not know where a Gram matrix would not fit.
_MEMORY, _SPECTRA = 2**30, ("spectrum", "baseline", "normal_")


@dataclass(frozen=True, kw_only=True)
class Train:
    """Loads the network, training it on first use, and stores what it predicts on test images."""

    count: CountOrAll = None
    """Test images to predict; default: all."""


def train(run: Run, s: Train, images: ga.ImageSet) -> xr.Dataset:
    """Scores of the test images and the accuracy."""
    return ga.experiments.predictions(run.net, images, batch_size=run.pace["batch_size"])


def train_work(case: Case) -> Work:
    """A pass for each image."""
    n = case.count["images"]
    return Work({FORWARD: n}, sizes={"sample": n}, types={"score": 4, "correct": 1})


def tell_train(ds: xr.Dataset) -> str:
    """The accuracy."""
    count = ds.sizes["sample"]
    return f"accuracy {100 * float(ds['correct'].mean()):.2f} % on {count} test images"


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """Boundary points and normals of training images, by DeepFool."""

    count: Count = 2000
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


def boundary_work(case: Case) -> Work:
    """A walk and the search for its boundary point, image by image."""
    s, n = case.settings, case.count["images"]
    deepfool = ga.DeepFoolSettings(
        overshoot=s.overshoot, max_iter=s.max_iter, candidates=s.candidates
    )
    end: End = s.fraction or ("nearest" if s.nearest else "refine")
    return Work(
        {Walk(deepfool, end=end): n},
        memory=min(12 * n * case.image_bytes, _CHUNKS),
        sizes={"sample": n},
        types={"third": 1, "converged": 1, "image": STORED_IMAGE * 4},
        without=("point",) if s.points else ("point", "image"),
    )


def tell_boundary(ds: xr.Dataset) -> str:
    """How many points there are, and how far they lie."""
    found = f"{int(ds['converged'].sum())} of {ds.sizes['sample']} boundary points converged"
    if not ds["converged"].any():
        return f"{found}. {NO_BOUNDARY}"
    distance = float(ds["distance"].where(ds["converged"]).median())
    return f"{found}, median distance {distance:.4g} image units"


@dataclass(frozen=True, kw_only=True)
class NormalSvd:
    """Spectrum and leading directions of the boundary normals, beside a random baseline."""

    rank: Count = 100
    """Leading directions to keep; fewer where there are fewer normals or pixels."""
    baseline_draws: Draws = 10
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


def svd_work(case: Case) -> Work:
    """The Gram matrix of the shorter side and its spectrum, once and for every random matrix.

    Where that does not fit the memory, passes over all rows with some vectors more than wanted.
    """
    s, d = case.settings, case.net.dimension
    n = case.inputs["boundary"].count["images"]
    side = min(n, d)
    if 20 * side**2 > _MEMORY:
        width = 1.25 * s.rank + 10
        left_out = [v for v in ga.experiments.SCHEMAS["normal_svd"] if v.startswith(_SPECTRA)]
        return Work(
            flops=12.0 * n * d * width,
            memory=_MEMORY + 72 * d * width,
            sizes={"rank": s.rank, "energy_share": 3},
            without=tuple(left_out),
        )
    gram, spectrum = 2.0 * n * d * side, _SPECTRUM * side**3
    return Work(
        flops=3 * gram + spectrum + s.baseline_draws * (gram + spectrum / 2 + _RANDOM * n * d),
        memory=24 * side**2 + 64 * d * min(s.rank, side),
        sizes={
            "rank": min(s.rank, side),
            "component": side,
            "draw": s.baseline_draws,
            "energy_share": 3,
        },
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

    count: CountOrAll = None
    """Held-out (test) images; default: 1,000, 200 for images of over 4,096 numbers."""
    dimensions: Annotated[tuple[int, ...], Bound(1, some=True)] = (1, 2, 5, 10, 20, 50, 100)
    """Dimensions m of the leading normal subspace; those beyond the stored rank are left out."""
    relative_norms: Shares = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    """Norms of the perturbation as shares of the mean image norm."""
    draws: Draws = 10
    """Random vectors per dimension."""


def _resolve_fooling(s: RandomSubspaceFooling, net: Classifier) -> RandomSubspaceFooling:
    affordable = 1000 if net.dimension <= LARGE_IMAGE else 200
    return replace(s, count=affordable if s.count is None else s.count)


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
        [m for m in s.dimensions if m <= len(directions)] or list(s.dimensions),
        [share * typical for share in sorted(set(s.relative_norms))],
        s.draws,
        run.seed,
        # Normals are unit rows: their number is the sum of all squared singular values.
        energy=normal_svd["singular_value"].to_numpy() ** 2 / int(normal_svd["rows"]),
        keep=run.keep,
        **run.pace,
    )


def fooling_work(case: Case) -> Work:
    """Every image under every vector, of subspaces and uniform, at every norm."""
    s, n, svd = case.settings, case.count["held_out"], case.inputs["normal_svd"]
    rank = min(svd.settings.rank, svd.inputs["boundary"].count["images"], case.net.dimension)
    m, norms = sum(size <= rank for size in s.dimensions), len(s.relative_norms)
    return Work(
        {FORWARD: n * (1 + (m + 1) * norms * s.draws)},
        memory=n * case.image_bytes,
        sizes={"m": m, "norm": norms, "draw": s.draws, "sample": n},
    )


def tell_fooling(ds: xr.Dataset) -> str:
    """The best dimension beside uniform directions, norm by norm."""
    best = ds["fooling_rate"].mean("draw").max("m")
    uniform = ds["uniform_fooling_rate"].mean("draw")
    shares = ds["norm"] / ds["mean_image_norm"]
    return "\n".join(
        f"norm {100 * float(share):3.6g} % of image: normal subspace {100 * float(inside):5.1f} % "
        f"fooled, uniform {100 * float(outside):5.1f} %"
        for share, inside, outside in zip(shares, best, uniform, strict=True)
    )


_SVD: dict[str, Any] = {
    "inputs": ("boundary",),
    "tell": tell_svd,
    "work": svd_work,
    "quick": {"rank": 20, "baseline_draws": 2},
}

NORMALS = (
    Experiment(
        name="train",
        settings=Train,
        compute=train,
        images={"images": Sample("test", "count", labels=True)},
        work=train_work,
        quick={"count": 100},
        tell=tell_train,
    ),
    Experiment(
        name="boundary",
        divided="images",
        settings=Boundary,
        compute=boundary,
        images={"images": Sample("train", "count", labels=True)},
        work=boundary_work,
        quick={"count": 60},
        tell=tell_boundary,
    ),
    Experiment(
        name="normal_svd",
        settings=NormalSvd,
        compute=normal_svd,
        figures={
            "normal_spectrum": Drawing(
                ga.plotting.normal_spectrum,
                "Singular values of the boundary normals (blue) beside those of as many "
                "uniform random directions (grey). A blue curve that starts above and falls "
                "far below means that a few directions hold most of all normals.",
            ),
            "leading_directions": Drawing(
                ga.plotting.leading_directions,
                "The directions that the normals share most, as images, each in its own "
                "grey scale; σ is the singular value. Visible patterns are what many "
                "boundaries have in common; noise would say that there is little.",
            ),
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
        resolve=_resolve_fooling,
        images={"held_out": Sample("test", "count")},
        inputs=("normal_svd",),
        work=fooling_work,
        quick={"count": 60, "dimensions": (1, 5, 20), "relative_norms": (0.1, 0.4), "draws": 3},
        tell=tell_fooling,
        headline=-1,
        figures={
            "random_subspace_fooling": Drawing(
                ga.plotting.random_subspace_fooling,
                "How often random vectors from the span of the m leading normals change the "
                "label of unseen images: against the norm on the left, against m on the "
                "right. Curves above the grey one, which is uniform random vectors, mean "
                "that these directions are weaker than others. Bands: 10th to 90th "
                "percentile over draws.",
            )
        },
    ),
)
