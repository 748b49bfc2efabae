"""The tilting plane of linear classifiers, and the tilt of a network's boundary."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
import xarray as xr
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import Bound, Count, CountOrAll
from geomadv.pipeline.study import Study
from geomadv.pipeline.work import Case, Walk, Work

# Operations of the fit at one C, in a plan: by the matrix of images and its shorter side, and of
# the calls themselves, as many as a product of matrices makes meanwhile (some 15 ms).
_FITTING, _CALLS = 12.0, 8e8

# The large intercept scale frees the intercept from the regularisation and the weights make both
# classes count alike, so that strong regularisation ends at the nearest-centroid classifier.
CLASSIFIERS: dict[str, Any] = {
    "svm": LinearSVC(
        dual=False, intercept_scaling=100, class_weight="balanced", max_iter=10_000, random_state=0
    ),
    "logistic": LogisticRegression(class_weight="balanced", max_iter=10_000),
    "lda": LinearDiscriminantAnalysis(),
    "centroid": NearestCentroid(),
}

# Images with more pixels than this are fitted on a sample unless a count is given.
_SMALL, _SAMPLE = 1024, 1000

# The two classes of the paper's figures.
_CLASSES = (2, 3)


@dataclass(frozen=True, kw_only=True)
class TiltingPlane:
    """Tilt of a linear classifier's boundary between two classes against L2 regularisation."""

    classes: tuple[int, int] = _CLASSES
    """The two classes, by number; 2 and 3 stand for the last two of a network of two or three."""
    classifier: Literal["svm", "logistic", "lda", "centroid"] = "svm"
    """Linear classifier; lda and centroid have no regularisation to sweep over."""
    count: CountOrAll = None
    """Training images of both classes; default: all, 1000 if they have more than 1024 pixels."""
    lowest: float | None = None
    """Smallest C; default: the power of ten below which, by the scale of the data, nothing tilts
    (1 / (N ||j - i||^2) with N images and centroids i and j, divided by 10 and rounded down)."""
    decades: Annotated[float, Bound(0)] = 8
    """How many powers of ten C spans; the sweep ends before where nothing changes any more."""
    values: Count = 25
    """Values of C."""
    examples: Count = 6
    """Test images that are moved onto the boundary."""


def _resolve_plane(s: TiltingPlane, net: Classifier) -> TiltingPlane:
    small = net.dimension <= _SMALL
    s = replace(s, classes=_present(s.classes, net))
    return s if s.count is not None or small else replace(s, count=_SAMPLE)


def _present(classes: tuple[int, int], net: Classifier) -> tuple[int, int]:
    """The two classes; in place of the usual ones the last two of a network without them."""
    last = net.num_classes - 1
    return (last - 1, last) if classes == _CLASSES and max(classes) > last else classes


def tilting_plane(run: Run, s: TiltingPlane, train: ga.ImageSet, test: ga.ImageSet) -> xr.Dataset:
    """The sweep over C; of the network it takes the images alone."""
    return ga.experiments.tilting_plane(
        train,
        test,
        CLASSIFIERS[s.classifier],
        _sweep(s, train),
        classes=s.classes,
        examples=s.examples,
        until_settled=True,
        keep=run.keep,
        progress=run.pace["progress"],
    )


def _sweep(s: TiltingPlane, train: ga.ImageSet) -> list[float]:
    """The values of C."""
    lowest = s.lowest
    if lowest is None:
        i, j = ga.experiments.class_centroids(train)[list(s.classes)]
        scale = 10 * len(train) * float((j - i) @ (j - i))
        # Equal centroids, or none, are for the experiment to refuse.
        lowest = 10.0 ** math.floor(-math.log10(scale)) if scale > 0 else 1.0
    return [float(c) for c in lowest * np.logspace(0, s.decades, s.values)]


def plane_work(case: Case) -> Work:
    """The fits at every C, some ten Newton steps each, on the images as a matrix."""
    s, d, n, test = case.settings, case.net.dimension, case.count["train"], case.count["test"]
    side = min(n, d)
    return Work(
        flops=s.values * (_CALLS + _FITTING * float(n * d * side)),
        memory=24 * (n + test) * d,
        sizes={"C": s.values, "train": n, "test": test, "example": s.examples, "plane": 2}
        | {"axis": 3, "extreme": 2, "class": 2},
        types=dict.fromkeys(_PICTURES, 8),
    )


_PICTURES = ("weight", "centroid", "z", "n", "example_image", "adversarial_image", "space_basis")


def tell_plane(ds: xr.Dataset) -> str:
    """Angle, error and adversarial norm at some values of C."""
    lines = []
    for i in sorted({*range(0, ds.sizes["C"], max(1, ds.sizes["C"] // 5)), ds.sizes["C"] - 1}):
        at = ds.isel(C=i)
        lines.append(
            f"C {float(at['C']):8.1e}: angle {math.degrees(float(at['angle'])):5.1f} degrees, "
            f"test error {100 * float(at['test_error']):5.2f} %, "
            f"mean adversarial norm {float(at['mean_adversarial_norm']):.3f}"
            f"{'' if bool(at['converged']) else ' (solver did not converge)'}"
        )
    if not bool(ds["settled"][-1]):
        lines.append("the boundary is not known to have settled at the largest C")
    lines.append(
        f"nearest centroid: test error {100 * float(ds['centroid_test_error']):.2f} %, "
        f"mean adversarial norm {float(ds['centroid_mean_adversarial_norm']):.3f}"
    )
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class TiltingToy:
    """The toy problem of the tilting plane: one picture in two and in many dimensions."""

    dimensions: tuple[int, ...] = (2, 784)
    """Numbers of pixels, even."""
    samples: Count = 200
    """Images of each class, for training and as many for the test."""
    values: Count = 25
    """Values of C, from 1e-5 to 1e3."""


def tilting_toy(run: Run, s: TiltingToy) -> xr.Dataset:
    """The sweep over C in every number of dimensions; neither network nor images take part."""
    sweep = [float(c) for c in np.logspace(-5, 3, s.values)]
    return ga.experiments.tilting_toy(
        CLASSIFIERS["svm"], sweep, s.dimensions, s.samples, run.seed
    ).assign_attrs(dataset="toy problem")


def toy_work(case: Case) -> Work:
    """The same on images of its own."""
    s = case.settings
    n = 2 * s.samples
    fits = [_CALLS + _FITTING * float(n * d * min(n, d)) for d in s.dimensions]
    sizes = {"dimension": len(s.dimensions), "C": s.values, "train": n, "plane": 2}
    return Work(flops=s.values * sum(fits), sizes=sizes)


def tell_toy(ds: xr.Dataset) -> str:
    """Angles and errors at both ends of the sweep."""
    lines = []
    for dimension in ds["dimension"].to_numpy():
        at = ds.sel(dimension=dimension)
        first, last = (math.degrees(float(at["angle"][i])) for i in (0, -1))
        before, after = (100 * float(at["test_error"][i]) for i in (0, -1))
        lines.append(
            f"{dimension} dimensions: angle {first:.2f} to {last:.2f} degrees, "
            f"test error {before:.2f} to {after:.2f} %"
        )
    spread = ds["angle"].max("dimension") - ds["angle"].min("dimension")
    largest = math.degrees(float(spread.max()))
    return "\n".join([*lines, f"largest difference of the angles: {largest:.2g} degrees"])


@dataclass(frozen=True, kw_only=True)
class NormalTilt:
    """Angles between a network's boundary normals of a class pair and its centroid direction."""

    classes: tuple[int, int] = _CLASSES
    """The two classes, by number; 2 and 3 stand for the last two of a network of two or three."""
    count: Count = 500
    """Test images of both classes; all if there are fewer."""
    nearest: bool = True
    """Slide to the nearest boundary points. DeepFool alone ends far from robust networks' nearest
    boundary, far outside the range of pixels."""
    beside: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="NAME...")] = None
    """Networks of the zoo to compare with; default: the robust ones for the same images that this
    machine has weights for."""


def robust_beside(s: NormalTilt, study: Study) -> tuple[Classifier, ...]:
    """The networks named, else the robust ones of the zoo for the same data that can be loaded."""
    return study.all_beside("robust") if s.beside is None else tuple(map(study.beside, s.beside))


def normal_tilt(run: Run, s: NormalTilt, test: ga.ImageSet, train: ga.ImageSet) -> xr.Dataset:
    """One distribution of angles per network."""
    parts = {net.name: partial(_tilt, run, s, net, test, train) for net in run.networks}
    each = run.keep.each(parts)
    names = [train.class_names[c] for c in s.classes]
    return xr.concat(each, "network_name").assign_attrs(class_names=names)


def _tilt(
    run: Run, s: NormalTilt, net: Classifier, test: ga.ImageSet, train: ga.ImageSet
) -> xr.Dataset:
    """Angles at the boundary between the two classes, from test images of both."""
    i, j = s.classes
    target = torch.where(net.predict(test.images) == j, i, j)
    points = ga.boundary_points(net, test.images, target=target, nearest=s.nearest, **run.pace)
    ds = ga.experiments.normal_tilt(points, train, s.classes, seed=run.seed)
    return ds.expand_dims(network_name=[net.name])


def tilt_work(case: Case) -> Work:
    """A boundary point between the two classes, image by image."""
    n = case.count["test"]
    walk = Walk(boundary="region", end="nearest" if case.settings.nearest else "refine")
    return Work(
        {walk: n},
        memory=24 * n * case.image_bytes,
        sizes={"network_name": case.networks, "sample": n},
    )


def tell_tilt(ds: xr.Dataset) -> str:
    """Quantiles of the angles, network by network."""
    lines = []
    for name in ds["network_name"].to_numpy():
        part = ds.sel(network_name=name)
        angles = np.degrees(part["angle"].to_numpy())
        usable = angles[np.isfinite(angles)]
        if len(usable) == 0:
            lines.append(f"{name}: no usable boundary point between the two classes")
            continue
        low, middle, high = np.quantile(usable, (0.1, 0.5, 0.9))
        lines.append(
            f"{name}: median angle {middle:.1f} degrees (10 % to 90 %: {low:.1f} to {high:.1f}), "
            f"median distance {float(part['distance'].median()):.3g}, "
            f"{len(usable)} of {len(angles)} boundary points usable"
        )
    random = np.degrees(float(ds["random_angle"].median()))
    return "\n".join([*lines, f"random directions: median {random:.1f} degrees"])


LINEAR = (
    Experiment(
        name="tilting_plane",
        settings=TiltingPlane,
        compute=tilting_plane,
        resolve=_resolve_plane,
        work=plane_work,
        quick={"count": 200, "values": 8, "examples": 2},
        images={
            "train": Sample("train", "count", classes="classes"),
            "test": Sample("test", classes="classes"),
        },
        tell=tell_plane,
        headline=-2,
        figures={
            "tilting_plane": Drawing(
                ga.plotting.tilting_plane,
                "Training images of two classes in the plane of z, from class mean to class "
                "mean, and n, along which the boundary of a linear classifier (black) tilts "
                "as its regularisation weakens from left to right. Compare the test errors "
                "above: a boundary can tilt much at nearly the same error.",
            ),
            "tilting_sweep": Drawing(
                ga.plotting.tilting_sweep,
                "Angle of the boundary, errors, mean distance and mean adversarial norm of "
                "the linear classifier against C, from strong to weak regularisation. "
                "Dotted: the nearest-centroid classifier, which does not tilt. Crosses: the "
                "solver did not converge.",
            ),
            "tilting_images": Drawing(
                ga.plotting.tilting_images,
                "Test images moved onto the boundary of the linear classifier for several "
                "C, and the perturbations that do it with their norms. Weak regularisation "
                "gives perturbations that look like noise.",
            ),
            "tilting_space": Drawing(
                ga.plotting.tilting_space,
                "The two extreme boundaries with training images, in the space of z and "
                "both weights, seen from two sides.",
            ),
            "tilting_slider": Drawing(
                ga.plotting.tilting_slider,
                "Move the regularisation and see images and boundary turn in the tilting "
                "plane; choose a test image to see its nearest point on the boundary.",
            ),
        },
    ),
    Experiment(
        name="tilting_toy",
        settings=TiltingToy,
        compute=tilting_toy,
        work=toy_work,
        quick={"dimensions": (2, 64), "samples": 50, "values": 8},
        tell=tell_toy,
        figures={
            "tilting_toy": Drawing(
                ga.plotting.tilting_toy,
                "The same in a made-up problem, whose classes differ much along z and "
                "cleanly along n, in few and in many dimensions: the angle at which noise- "
                "like perturbations appear depends on regularisation, not on the number of "
                "dimensions.",
            )
        },
    ),
    Experiment(
        name="normal_tilt",
        version=2,  # pairs are the classes that meet
        divided="networks",
        settings=NormalTilt,
        compute=normal_tilt,
        resolve=lambda s, net: replace(s, classes=_present(s.classes, net)),
        images={
            "test": Sample("test", "count", classes="classes"),
            "train": Sample("train", classes="classes"),
        },
        networks=robust_beside,
        work=tilt_work,
        quick={"count": 30},
        tell=tell_tilt,
        figures={
            "normal_tilt": Drawing(
                ga.plotting.normal_tilt,
                "Angle between the network's boundary normals and the line from class mean "
                "to class mean. 90° (grey: random directions) means that the boundary has "
                "tilted away from the class means as far as it can.",
            )
        },
    ),
)
