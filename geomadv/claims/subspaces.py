"""What the claims about growing subspaces and about resampling measure."""

import re

import numpy as np
import xarray as xr
from scipy.integrate import trapezoid

from geomadv.claims.claim import Array, Measured, NotMeasured, Resamples
from geomadv.claims.measures import (
    above_zero,
    at,
    images_of,
    joined,
    mean,
    need_families,
    reached,
    told,
)
from geomadv.experiments.principal.doubt import family_doubt
from geomadv.labels import percent

_ENOUGH = 0.95
# Where subspaces are compared: at half of image space, and perturbations in a quarter of it.
_HALF, _QUARTER = 0.5, 0.25
# Perturbations are compared where they are small beside the images.
_SMALL = 0.1


def dimensions(ds: xr.Dataset, resamples: Resamples, family: str) -> Measured:
    """Dimensions at which test images projected on the family have 95 % of the plain accuracy.

    Null: the same of random subspaces.
    """
    need_families(ds, family, "random")
    test = _Projected(ds, resamples)
    level = _ENOUGH * test.plain
    size, curves = test.accuracy(family)
    random_size, random = test.accuracy("random")
    effect, null = reached(size, curves, level), reached(random_size, random, level)
    known = bool(np.isfinite(effect[0]))
    last = int(np.flatnonzero(size >= effect[0])[0]) if known else len(size) - 1
    note = joined(_pca(test, level), told(family_doubt(ds, family, last)))
    if not known and np.isnan(null[0]):
        raise NotMeasured("neither these nor random directions reach it, as far as they are known")
    if not known:
        effect = np.where(np.isnan(effect), size[-1], effect)
        return Measured(
            effect, null, test.count, joined("no more directions are known", note), "at least"
        )
    if np.isnan(null[0]):
        null = np.where(np.isnan(null), random_size[-1], null)
        return Measured(effect, null, test.count, joined("random ones do not", note), "at most")
    return Measured(effect, null, test.count, note)


def _pca(test: "_Projected", level: Array) -> str:
    """How many dimensions the images' own principal components need."""
    if "image PCA" not in test.families:
        return ""
    needed = float(reached(*test.accuracy("image PCA"), level)[0])
    return f"image PCA: {needed:.3g}" if np.isfinite(needed) else ""


def flat_accuracy(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Test accuracy of images projected on flat directions of half of image space.

    Null: the same of random subspaces. Not measured where flat directions are themselves random.
    """
    need_families(ds, "flat", "random")
    if str(ds["description"].sel(family="flat").item()).startswith("random"):
        raise NotMeasured("S_flat is a random draw, since the spectrum is not known")
    test = _Projected(ds, resamples)
    half = _HALF * float(ds["image_dimension"])
    (size, curves), (random_size, random) = test.accuracy("flat"), test.accuracy("random")
    if min(size.max(initial=0), random_size.max(initial=0)) < half:
        raise NotMeasured("the dimensions visited end before half of all")
    note = told(family_doubt(ds, "flat", int(np.flatnonzero(size >= half)[0])))
    effect, null = at(size, curves, half), at(random_size, random, half)
    return Measured(effect, null, test.count, note, ends=test.ends)


def order(ds: xr.Dataset, resamples: Resamples, family: str) -> Measured:
    """Mean test accuracy over the share d / D of directions kept, in the order of the family.

    The area below the accuracy's curve, up to where both families end. Null: directions in random
    order.
    """
    need_families(ds, family, "random")
    kind = str(ds["description"].sel(family=family).item())
    if kind.startswith("random"):
        raise NotMeasured("trailing directions are a random draw, since D is too large")
    test = _Projected(ds, resamples)
    each = [test.accuracy(name) for name in (family, "random")]
    last = min(size[-1] for size, _ in each)
    found = []
    for size, curves in each:
        inside = size <= last
        if inside.sum() < 2:
            raise NotMeasured("at fewer than two dimensions, so that there is no mean over them")
        area = trapezoid(curves[:, inside], size[inside], axis=1)
        found.append(area / (size[inside][-1] - size[0]))
    return Measured(found[0], found[1], test.count, _drawn(kind), ends=test.ends)


def _drawn(kind: str) -> str:
    """What the description of a family says of random directions among its own."""
    part = re.search(r"\((\d+ of them random[^)]*)\)", kind)
    return f"trailing directions: {part[1]}" if part else ""


class _Projected:
    """Test accuracies of projected images, on all resamples.

    Raises:
        NotMeasured: the network is no better than always its most frequent class.
    """

    def __init__(self, ds: xr.Dataset, resamples: Resamples) -> None:
        split = ds["split"].to_numpy().tolist().index("test")
        self._number = np.flatnonzero(ds["sample_split"].to_numpy() == split)
        self._ds, self._resamples = ds, resamples
        self.weights = resamples.weights(len(self._number))
        self.count, self.families = images_of(self.weights), ds["family"].to_numpy().tolist()
        self._label = ds["label"].to_numpy()[self._number]
        hit = ds["clean_prediction"].to_numpy()[self._number] == self._label
        self.plain = resamples.share(mean(self.weights, hit), len(hit))
        constant = float(ds["constant_accuracy"].sel(split="test"))
        above_zero(self.plain - constant, "the network is no better than its most frequent class")
        # A network that sees nothing always predicts one class, at the least the rarest one.
        rarest = np.unique(self._label, return_counts=True)[1].min() / len(self._label)
        self.ends = (float(rarest), float(self.plain[0]))

    def accuracy(self, family: str) -> tuple[Array, Array]:
        """Dimensions (k,), and accuracies (rows, k); of a family of several draws, these too."""
        one = self._ds.sel(family=family)
        known = one["subspace_dimension"].notnull().to_numpy()
        predicted = one["prediction"].transpose("d", "sample").to_numpy()[known][:, self._number]
        weights, draws = self.weights, int(one["draws"])
        if draws > 1:
            of_draws = self._resamples.weights(draws, 1)
            weights = weights * of_draws[:, self._number % draws]
        size = one["subspace_dimension"].to_numpy()[known].astype(np.float64)
        accuracy = mean(weights, (predicted == self._label).T)
        return size, self._resamples.share(accuracy, len(self._number))


def curved_norm(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Mean share of DeepFool's squared norm in S_neg∪pos of a quarter of all dimensions.

    Where fewer are known, in those. Null: the share of the dimensions, as of random directions.
    """
    need_families(ds, "both")
    one = ds.sel(family="both")
    share = one["random_fraction"].to_numpy() ** 2
    known = np.isfinite(share)
    energy = one["fraction"].sel(kind="DeepFool").transpose("sample", "d").to_numpy()[:, known] ** 2
    energy = energy[np.isfinite(energy).all(1)]
    weights, share = resamples.weights(len(energy)), share[known]
    where = min(_QUARTER, float(share[-1]))
    if where == 0:
        raise NotMeasured("no S_neg∪pos of any dimension is stored")
    few = "" if where == _QUARTER else f"in {percent(where)} % of the dimensions, no more known"
    last = int(np.flatnonzero(known)[np.flatnonzero(share >= where)[0]])
    note = joined(few, told(family_doubt(ds, "both", last)))
    return Measured(at(share, mean(weights, energy), where), where, images_of(weights), note)


def confined(ds: xr.Dataset, resamples: Resamples, null: str) -> Measured:
    """Norm of DeepFool confined to leading directions of the perturbations.

    Geometric mean over d up to D / 2, where at least half of the images converge in both
    subspaces, and over these images. Null: the same in subspaces of equal d of the other kind.
    """
    need_families(ds, "hi", null)
    dimension, size = ds["mean_image"].size, ds["subspace_dimension"]
    kind = str(ds["family"].attrs.get(f"family_{null}", ""))
    if null != "random" and kind.startswith("random"):
        raise NotMeasured("trailing directions are a random draw, since D is too large")
    pair = ds.sel(family=["hi", null])
    same = size.sel(family="hi") == size.sel(family=null)
    both = (pair["converged"] == 1).all("family")
    used = (same & (ds["d"] <= _HALF * dimension) & (both.mean("sample") >= 0.5)).to_numpy()
    if not used.any():
        raise NotMeasured("at no d up to D / 2 have half of the images converged in both")
    fine = both.transpose("sample", "d").to_numpy()[:, used]
    images = fine.any(1)
    fine, weights = fine[images], resamples.weights(int(images.sum()))
    norms = pair["norm"].transpose("sample", "family", "d").to_numpy()[images][..., used]
    sums = mean(weights, np.log(norms, where=fine[:, None], out=np.zeros_like(norms)).sum(2))
    found = np.exp(sums / mean(weights, fine.sum(1))[:, None])
    count = f"{images_of(weights)}, {used.sum()} dimensions"
    return Measured(found[:, 0], found[:, 1], count, _drawn(kind))


def rescaled(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Fooling rate of f r on the resampled network, the smallest one of all d_low.

    At the largest factor f with a mean norm f ||r|| of at most a tenth of the images'. Null: random
    perturbations of the same norms, at the same d_low.
    """
    converged = ds["converged"].to_numpy() == 1
    one = ds.isel(sample=converged)
    weights = resamples.weights(one.sizes["sample"])
    relative = float(one["norm"].mean() / one["image_norm"].mean())
    small = ds["factor"].to_numpy() * relative <= _SMALL
    if not small.any():
        raise NotMeasured(f"the perturbations alone are {percent(relative)} % of the images' norm")
    factor = float(ds["factor"].to_numpy()[small].max())
    smoothed = (abs(one["resampled_norm"] - one["norm"]) > 1e-5 * one["norm"]).any("sample")
    if not bool(smoothed.any()):
        raise NotMeasured("no image was made smaller")
    at_factor = one.isel(d_low=smoothed.to_numpy()).sel(factor=factor)
    rates = []
    for name in ("perturbed_label", "noise_label"):
        changed = (at_factor[name] != at_factor["clean_label"]) & (at_factor[name] >= 0)
        rate = mean(weights, changed.transpose("sample", "d_low").to_numpy())
        rates.append(resamples.share(rate, weights.shape[1]))
    worst = rates[0].argmin(1)[:, None]
    effect, null = (np.take_along_axis(rate, worst, 1)[:, 0] for rate in rates)
    effect = resamples.paired(effect, null, weights.shape[1])
    note = f"f = {factor:g}, {percent(factor * relative)} % of the images' norm"
    return Measured(effect, null, images_of(weights), note)
