"""Universal perturbations beside others of the same norm."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.doors import Numbers
from geomadv.errors import InputError, check_counts
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.linalg import Subspace, uniform_directions
from geomadv.perturbations.balls import mean_norm
from geomadv.perturbations.deepfool import DeepFoolResult, deepfool
from geomadv.perturbations.fgsm import fgsm
from geomadv.perturbations.fooling import (
    check_norms,
    check_perturbation,
    clean_labels,
    fooled_and_lost,
)
from geomadv.progress import catching_up, tqdm

_KIND, _EACH = ("kind",), ("kind", "norm", "draw")

SCHEMA: Schema = {
    "kind": (_KIND, "kind of vector", "1"),
    "norm": (("norm",), "Euclidean norm of the perturbation", "image units"),
    "fooling_rate": (_EACH, "fooling rate of one vector on held-out images", "1"),
    "fooled_share": (
        ("kind", "norm", "held_out_sample"),
        "share of the vectors that fool the held-out image",
        "1",
    ),
    "unlabelled_share": (_EACH, "share of held-out images with scores not finite", "1"),
    "draws": (_KIND, "vectors tried", "1"),
    "direction": ((*_KIND, *IMAGE), "unit vector of the first draw", "1"),
    "deepfool_converged": (("sample",), "whether DeepFool changed the label of the image", "1"),
    "mean_image_norm": ((), "mean Euclidean norm of the images", "image units"),
}


def norm_comparison(
    net: Classifier,
    images: Any,
    held_out: Any,
    perturbation: Numbers,
    norms: Sequence[float],
    subspaces: Mapping[str, Subspace] | None = None,
    draws: int = 10,
    seed: int = 0,
    *,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fooling rates of single vectors on held-out images, all scaled to the same Euclidean norms.

    "Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017), figure 9, with
    random vectors of given subspaces beside. The vectors: the universal perturbation; uniform
    random directions; DeepFool's and FGSM's perturbation of one image; the sums of both over all
    images; the mean image, relative to its mean pixel per channel; random vectors of each subspace.

    Args:
        net: the network.
        images: images (N, C, H, W) that DeepFool, FGSM and the mean are taken on.
        held_out: images that all vectors are tried on.
        perturbation: universal perturbation (C, H, W) made on `images`.
        norms: Euclidean norms, image units.
        subspaces: of image space, by name, for example the leading normals.
        draws: random vectors of each kind, and images whose own perturbation is tried.
        seed: of the random vectors and of the choice of images.
        keep: what keeps finished kinds; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over kind, norm, draw, sample, held_out_sample and channel, row, column:
        `fooling_rate` (kind, norm, draw), NaN beyond a kind's draws; `fooled_share` (kind, norm,
        held_out_sample), the share of a kind's vectors that fool an image; `unlabelled_share`
        (kind, norm, draw), the images whose scores are not finite there: they do not count as
        fooled; `draws` (kind); `direction` (kind, channel, row, column), the unit vector of the
        first draw; `deepfool_converged` (sample), whether DeepFool changed the label of that image,
        without which its vector is left out; `mean_image_norm`.

    Raises:
        InputError: unusable images, clean ones whose scores are not finite, unusable perturbation
            or norms, draws < 1, subspaces of another image size or named like another kind, or a
            vector that vanishes.
    """
    x, unseen = net.check_images(images), net.check_images(held_out)
    delta = check_perturbation(net, perturbation)
    if not delta.any():
        raise InputError(
            "perturbation: it is zero, as of a universal search that no image had to be moved for, "
            "or could be: there is no norm to compare at. Search with other images, a larger "
            "radius, or a network that predicts more than one class."
        )
    subspaces = {} if subspaces is None else subspaces
    _check(net, norms, subspaces, draws)
    size = net.batch_size(batch_size)
    walks = deepfool(net, x, batch_size=size)
    vectors = _vectors(net, x, delta, walks, draws, seed, size)
    vectors |= _from_subspaces(vectors, subspaces, draws, seed)
    units = {name: _unit(name, v).to(x) for name, v in vectors.items()}
    clean = clean_labels(net, unseen, size)
    rate, none = (np.full((len(units), len(norms), draws), np.nan) for _ in range(2))
    total = len(norms) * sum(len(v) for v in units.values())
    with tqdm(total=total, desc="norm comparison", unit="vector", disable=not progress) as bar:
        fooled_by = partial(fooled_and_lost, net, unseen, clean, norms, size, bar.update)
        parts = {name: partial(_rates, fooled_by, directions) for name, directions in units.items()}
        done = catching_up(bar, (len(norms) * len(v) for v in units.values()))
        each = keep.each(parts, done)
        for i, found in enumerate(each):
            rate[i, :, : found.sizes["draw"]] = found["fooling_rate"].to_numpy()
            none[i, :, : found.sizes["draw"]] = found["unlabelled_share"].to_numpy()
    values = {
        "fooling_rate": rate,
        "fooled_share": np.stack([found["fooled_share"].to_numpy() for found in each]),
        "unlabelled_share": none,
        "draws": [len(v) for v in units.values()],
        "direction": torch.stack([v[0].reshape(net.input_shape) for v in units.values()]),
        "deepfool_converged": walks.converged,
        "mean_image_norm": mean_norm(x),
        "kind": list(units),
        "norm": np.asarray(norms, np.float64),
    }
    return described(SCHEMA, values)


def _rates(fooled_by: Callable[[Tensor], NDArray[np.bool_]], units: Tensor) -> xr.Dataset:
    """What unit vectors (k, D) fool at every norm, by draw and by image."""
    found = fooled_by(units)
    of_draws, of_images = ("norm", "draw"), ("norm", "held_out_sample")
    return xr.Dataset(
        {
            "fooling_rate": (of_draws, found[0].mean(2)),
            "fooled_share": (of_images, found[0].mean(1)),
            "unlabelled_share": (of_draws, found[1].mean(2)),
        }
    )


def _from_subspaces(
    others: Mapping[str, Tensor], subspaces: Mapping[str, Subspace], draws: int, seed: int
) -> dict[str, Tensor]:
    """Random vectors (draws, D) of each subspace, under names that no other kind has."""
    for name in subspaces:
        if name in others:
            raise InputError(f"subspaces: {name!r} is the name of another kind; choose another.")
    return {
        name: subspace.random_unit(draws, seed=seed + number)
        for number, (name, subspace) in enumerate(subspaces.items(), 1)
    }


def _vectors(
    net: Classifier,
    x: Tensor,
    delta: Tensor,
    walks: DeepFoolResult,
    draws: int,
    seed: int,
    size: int,
) -> dict[str, Tensor]:
    """Vectors (k, D) of any norm, by kind."""
    # Without its mean pixel: that part only brightens, and would be nearly all of the vector.
    mean = x.mean(0) - x.mean((0, 2, 3))[:, None, None]
    if not walks.converged.any():
        raise InputError(
            f"images: DeepFool changes none of the {len(x)} labels of network {net.name!r}; give "
            "images with a boundary in reach."
        )
    # A step of any size: only its signs are used.
    step = net.bounds[1] - net.bounds[0]
    signs = fgsm(net, x, step, batch_size=size).delta.flatten(1).sign()
    steps = walks.delta[walks.converged].flatten(1)
    generator = np.random.default_rng(seed)
    some = torch.from_numpy(generator.permutation(len(x))[:draws])
    walked = torch.from_numpy(generator.permutation(len(steps))[:draws])
    return {
        "universal": delta.reshape(1, -1),
        "DeepFool, sum": steps.sum(0, keepdim=True),
        "FGSM, sum": signs.sum(0, keepdim=True),
        "DeepFool, one image": steps[walked],
        "FGSM, one image": signs[some],
        "mean image": mean.reshape(1, -1),
        "random": uniform_directions(draws, net.dimension, seed=seed),
    }


def _unit(name: str, vectors: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(vectors.double(), dim=1, keepdim=True)
    if (norms == 0).any():
        raise InputError(
            f"the vector {name!r} is zero and has no direction to scale. Leave it out."
        )
    unit: Tensor = vectors.double() / norms
    return unit


def _check(
    net: Classifier, norms: Sequence[float], subspaces: Mapping[str, Subspace], draws: int
) -> None:
    check_norms(norms)
    check_counts(draws=draws)
    for name, subspace in subspaces.items():
        if subspace.ambient_dimension != net.dimension:
            raise InputError(
                f"subspace {name!r} lies in {subspace.ambient_dimension} dimensions, images of "
                f"network {net.name!r} have {net.dimension}. Take directions of this network."
            )
