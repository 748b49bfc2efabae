"""DeepFool confined to growing subspaces: how far away is the boundary inside each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError, check_counts
from geomadv.experiments.principal import doubt
from geomadv.experiments.subspaces.sweep import check_mean
from geomadv.keep import Done, Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.linalg import NestedSubspaces
from geomadv.perturbations import DeepFoolSettings
from geomadv.perturbations.deepfool import deepfool_by
from geomadv.progress import tqdm

RANDOM = "random"

# Dimensions tried when none are named: about so many, evenly spaced on a logarithmic axis.
_GRID = 10


# What an attack measures of each image, and what it shows of the examples.
_SHOWN = ("perturbation", "projection")
_PARTS = ("norm", "converged", "label", "iterations", *_SHOWN)
_MEASURED = {f"example_{name}" if name in _SHOWN else name: name for name in _PARTS}

_AT, _EXAMPLE = ("family", "d"), ("example", *IMAGE)
_EACH, _SAMPLE = (*_AT, "sample"), ("sample",)
_CONFINED, _NORM = (*_AT, *_EXAMPLE), "Euclidean norm of"

SCHEMA: Schema = {
    **doubt.FAMILIES,
    "family": (("family",), "family of nested subspaces", "1"),
    "d": (("d",), "most dimensions of the subspace", "1"),
    "norm": (_EACH, f"{_NORM} the confined DeepFool perturbation", "image units"),
    "converged": (_EACH, "the confined perturbation changes the predicted class", "1"),
    "converged_share": (_AT, "share of images whose predicted class changes", "1"),
    "label": (_EACH, "class predicted at the perturbed image", "1"),
    "iterations": (_EACH, "DeepFool steps taken", "1"),
    "projected_norm": (_EACH, f"{_NORM} the projected mean-centred image", "image units"),
    "subspace_dimension": (_AT, "dimension of the subspace used", "1"),
    "example_image": (_EXAMPLE, "example image", "image units"),
    "example_perturbation": (_CONFINED, "confined perturbation of the example", "image units"),
    "example_projection": (_CONFINED, "projection of the example, mean added back", "image units"),
    "plain_norm": (_SAMPLE, f"{_NORM} the unconfined DeepFool perturbation", "image units"),
    "plain_converged": (_SAMPLE, "the unconfined perturbation changes the predicted class", "1"),
    "source": (_SAMPLE, "class predicted at the clean image", "1"),
    "flat_law": (("d", "sample"), "sqrt(D/d) times the unconfined norm", "image units"),
    "centred_norm": (_SAMPLE, f"{_NORM} the mean-centred image", "image units"),
    "mean_image": (IMAGE, "image that is subtracted before projecting", "image units"),
}


@dataclass(frozen=True)
class _Group:
    """Images that are attacked in the same nested subspaces."""

    images: Tensor  # (n,) int64, positions
    nested: NestedSubspaces


def confined_deepfool(
    net: Classifier,
    images: Any,
    families: Mapping[str, NestedSubspaces],
    dimensions: Sequence[int] | None = None,
    mean: Any = None,
    *,
    draws: int = 5,
    examples: int = 2,
    seed: int = 0,
    deepfool: DeepFoolSettings = DeepFoolSettings(),  # noqa: B008 (frozen)
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Norms of DeepFool perturbations confined to subspaces, beside the images' own norms there.

    "With Friends Like These" (Jetley, Lord and Torr, 2018), §4.3 and figure 5. Every gradient is
    projected on the subspace before DeepFool's linear problem is solved. The images' norms are
    those of their mean-centred projections, ||Q Q^T (x - mean)||.

    The family "random" is added to those given: `draws` uniformly distributed sequences of nested
    subspaces, image i attacked in number i mod draws. For a flat boundary and a random subspace
    of dimension d the confined norm is close to sqrt(D/d) ||r||, r the unconfined perturbation.

    Args:
        net: the network.
        images: clean images (N, C, H, W) in the bounds.
        families: nested subspaces by name. Their groups stay whole: at d a family takes its
            largest step with at most d dimensions, and `subspace_dimension` says how many.
        dimensions: the d to try, from 1 to D; default: about ten on a logarithmic axis.
        mean: mean training image (C, H, W); default: the mean of `images`.
        draws: random sequences of subspaces.
        examples: first images whose perturbations and projections are kept.
        seed: of the random subspaces.
        deepfool: how DeepFool walks.
        keep: what keeps finished families at a d; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over family, d and sample. `norm`, `converged`, `iterations`, `label` of the
        confined attacks: an image that was given up keeps the norm reached, with `converged`
        False; leave it out of means (`norm.where(converged)`) and count it (`converged_share`).
        `projected_norm`; `subspace_dimension` (family, d), 0 where a family has no such subspace:
        there the numbers are NaN or -1. `plain_norm`, `plain_converged`, `source` (sample) of the
        unconfined attack; `flat_law` (d, sample); `centred_norm` (sample). The doubt of curved
        directions: `no_eigenvector_share` (family, d), `step_distances` (family). Per example:
        `example_image`, `example_perturbation`, `example_projection` (with the mean added back).

    Raises:
        InputError: unusable images, mean or settings, subspaces of another dimension than the
            images, d outside 1..D, or a family called "random".
    """
    x = net.check_images(images).detach()
    dims = _check_dimensions(dimensions, net.dimension)
    _check(net, families, draws, examples)
    centre = x.mean(0) if mean is None else check_mean(torch.as_tensor(mean).to(x), net)
    size = net.batch_size(batch_size)
    groups = {name: [_Group(torch.arange(len(x)), nested)] for name, nested in families.items()}
    groups[RANDOM] = _random_groups(len(x), net.dimension, max(dims), draws, seed)
    plain = deepfool_by(deepfool, net, x, batch_size=size)
    result = _Arrays(x, list(groups), dims, examples)
    attack = partial(_attack, net, x, centre, examples, deepfool, size)
    with tqdm(
        total=len(groups) * len(dims) * len(x),
        desc="confined DeepFool",
        unit="image",
        disable=not progress,
    ) as bar:
        for i, parts in enumerate(groups.values()):
            for part in parts:
                _projected_norms(result, i, part, x - centre)
        _attack_all(result, groups, dims, attack, keep, lambda: bar.update(len(x)))
    attacked = np.where(result.sizes > 0, 1.0, np.nan)
    values = result.values | {
        "converged_share": result.values["converged"].mean(axis=2) * attacked,
        "plain_norm": plain.norm,
        "plain_converged": plain.converged,
        "source": plain.source,
        "flat_law": np.sqrt(net.dimension / np.array(dims))[:, None] * plain.norm.cpu().numpy(),
        "centred_norm": (x - centre).flatten(1).norm(dim=1),
        "mean_image": centre,
        **_doubts({name: parts[0].nested for name, parts in groups.items()}, dims),
    }
    ds = described(SCHEMA, values)
    told = {name: nested.description for name, nested in families.items()}
    told[RANDOM] = f"uniformly distributed subspaces, {draws} draws over the images"
    ds["family"].attrs |= {f"family_{name}": description for name, description in told.items()}
    return ds


def _attack_all(
    result: _Arrays,
    groups: Mapping[str, list[_Group]],
    dims: Sequence[int],
    attack: Callable[[list[_Group], int], xr.Dataset],
    keep: Keep,
    done: Done,
) -> None:
    """Attacks in every subspace that is not that of the dimension before."""
    sizes = {name: [_size_at(parts[0].nested, d) for d in dims] for name, parts in groups.items()}
    new = [
        (i, j, name, size)
        for i, (name, own) in enumerate(sizes.items())
        for j, size in enumerate(own)
        if size > 0 and not (j > 0 and size == own[j - 1])
    ]
    parts = {f"{name}-{dims[j]}": partial(attack, groups[name], size) for _, j, name, size in new}
    for (i, j, _, size), ds in zip(new, keep.each(parts, done), strict=True):
        result.put(i, j, size, ds)
    for i, own in enumerate(sizes.values()):
        for j in range(1, len(own)):
            if 0 < own[j] == own[j - 1]:
                result.repeat(i, j)
                done()


class _Arrays:
    """The variables of the result, family by family and d by d."""

    def __init__(self, x: Tensor, names: list[str], dims: list[int], examples: int) -> None:
        shape = (len(names), len(dims), len(x))
        real = x.cpu().numpy().dtype
        image = x[:examples].cpu().numpy()
        pictures = (*shape[:2], *image.shape)
        self.values: dict[str, Any] = {
            "norm": np.full(shape, np.nan, real),
            "converged": np.zeros(shape, dtype=bool),
            "label": np.full(shape, -1, dtype=np.int64),
            "iterations": np.full(shape, -1, dtype=np.int64),
            "projected_norm": np.full(shape, np.nan, real),
            "subspace_dimension": np.zeros(shape[:2], dtype=np.int64),
            "example_image": image,
            "example_perturbation": np.full(pictures, np.nan, real),
            "example_projection": np.full(pictures, np.nan, real),
            "family": names,
            "d": dims,
        }
        self.sizes = self.values["subspace_dimension"]

    def put(self, i: int, j: int, size: int, found: xr.Dataset) -> None:
        """The attacks of one family at one d, in subspaces of `size` dimensions."""
        self.sizes[i, j] = size
        for name, stored in _MEASURED.items():
            self.values[name][i, j] = found[stored].to_numpy()

    def repeat(self, i: int, j: int) -> None:
        """The d before this one had the same subspaces."""
        for name in ("subspace_dimension", *_MEASURED):
            self.values[name][i, j] = self.values[name][i, j - 1]


def _size_at(nested: NestedSubspaces, d: int) -> int:
    """Dimensions of the largest step of at most d dimensions; 0 if there is none.

    A family that ends below d has none, so that its last subspace is not repeated.
    """
    sizes = nested.sizes
    return int(sizes[sizes <= d].max()) if d <= sizes[-1] else 0


def _projected_norms(result: _Arrays, i: int, part: _Group, centred: Tensor) -> None:
    """||Q Q^T (x - mean)|| of one group at all d, from one projection on the whole basis."""
    flat = centred.flatten(1)[part.images.to(centred.device)]
    squares = (flat @ part.nested.basis.to(flat)).double() ** 2
    lengths = squares.cumsum(1).sqrt().cpu().numpy()
    for j, d in enumerate(result.values["d"]):
        size = _size_at(part.nested, d)
        if size > 0:
            result.values["projected_norm"][i, j, part.images.numpy()] = lengths[:, size - 1]


def _attack(
    net: Classifier,
    x: Tensor,
    centre: Tensor,
    examples: int,
    search: DeepFoolSettings,
    batch_size: int,
    parts: Sequence[_Group],
    size: int,
) -> xr.Dataset:
    """DeepFool of each group's images in the group's subspace of `size` dimensions."""
    number = torch.cat([part.images for part in parts])
    columns: dict[str, list[Tensor]] = {name: [] for name in _PARTS}
    for part in parts:
        subspace = part.nested.subspace(int(np.searchsorted(part.nested.sizes, size)))
        subspace = subspace.to(x.device, x.dtype)
        chosen = x[part.images.to(x.device)]
        found = deepfool_by(search, net, chosen, subspace=subspace, batch_size=batch_size)
        shown = (part.images < examples).to(x.device)
        projection = centre + subspace.project(chosen[shown] - centre)
        values = (found.norm, found.converged, found.label, found.iterations)
        for name, value in zip(_PARTS, (*values, found.delta[shown], projection), strict=True):
            columns[name].append(value)
    order = number.argsort()
    first = number[number < examples].argsort()
    ordered = {
        name: torch.cat(values).cpu()[first if name in _SHOWN else order].numpy()
        for name, values in columns.items()
    }
    dims = {name: ("example", *IMAGE) if name in _SHOWN else ("sample",) for name in ordered}
    return xr.Dataset({name: (dims[name], values) for name, values in ordered.items()})


def _random_groups(n: int, dimension: int, most: int, draws: int, seed: int) -> list[_Group]:
    """Image i in random subspaces number i mod draws, each uniformly distributed."""
    groups = []
    for draw, stream in enumerate(np.random.default_rng(seed).spawn(min(draws, n))):
        # The span of the first d Gaussian columns is uniformly distributed for every d.
        nested = NestedSubspaces(stream.standard_normal((dimension, most)))
        groups.append(_Group(torch.arange(draw, n, draws), nested))
    return groups


def _check_dimensions(dimensions: Sequence[int] | None, most: int) -> list[int]:
    if dimensions is None:
        return sorted({round(float(d)) for d in np.geomspace(1, most, _GRID)})
    dims = sorted({int(d) for d in dimensions})
    if not dims or dims[0] < 1 or dims[-1] > most:
        raise InputError(
            f"dimensions={list(dimensions)}: expected at least one d from 1 to {most}, the "
            "dimension D of the images. Leave out the others."
        )
    return dims


def _check(
    net: Classifier, families: Mapping[str, NestedSubspaces], draws: int, examples: int
) -> None:
    if RANDOM in families:
        raise InputError(
            f"families: the name {RANDOM!r} is kept for the random subspaces that are added here. "
            "Give yours another name."
        )
    for name, nested in families.items():
        if nested.ambient_dimension != net.dimension:
            raise InputError(
                f"families: {name!r} lies in {nested.ambient_dimension} dimensions, images of "
                f"network {net.name!r} have {net.dimension}. Take the directions of this network."
            )
    check_counts(draws=draws, examples=examples)


def _doubts(families: Mapping[str, NestedSubspaces], dims: Sequence[int]) -> dict[str, Any]:
    """Doubt of every family at its largest step of at most d dimensions."""
    steps = {
        name: (np.searchsorted(nested.sizes, dims, side="right") - 1).tolist()
        for name, nested in families.items()
    }
    return doubt.family_variables(families, steps)
