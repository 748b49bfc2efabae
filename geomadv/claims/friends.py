"""Claims of "With Friends Like These, Who Needs Adversaries?" (Jetley, Lord and Torr, 2018)."""

from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import spearmanr

from geomadv.claims.claim import Claim, Measured, NotMeasured
from geomadv.experiments.principal.doubt import family_doubt, line_doubt
from geomadv.linalg.doubt import Doubt

_PAPER = "Jetley et al. 2018"


def _flat_gain(ds: xr.Dataset) -> Measured:
    """Best accuracy on S_flat up to half of image space, between chance (0) and full (1)."""
    _need_families(ds, "flat")
    test = ds.sel(split="test", family="flat")
    low, high = float(test["constant_accuracy"]), float(test["plain_accuracy"])
    if high <= low:
        raise NotMeasured("the network is no better than always its most frequent class")
    size = test["subspace_dimension"]
    fitting = (size > 0) & (size <= ds["image_dimension"] / 2)
    best = float(test["accuracy"].where(fitting).max())
    told = _told(family_doubt(ds, "flat", _last(fitting)))
    note = _joined(str(ds["description"].sel(family="flat").item()), told)
    return Measured((best - low) / (high - low), note)


def _share_for_accuracy(ds: xr.Dataset, family: str) -> Measured:
    """Smallest share of the dimensions on which a family reaches 95 % of the plain accuracy."""
    _need_families(ds, family)
    test = ds.sel(split="test", family=family)
    enough = test["accuracy"] >= 0.95 * test["plain_accuracy"]
    share = test["subspace_dimension"] / ds["image_dimension"]
    if bool(enough.any()):
        told = _told(family_doubt(ds, family, int(np.nanargmin(share.where(enough)))))
        return Measured(float(share.where(enough).min()), told)
    note = _joined("no more directions are known", _told(family_doubt(ds, family)))
    return Measured(float(share.max()), note, at_least=True)


def _rising_score(ds: xr.Dataset) -> Measured:
    """Rank correlation of the target score with the distance from its lowest point.

    The smaller one of the two sides of that point (a side needs three scales), median over classes.
    """
    _need_families(ds, "positive")
    score = ds["target_score"].sel(population="other classes", family="positive", quantile=0.5)
    curves = score.isel(direction=0).transpose("class", "scale").to_numpy()
    told = _told(line_doubt(ds.sel(family=["positive"]).isel(direction=[0])))
    rises = [_rise(ds["scale"].to_numpy(), curve) for curve in curves]
    return Measured(float(np.median(rises)), told)


def _rise(scale: NDArray[np.floating], score: NDArray[np.floating]) -> float:
    lowest = int(score.argmin())
    sides = [side for side in (slice(lowest, None), slice(lowest + 1)) if len(score[side]) >= 3]
    if not sides:
        raise NotMeasured("fewer than three scales on either side of the lowest score")
    return float(
        np.min([_rank_correlation(np.abs(scale[s] - scale[lowest]), score[s]) for s in sides])
    )


def _kept_on_flat(ds: xr.Dataset) -> Measured:
    """Share of predictions that flat directions leave alone, over all classes and scales."""
    _need_families(ds, "flat")
    kept = ds["prediction"].sel(family="flat") == ds["source"]
    return Measured(float(kept.mean()), _told(line_doubt(ds.sel(family=["flat"]))))


def _curved_fraction(ds: xr.Dataset) -> Measured:
    """Mean share of DeepFool's norm in the largest S_neg∪pos of at most half of image space.

    Where S_neg∪pos ends far below, the share in half of image space is at least that.
    """
    _need_families(ds, "both")
    # A random direction has sqrt(dim S_d / D) of its norm in S_d.
    random = ds["random_fraction"].sel(family="both")
    fitting = (random > 0) & (random <= np.sqrt(0.5))
    if not bool(fitting.any()):
        raise NotMeasured("no S_neg∪pos of at most half of the dimensions is stored")
    last = int(np.flatnonzero(fitting.to_numpy())[-1])
    value = float(ds["mean_fraction"].sel(kind="DeepFool", family="both").isel(d=last))
    share = float(random[last]) ** 2
    whole = bool((random >= np.sqrt(0.5)).any())
    note = "" if whole else f"in {100 * share:.0f} % of the dimensions, no more are known"
    note = _joined(note, _told(family_doubt(ds, "both", last)))
    return Measured(value, note, at_least=not whole)


def _twin_difference(ds: xr.Dataset) -> float:
    """Mean difference over d of the test accuracies on S_hi and S_lo of the perturbations."""
    high, low = "perturbation_hi", "perturbation_lo"
    _need_families(ds, high)
    _need_families(ds, low)
    test = ds["accuracy"].sel(split="test")
    return float((test.sel(family=high) - test.sel(family=low)).mean())


def _confined_against_projected(ds: xr.Dataset) -> Measured:
    """Rank correlation over d of the mean confined norm and the mean projected image norm.

    Over the d at which at least half of the images converged: a mean over the few that do is one
    of the easy images only.
    """
    _need_families(ds, "positive")
    one = ds.sel(family="positive")
    converged = one["converged"] == 1
    enough = converged.mean("sample") >= 0.5
    confined = one["norm"].where(converged & enough).mean("sample").to_numpy()
    projected = one["projected_norm"].mean("sample").to_numpy()
    known = np.isfinite(confined) & np.isfinite(projected)
    if known.sum() < 3:
        raise NotMeasured("at fewer than three d have half of the images converged")
    told = _told(family_doubt(ds, "positive", int(np.flatnonzero(known)[-1])))
    return Measured(_rank_correlation(projected[known], confined[known]), told)


def _restored_fooling(ds: xr.Dataset) -> float:
    """Smallest fooling rate over d_low at the largest factor."""
    return float(ds["fooling_rate"].isel(factor=int(ds["factor"].to_numpy().argmax())).min())


def _told(doubt: Doubt) -> str:
    """What is to be said of curved directions; a claim on mostly no eigenvectors is not answered.

    Raises:
        NotMeasured: most of the directions are no eigenvectors.
    """
    if doubt.mostly_none:
        raise NotMeasured(f"the directions are not those of the claim: {doubt.words}")
    return doubt.words


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _last(fitting: xr.DataArray) -> int:
    """Position of the last d that fits, else of the first one."""
    return max(np.flatnonzero(fitting.to_numpy()).tolist(), default=0)


def _need_families(ds: xr.Dataset, family: str) -> None:
    if family not in ds["family"].to_numpy().tolist():
        raise NotMeasured(f"the result holds no family {family!r}")


def _rank_correlation(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    return float(spearmanr(x, y).statistic)


FRIENDS: tuple[Claim, ...] = (
    Claim(
        f"{_PAPER}, Fig. 3",
        "S_flat stays near chance until d approaches D",
        "subspace_accuracy",
        "gain over chance on at most D/2 flat directions (0: chance, 1: full)",
        _flat_gain,
        "<=",
        0.1,
    ),
    *(
        Claim(
            f"{_PAPER}, Fig. 3",
            f"{name} reaches 95 % of full accuracy within a small share of D",
            "subspace_accuracy",
            "smallest sufficient share of D",
            partial(_share_for_accuracy, family=family),
            "<=",
            0.25,
        )
        for name, family in (("S_pos", "positive"), ("S_neg", "negative"))
    ),
    Claim(
        f"{_PAPER}, Fig. 2",
        "sweeps along positive directions raise the target class monotonically",
        "direction_sweep",
        "rank correlation of target score and distance from its minimum, median over classes",
        _rising_score,
        ">=",
        0.9,
    ),
    Claim(
        f"{_PAPER}, supplement",
        "flat directions leave predictions alone",
        "direction_sweep",
        "share of predictions kept over all scales",
        _kept_on_flat,
        ">=",
        0.9,
    ),
    Claim(
        f"{_PAPER}, Fig. 3",
        "most of DeepFool's norm lies in the curved subspace",
        "norm_fractions",
        "share of the norm in S_neg∪pos of at most D/2 dimensions",
        _curved_fraction,
        ">=",
        0.9,
    ),
    Claim(
        f"{_PAPER}, Fig. 4",
        "leading directions of the perturbations carry the accuracy, trailing ones do not",
        "first_order_twin",
        "mean difference of the accuracies on S_hi and S_lo over d",
        _twin_difference,
        ">=",
        0.1,
    ),
    Claim(
        f"{_PAPER}, Fig. 5",
        "confined norms fall as projected image norms rise",
        "confined_deepfool",
        "rank correlation of the two mean norms over d where most images converge",
        _confined_against_projected,
        "<=",
        -0.9,
    ),
    Claim(
        f"{_PAPER}, Table 1",
        "scaling the perturbation restores the fooling rate after resampling",
        "resampling",
        "smallest fooling rate at the largest factor",
        _restored_fooling,
        ">=",
        0.8,
    ),
)
