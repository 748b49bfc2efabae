"""Claims about linear boundaries: the tilting plane and the last layer."""

from functools import partial

import numpy as np
import xarray as xr

from geomadv.claims.claim import SHARE, Claim, Measured, NotMeasured, Resamples, enough
from geomadv.claims.measures import images_of, mean
from geomadv.experiments.linear.hyperplanes import as_good_as_the_best

_TANAY = "Tanay and Griffin 2016"
_ZOU = "Zou et al."
# "Small input perturbations", as a share of the mean image norm.
_SMALL = 0.1


def _tilt(ds: xr.Dataset, resamples: Resamples, norm: bool) -> Measured:
    """Two classifiers of equal error: the least and the most regularised one.

    Those with the largest and smallest C whose test error is within one standard error of the
    best. Angle between weight and centroid direction, the most regularised one being the null; or
    mean norm of the smallest adversarial perturbation of images classified correctly, the least
    regularised one being the null.
    """
    usable = ds.isel(C=np.flatnonzero(np.isfinite(ds["angle"].to_numpy()))).sortby("C")
    angle = np.degrees(usable["angle"].to_numpy())
    if len(angle) < 3 or np.ptp(angle) == 0:
        raise NotMeasured("fewer than three values of C gave a usable, different boundary")
    weights = resamples.weights(ds.sizes["test"])
    distance = usable["test_distance"].transpose("test", "C").to_numpy()
    second = usable["test_label"].to_numpy() == np.asarray(ds.attrs["pair"])[1]
    right = (distance > 0) == second[:, None]
    error, count = 1 - mean(weights, right), len(right)
    good = as_good_as_the_best(error, count)
    row, strong, weak = np.arange(len(good)), good.argmax(1), -1 - good[:, ::-1].argmax(1)
    values, used = np.broadcast_to(angle, error.shape), count
    if norm:
        used = int(right[:, [strong[0], weak[0]]].any(1).sum())
        enough(used)
        values = mean(weights, np.where(right, np.abs(distance), np.nan))
    ends = values[row, strong], values[row, weak]
    c = usable["C"].to_numpy()
    note = f"C from {c[strong[0]]:.2g} to {c[weak[0]]:.2g}"
    return Measured(*(ends if norm else ends[::-1]), f"{used} images", note)


def _visible(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Share of the squared feature change that the last layer sees, mean over perturbations.

    Of DeepFool. Null: the smaller one of that of equally long noise and of the share of visible
    dimensions.
    """
    features = ds.sizes["feature"]
    hidden = int(ds["adversarial_dimension"])
    if hidden == 0:
        raise NotMeasured("there are no adversarial directions")
    one = ds.isel(sample=np.flatnonzero(ds["perturbation_converged"].to_numpy() == 1))
    weights = resamples.weights(one.sizes["sample"])
    effect, noise = (
        1 - mean(weights, one[name].to_numpy()) for name in ("hidden_share", "noise_hidden_share")
    )
    return Measured(effect, np.minimum(noise, 1 - hidden / features), images_of(weights))


def _parallel(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Smallest angle between two boundaries of the layer, in degrees.

    Null: the same of Gaussian weights of the same shape.
    """
    effect, null = (
        np.degrees(np.arccos(np.minimum(ds[name].max("relation").to_numpy(), 1)))
        for name in ("parallel_cosine", "random_parallel_cosine")
    )
    return Measured(float(effect), mean(resamples.weights(len(null)), null), f"{len(null)} draws")


def _collisions(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Share of pairs made to collide at the largest radius up to a tenth of the images' norm.

    Null: random images at that radius.
    """
    relative = (ds["epsilon"] / ds["mean_image_norm"]).to_numpy()
    # The radii were made from these shares and go back to them by rounding.
    small = np.flatnonzero(relative <= _SMALL * (1 + 1e-6))
    if len(small) == 0:
        raise NotMeasured(f"no radius is at most {_SMALL} of the images' norm")
    one, count = ds.isel(epsilon=small[relative[small].argmax()]), ds.sizes["pair"]
    effect, null = (
        resamples.rate(float(one[name].mean()), count) for name in ("collision", "noise_collision")
    )
    return Measured(effect, null, f"{count} pairs")


def _null_space(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Dimension of the adversarial directions. Null: the published bound l - m."""
    del resamples
    return Measured(float(ds["adversarial_dimension"]), float(ds["published_bound"]), "exact")


def _softmax_change(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Largest change of the softmax along adversarial directions. Null: its rounding bound."""
    del resamples
    if ds.sizes.get("adversarial", 0) == 0:
        raise NotMeasured("there are no adversarial directions")
    shares = ds["softmax_change"] / ds["rounding_bound"]
    if not shares.notnull().any():
        raise NotMeasured("no change of the softmax is a number")
    worst = shares.argmax(...)
    effect, null = (float(ds[name].isel(worst)) for name in ("softmax_change", "rounding_bound"))
    return Measured(effect, null, f"{ds.sizes['sample']} images")


def _unbounded(ds: xr.Dataset, resamples: Resamples) -> Measured:
    """Class regions that are unbounded. Null: all classes."""
    del resamples
    return Measured(float(ds["region_unbounded"].sum()), float(ds.sizes["class"]), "exact")


LINEAR: tuple[Claim, ...] = (
    Claim(
        "tilt_angle",
        f"{_TANAY}, tilting",
        "regularisation decides how far the boundary tilts, at the same error",
        "tilting_plane",
        "deviation angle (degree)",
        "most regularised of equal error",
        partial(_tilt, norm=False),
        "minus",
        ">=",
        10.0,
    ),
    Claim(
        "tilt_norm",
        f"{_TANAY}, tilting",
        "regularisation decides how large adversarial perturbations are, at the same error",
        "tilting_plane",
        "mean adversarial norm (image units)",
        "least regularised of equal error",
        partial(_tilt, norm=True),
        "over",
        ">=",
        2.0,
    ),
    Claim(
        "hidden_change",
        f"{_ZOU}, definition 1",
        "adversarial perturbations move features along adversarial directions",
        "softmax_directions",
        "share of the feature change that the last layer sees",
        "noise and the share of dimensions",
        _visible,
        "over",
        "<=",
        0.5,
        ends=SHARE,
    ),
    Claim(
        "not_parallel",
        f"{_ZOU}, definition 2",
        "no two boundaries of the layer are nearly parallel",
        "softmax_directions",
        "smallest angle between two boundaries (degree)",
        "random weights",
        _parallel,
        "over",
        ">=",
        0.5,
    ),
    Claim(
        "collisions",
        f"{_ZOU}, conjecture",
        "small input perturbations reach another image's features up to an adversarial direction",
        "softmax_directions",
        "share of random pairs within a tenth of the images' norm",
        "random images at that radius",
        _collisions,
        "minus",
        ">=",
        0.5,
        ends=SHARE,
    ),
    Claim(
        "null_space",
        f"{_ZOU}, theorem 1",
        "the last layer has at least l - m adversarial directions",
        "softmax_directions",
        "their dimension",
        "published bound l - m",
        _null_space,
        "minus",
        ">=",
        0.0,
        of_mathematics=True,
    ),
    Claim(
        "softmax_unchanged",
        f"{_ZOU}, theorem 1",
        "moving features along an adversarial direction leaves the softmax unchanged",
        "softmax_directions",
        "largest change of the softmax",
        "its rounding bound",
        _softmax_change,
        "over",
        "<=",
        1.0,
        of_mathematics=True,
    ),
    Claim(
        "unbounded_regions",
        f"{_ZOU}, theorem 2",
        "every class region is unbounded",
        "softmax_directions",
        "class regions that are unbounded",
        "all classes",
        _unbounded,
        "minus",
        ">=",
        0.0,
        of_mathematics=True,
    ),
)
