"""Tilt of a linear classifier's boundary between two classes against L2 regularisation."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from common import Flags, compute_once, load_images, load_network, main
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.svm import LinearSVC

import geomadv as ga

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

# Images with more pixels than this are fitted on a sample unless --count says otherwise.
SMALL, SAMPLE = 1024, 1000


@dataclass(kw_only=True)
class TiltingPlane(Flags):
    """Flags of this script; the network only says which images, and where the results go."""

    classes: tuple[int, int] = (2, 3)
    """The two classes, by number."""
    classifier: Literal["svm", "logistic", "lda", "centroid"] = "svm"
    """Linear classifier; lda and centroid have no regularisation to sweep over."""
    count: int | None = None
    """Training images of both classes; default: all, 1000 if they have more than 1024 pixels."""
    lowest: float | None = None
    """Smallest C; default: the power of ten below which, by the scale of the data, nothing tilts
    (1 / (N ||j - i||^2) with N images and centroids i and j, divided by 10 and rounded down)."""
    decades: float = 8
    """How many powers of ten C spans; the sweep ends before where nothing changes any more."""
    values: int = 25
    """Values of C."""
    examples: int = 6
    """Test images that are moved onto the boundary."""


def pair(flags: TiltingPlane, split: str) -> ga.ImageSet:
    """The images of the two classes, in order."""
    images = load_images(flags, split, None)
    for c in flags.classes:
        images.of_class(c)  # says so where there are none
    return images[np.isin(images.labels.numpy(), flags.classes)]


def sweep(flags: TiltingPlane, train: ga.ImageSet) -> list[float]:
    """The values of C."""
    lowest = flags.lowest
    if lowest is None:
        i, j = ga.experiments.class_centroids(train)[list(flags.classes)]
        scale = 10 * len(train) * float((j - i) @ (j - i))
        # Equal centroids, or none, are for the experiment to refuse.
        lowest = 10.0 ** math.floor(-math.log10(scale)) if scale > 0 else 1.0
    return [float(c) for c in lowest * np.logspace(0, flags.decades, flags.values)]


def run(flags: TiltingPlane) -> None:
    """The sweep over C on the images that the network is for."""
    net = load_network(flags)
    train, test = pair(flags, "train"), pair(flags, "test")
    count = flags.count
    if count is None:
        count = len(train) if net.dimension <= SMALL else SAMPLE
    train = train.sample(min(count, len(train)), flags.seed)
    classifier, values = CLASSIFIERS[flags.classifier], sweep(flags, train)
    config = {
        "classes": flags.classes,
        "classifier": str(classifier),
        "count": len(train),
        "test_sha256": test.sha256,
        "C": values,
        "until_settled": True,
        "examples": flags.examples,
        "seed": flags.seed,
    }
    ds = compute_once(
        flags,
        net,
        train,
        "tilting_plane",
        config,
        lambda keep: ga.experiments.tilting_plane(
            train,
            test,
            classifier,
            values,
            classes=flags.classes,
            examples=flags.examples,
            until_settled=True,
            keep=keep,
            progress=True,
        ),
    )
    for i in sorted({*range(0, ds.sizes["C"], max(1, ds.sizes["C"] // 5)), ds.sizes["C"] - 1}):
        at = ds.isel(C=i)
        print(
            f"C {float(at['C']):8.1e}: angle {math.degrees(float(at['angle'])):5.1f} degrees, "
            f"test error {100 * float(at['test_error']):5.2f} %, "
            f"mean adversarial norm {float(at['mean_adversarial_norm']):.3f}"
            f"{'' if bool(at['converged']) else ' (solver did not converge)'}"
        )
    if not bool(ds["settled"][-1]):
        print("the boundary still turns at the largest C")
    print(
        f"nearest centroid: test error {100 * float(ds['centroid_test_error']):.2f} %, "
        f"mean adversarial norm {float(ds['centroid_mean_adversarial_norm']):.3f}"
    )


if __name__ == "__main__":
    main(TiltingPlane, run)
