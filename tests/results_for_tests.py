"""A small result of every experiment that has a figure, of one random smooth network."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import xarray as xr
from networks_for_tests import WIDE, gaussian, orthogonal_frame, perceptron
from sklearn.linear_model import LogisticRegression

from geomadv import ImageSet, boundary_points, experiments
from geomadv.linalg import NestedSubspaces

SHAPE, D = (1, 4, 4), 16
SCALES, RADII = np.linspace(-3, 3, 7), [0.3, 1.0, 3.0]
NET = perceptron(classes=3, shape=SHAPE)
X = gaussian(40, *SHAPE, seed=3)
DELTA = gaussian(*SHAPE, seed=4).numpy()
IMAGES = ImageSet(X, NET.predict(X), bounds=WIDE)
FAMILIES = {
    name: NestedSubspaces(orthogonal_frame(D, D, seed=seed))
    for seed, name in enumerate(("positive", "negative", "both", "flat"))
}


@cache
def curvature(pairs: int | None = None, classes: int = 3) -> xr.Dataset:
    settings = experiments.CurvatureSettings(
        count=40, pairs=pairs, draws=5, random_draws=3, density_steps=5, density_probes=3
    )
    parts = [experiments.class_curvature(NET, IMAGES, c, settings) for c in range(classes)]
    ds = xr.concat(parts, "class", data_vars="minimal")
    random = np.linspace(0.5, 1.5, 3 * ds.sizes["half_dimension"] * ds.sizes["angle"])
    shape = (3, ds.sizes["half_dimension"], ds.sizes["angle"])
    ds["random_angle"] = ("random", "half_dimension", "angle"), random.reshape(shape)
    return ds.assign_coords({"class": [str(c) for c in range(classes)]})


def curved() -> xr.Dataset:
    return experiments.curved_directions(curvature(), count=2)


def twin() -> xr.Dataset:
    families = experiments.singular_families(gaussian(9, D))
    named = {f"normal_{end}": nested for end, nested in families.items()}
    return experiments.subspace_accuracy(NET, IMAGES, X.mean(0), named)


def tilting_plane() -> xr.Dataset:
    x = np.random.default_rng(0).random((60, *SHAPE), dtype=np.float32) / 2
    labels = np.tile([0, 1], 30)
    x[labels == 1, :, :2] += 0.2
    images = ImageSet(x, labels, ["cat", "dog"])
    return experiments.tilting_plane(
        images, images, LogisticRegression(), [1e-3, 1e-1, 1e1], examples=3
    )


def normal_tilt() -> xr.Dataset:
    points = (torch.eye(6, dtype=torch.float64), [0] * 6, [1] * 6)
    return experiments.normal_tilt(points, np.eye(6)[:2])


def transfer() -> xr.Dataset:
    other = perceptron(classes=3, shape=SHAPE, seed=1)
    other.name = "another-network-of-some-length"
    return experiments.transfer([NET, other], [DELTA, DELTA], X, draws=2)


def finetuning() -> xr.Dataset:
    layer = torch.nn.Linear(D, 3, dtype=torch.float64)
    net = type(NET)(torch.nn.Sequential(torch.nn.Flatten(), layer), SHAPE, bounds=WIDE)
    small = {"rounds": 2, "pool": 2, "samples": 20, "search": {"passes": 1}}
    return experiments.finetuning(net, IMAGES, IMAGES, 0.5, **small)


def collisions() -> xr.Dataset:
    few = experiments.CollisionSettings(pairs=5, relative_epsilons=(0.1, 1.0), steps=5, examples=2)
    return experiments.softmax_directions(NET, X, few)


def universal() -> xr.Dataset:
    return experiments.universal(NET, X[:30], X[30:], 1.0, sizes=[5, 30], search={"passes": 2})


# Name of the experiment -> how its result is made.
MAKERS: dict[str, Callable[[], xr.Dataset]] = {
    "normal_svd": lambda: experiments.normal_spectrum(boundary_points(NET, X).normals, SHAPE),
    "random_subspace_fooling": lambda: experiments.random_subspace_fooling(
        NET, X, torch.eye(D).double(), [1, 3, 9], RADII, draws=3
    ),
    "curvature": curvature,
    "curvature without a full spectrum": lambda: curvature(pairs=2, classes=1),
    "score_curves": lambda: experiments.class_score_curves(NET, X, curved(), SCALES, draws=5),
    "score_curves of directions": lambda: experiments.score_curves(
        NET, X, orthogonal_frame(D, 2), SCALES, 1, draws=5
    ),
    "direction_sweep": lambda: experiments.class_direction_sweep(NET, X, curved(), SCALES),
    "direction_sweep of directions": lambda: experiments.direction_sweep(
        NET, X, orthogonal_frame(D, 2), SCALES, 1
    ),
    "normal_section": lambda: experiments.class_normal_section(NET, X[:9], curvature(), SCALES),
    "decision_plane": lambda: experiments.decision_plane(NET, X[:2], steps=4),
    "subspace_accuracy": lambda: experiments.subspace_accuracy(NET, IMAGES, X.mean(0), FAMILIES),
    "norm_fractions": lambda: experiments.norm_fractions({"DeepFool": gaussian(3, D)}, FAMILIES),
    "first_order_twin": twin,
    "confined_deepfool": lambda: experiments.confined_deepfool(NET, X[:6], FAMILIES, [2, 5]),
    "resampling": lambda: experiments.resampling(NET, IMAGES, (3, 2), (1, 2)),
    "universal": universal,
    "label_graph": lambda: experiments.label_graph(
        NET.predict(X).tolist(), NET.predict(-X).tolist(), NET.class_names
    ),
    "norm_comparison": lambda: experiments.norm_comparison(
        NET, X[:30], X[30:], DELTA, RADII, draws=2
    ),
    "transfer": transfer,
    "finetuning": finetuning,
    "categories": lambda: experiments.categories(NET, X[:20], RADII, draws=3, search={"passes": 1}),
    "tilting_plane": tilting_plane,
    "tilting_toy": lambda: experiments.tilting_toy(
        LogisticRegression(), [1e-3, 1e-1], (2, 4), samples=20
    ),
    "normal_tilt": normal_tilt,
    "softmax_directions": collisions,
}


@cache
def result(name: str) -> xr.Dataset:
    """The result, as a file of the experiment would hold it; not to be changed."""
    experiment = name.split()[0]
    return MAKERS[name]().assign_attrs(experiment=experiment, network="net", dataset="noise")
