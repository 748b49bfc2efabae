"""Claims about universal perturbations and the geometry behind them.

"Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017) and "The geometry of
adversarial perturbations" (the two texts about it that the project started from).
"""

import math

import numpy as np
import xarray as xr

from geomadv.claims.claim import SHARE, Array, Claim, Measured, NotMeasured, Resamples
from geomadv.claims.measures import above_zero, at, images_of, marginal, mean, reached
from geomadv.labels import percent

_PAPER = "Moosavi-Dezfooli et al. 2017"
# "A few hundred images".
_FEW = 500
# Ends of an effective number, and of a difference of two rates.
_ONE_OR_MORE, _EXCESS = (1.0, math.inf), (-1.0, 1.0)
_NO_MORE = "the perturbation fools no more than random ones"


class _Searched:
    """Fooling rates of `universal` on held-out images, on all resamples.

    Raises:
        NotMeasured: that of the largest sample set is not above that of random perturbations.
    """

    def __init__(self, ds: xr.Dataset, resamples: Resamples) -> None:
        fooled = (ds["label"] != ds["prediction"]) & (ds["label"] >= 0)
        images = ds.sizes["held_out_sample"]
        weights, draws = resamples.weights(images), resamples.weights(ds.sizes["draw"], 1)
        self.count = images_of(weights)
        self.rate = resamples.share(mean(weights, fooled.mean("repeat").to_numpy()), images)
        random = mean(draws, ds["random_fooling_rate"].to_numpy())
        self.random = resamples.share(random, images)
        above_zero(self.rate - self.random, _NO_MORE)


def _held_out(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Fooling rate on held-out images of the perturbation of the largest sample set.

    Null: the rate on the sample set itself. Measured where it beats random perturbations.
    """
    found, last = _Searched(ds, resamples), int(ds["size"].to_numpy().argmax())
    size = int(ds["size"][last])
    own = resamples.rate(float(ds["fooling_rate"].isel(size=last).mean()), size)
    return Measured(found.rate, own, f"{found.count}, {size} in the sample")


def _few_images(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Held-out fooling rate above that of random perturbations, from at most 500 images.

    Null: the same from the largest sample set. Measured where that beats random perturbations.
    """
    size = ds["size"].to_numpy()
    few, largest = np.flatnonzero(size <= _FEW), size.max()
    if len(few) == 0 or largest <= _FEW:
        raise NotMeasured(f"sample sets both below and above {_FEW} images are needed")
    found, small = _Searched(ds, resamples), int(few[size[few].argmax()])
    rate = float(ds["held_out_fooling_rate"].isel(size=small).mean())
    part = resamples.rate(rate, ds.sizes["held_out_sample"])
    note = f"{size[small]} of {largest} images"
    return Measured(part - found.random, found.rate - found.random, found.count, note)


def _half_norm(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Norm at which a perturbation fools half of the held-out images.

    Null: that of random vectors.
    """
    ds = ds.sortby("norm")
    weights = resamples.weights(ds.sizes["held_out_sample"])
    draws = resamples.weights(ds.sizes["draw"], 1)
    share, norm = ds["fooled_share"], np.append(0, ds["norm"].to_numpy())
    by_image = {
        kind: share.sel(kind=kind).transpose("held_out_sample", "norm").to_numpy()
        for kind in ("universal", "random")
    }
    by_draw = ds["fooling_rate"].sel(kind="random").transpose("draw", "norm").to_numpy()
    curves = [
        mean(weights, by_image["universal"]),
        marginal(weights, draws, by_image["random"], by_draw),
    ]
    curves = [resamples.share(c, weights.shape[1]) for c in curves]
    effect, null = (reached(norm, np.pad(c, ((0, 0), (1, 0))), 0.5) for c in curves)
    count, typical = images_of(weights), float(ds["mean_image_norm"])
    if np.isnan(effect[0]):
        raise NotMeasured(f"it fools fewer than half up to {norm[-1] / typical:.2g} image norms")
    note = f"{percent(effect[0] / typical)} % of the images' norm"
    if np.isnan(null[0]):
        null = np.where(np.isnan(null), norm[-1], null)
        return Measured(effect, null, count, f"random vectors do not fool half; {note}", "at most")
    return Measured(effect, null, count, note)


def _transferred(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Fooling rate above that of random perturbations, mean over ordered pairs of networks.

    Null: the same of each attacked network's own perturbation. Measured where that beats random
    ones.
    """
    fooled = (ds["label"] != ds["prediction"]) & (ds["label"] >= 0)
    weights = resamples.weights(ds.sizes["sample"])
    rates = mean(weights, fooled.transpose("sample", "made_for", "network").to_numpy())
    draws, images = resamples.weights(ds.sizes["draw"], 1), weights.shape[1]
    random = mean(draws, ds["random_fooling_rate"].transpose("draw", "network").to_numpy())
    random = np.broadcast_to(resamples.share(random, images)[:, None], rates.shape)
    others = ~np.eye(rates.shape[1], dtype=bool)
    own, carried = (
        (resamples.share(rates[:, pairs], images) - random[:, pairs]).mean(1)
        for pairs in (~others, others)
    )
    above_zero(own, _NO_MORE)
    carried = resamples.paired(carried, own, images)
    return Measured(carried, own, f"{images_of(weights)}, {others.sum()} pairs")


def _labels(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Effective number of labels that fooled images get.

    One over the share of the pairs of fooled images that get the same label. Null: the same where
    every fooled image gets a label drawn uniformly from the other classes. Measured for three
    classes or more.
    """
    count = ds["count"].to_numpy()
    if len(count) < 3:
        raise NotMeasured("of two classes, each has but one label that its images can get")
    moved = (count - np.diag(np.diag(count))).sum(0)
    weights = resamples.weights(int(moved.sum()))
    label = np.repeat(np.eye(len(moved)), moved, axis=0)
    squares = (weights**2).sum(1)
    pairs = ((weights @ label) ** 2).sum(1) - squares
    with np.errstate(divide="ignore"):
        effect = (weights.sum(1) ** 2 - squares) / pairs
    draws = resamples.weights(ds.sizes["draw"], 1)
    null = 1 / mean(draws, 1 / ds["uniform_effective_labels"].to_numpy())
    return Measured(effect, null, f"{weights.shape[1]} fooled images")


def _alike(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """One over the mean squared cosine of the normals at two boundary points.

    The number of orthogonal directions that are so much alike when all are used equally. Null: D,
    as of uniform directions.
    """
    cosines = ds["squared_cosine"].to_numpy()
    weights = resamples.weights(len(cosines))
    # A mean over pairs varies twice as much as one over points.
    both = cosines.mean() + 2 * (mean(weights, cosines) - cosines.mean())
    dimension = np.prod([ds.sizes[name] for name in ("channel", "row", "column")])
    effect = np.where(both <= 0, np.inf, 1 / np.where(both <= 0, 1, both))  # NaN stays NaN
    return Measured(effect, float(dimension), f"{len(cosines)} points")


# "The leading subspace": the fewest directions visited with so much of the normals' energy; and
# where its vectors are tried.
_ENERGY, _FOOLED = 0.5, 0.1


def _subspace(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Fooling rate of random vectors from the normals' leading subspace.

    Of the smallest m visited that holds half of the normals' energy, at the norm where uniform
    vectors fool a tenth. Null: these.
    """
    energy = ds["energy_share"].to_numpy()
    if not (energy >= _ENERGY).any():
        raise NotMeasured(f"the m visited hold up to {100 * energy.max():.0f} % of the energy")
    m = int(np.flatnonzero(energy >= _ENERGY)[ds["m"].to_numpy()[energy >= _ENERGY].argmin()])
    weights = resamples.weights(ds.sizes["sample"])
    ds = ds.sortby("norm")
    norm = np.append(0, ds["norm"].to_numpy())
    curves = []
    for part, name in ((ds, "uniform_"), (ds.isel(m=m), "")):
        by_image = part[f"{name}fooled_share"].transpose("sample", "norm").to_numpy()
        by_draw = part[f"{name}fooling_rate"].transpose("draw", "norm").to_numpy()
        draws = resamples.weights(len(by_draw), 1)
        rates = marginal(weights, draws, by_image, by_draw)
        curves.append(np.pad(resamples.share(rates, weights.shape[1]), ((0, 0), (1, 0))))
    where = reached(norm, curves[0], _FOOLED)
    if np.isnan(where[0]):
        raise NotMeasured("uniform vectors fool fewer than a tenth at all norms")
    null = np.where(np.isnan(where), np.nan, _FOOLED)
    relative = where[0] / float(ds["mean_image_norm"])
    note = f"m = {int(ds['m'][m])}, norm {percent(relative)} % of the images'"
    return Measured(_inside(norm, curves[1], where), null, images_of(weights), note)


def _inside(norm: Array, curves: Array, where: Array) -> Array:
    return at(norm, curves, np.where(np.isnan(where), norm[-1], where))


UNIVERSAL: tuple[Claim, ...] = (
    Claim(
        "held_out_rate",
        f"{_PAPER}, §3",
        "held-out images are fooled nearly as often as those of the sample set",
        "universal",
        "fooling rate",
        "sample set",
        _held_out,
        "minus",
        ">=",
        -0.1,
        ends=SHARE,
    ),
    Claim(
        "few_images",
        f"{_PAPER}, §3",
        "a few hundred images suffice for a third of what many give",
        "universal",
        f"fooling rate above random, from at most {_FEW} images",
        "largest sample set",
        _few_images,
        "over",
        ">=",
        1 / 3,
        ends=_EXCESS,
    ),
    Claim(
        "universal_norm",
        f"{_PAPER}, §4",
        "universal perturbations fool half of the images at a far smaller norm than random ones",
        "norm_comparison",
        "norm that fools half (image units)",
        "random vectors",
        _half_norm,
        "over",
        "<=",
        0.5,
    ),
    Claim(
        "transfer",
        f"{_PAPER}, §3",
        "universal perturbations carry over to other networks",
        "transfer",
        "fooling rate above random",
        "the network's own perturbation",
        _transferred,
        "over",
        ">=",
        0.5,
        ends=_EXCESS,
    ),
    Claim(
        "dominant_labels",
        f"{_PAPER}, §3",
        "few labels receive the fooled images",
        "label_graph",
        "effective number of labels",
        "uniform labels",
        _labels,
        "over",
        "<=",
        0.5,
        ends=_ONE_OR_MORE,
    ),
    Claim(
        "normals_alike",
        f"{_PAPER}, §4",
        "the boundary's normals fill few directions",
        "normal_svd",
        "effective number of directions",
        "uniform directions",
        _alike,
        "over",
        "<=",
        0.5,
        ends=_ONE_OR_MORE,
    ),
    Claim(
        "subspace_fooling",
        f"{_PAPER}, §4",
        "random vectors of the normals' subspace fool more than uniform ones (38 % against 10 %)",
        "random_subspace_fooling",
        "fooling rate",
        "uniform vectors",
        _subspace,
        "over",
        ">=",
        2.0,
        ends=SHARE,
    ),
)
