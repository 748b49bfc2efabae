"""What lies in the curved, the flat and the leading directions: accuracy, norms, attacks."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.experiments.subspaces.sweep import default_dimensions
from geomadv.linalg import NestedSubspaces
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import LARGE_IMAGE, Bound, Count, Counts
from geomadv.pipeline.work import FORWARD, GRADIENT, Case, Unit, Walk, Work

# Directions of first and second order beyond D = 4,096, in a plan; and dimensions of a subspace
# beyond which a plan takes a confined walk for an unconfined one.
_SINGULAR, _CONFINING = 1000, 8


@dataclass(frozen=True, kw_only=True)
class SubspaceAccuracy:
    """Accuracy of images projected on the curved and on the flat directions of all classes."""

    count: int | None = None
    """Images of either split; default: 10,000, for images of over 1,024 numbers 1,000, of over
    4,096 numbers 200."""
    dimensions: Annotated[tuple[int, ...], Bound(0)] = ()
    """The d to visit, directions per class; default: all where few, else about 50."""


@dataclass(frozen=True, kw_only=True)
class FirstOrderTwin:
    """Accuracy of images projected on the singular vectors of perturbations and of normals."""

    count: int | None = None
    """Images of either split; default: 10,000, for images of over 1,024 numbers 1,000, of over
    4,096 numbers 200."""
    dimensions: Annotated[tuple[int, ...], Bound(0)] = ()
    """The d to visit, directions in all; default: all where few, else about 50."""


Projections = TypeVar("Projections", SubspaceAccuracy, FirstOrderTwin)

# Images of a sweep of some hundred passes: (largest number of pixel values, images).
_PROJECTED_IMAGES = ((1024, 10_000), (LARGE_IMAGE, 1_000), (math.inf, 200))


def _affordable(s: Projections, net: Classifier) -> Projections:
    """As many images as a sweep of some hundred passes affords on a CPU."""
    affordable = next(n for most, n in _PROJECTED_IMAGES if net.dimension <= most)
    return replace(s, count=affordable if s.count is None else s.count)


def subspace_accuracy(
    run: Run,
    s: SubspaceAccuracy,
    test: ga.ImageSet,
    train: ga.ImageSet,
    all_train: ga.ImageSet,
    curvature: xr.Dataset,
) -> xr.Dataset:
    """Train and test accuracy on S_pos, S_neg, both, S_flat and baselines for growing d."""
    families = _compared(run, curvature, all_train)
    return _accuracy(run, s, {"train": train, "test": test}, all_train, families)


def _compared(run: Run, curvature: xr.Dataset, train: ga.ImageSet) -> dict[str, Any]:
    """The families of figure 3, and as many random directions and principal components a step."""
    curved = ga.experiments.stored_curvatures(curvature)
    given, width = ga.experiments.curvature_families(curved, run.seed), len(curved)
    families: dict[str, Any] = {str(name): given[name] for name in given}
    families["random"] = ga.experiments.random_family(run.net.dimension, width, seed=run.seed)
    families["image PCA"] = ga.experiments.image_family(train, width, run.seed)
    return families


def first_order_twin(
    run: Run,
    s: FirstOrderTwin,
    test: ga.ImageSet,
    train: ga.ImageSet,
    all_train: ga.ImageSet,
    boundary: xr.Dataset,
) -> xr.Dataset:
    """Train and test accuracy on S_hi, S_lo of perturbations and normals, and random ones."""
    rows = {"perturbation": boundary["direction"], "normal": boundary["normal"]}
    families: dict[str, Any] = {
        f"{name}_{end}": nested
        for name, values in rows.items()
        for end, nested in ga.experiments.singular_families(
            values.to_numpy(), run.seed, f"{name}s"
        ).items()
    }
    families["random"] = ga.experiments.random_family(run.net.dimension, seed=run.seed)
    return _accuracy(run, s, {"train": train, "test": test}, all_train, families)


def _accuracy(
    run: Run,
    s: SubspaceAccuracy | FirstOrderTwin,
    splits: dict[str, ga.ImageSet],
    all_train: ga.ImageSet,
    families: Any,
) -> xr.Dataset:
    return ga.experiments.subspace_accuracy(
        run.net,
        splits,
        all_train.mean_image(),
        families,
        s.dimensions or None,
        keep=run.keep,
        **run.pace,
    )


def accuracy_work(case: Case) -> Work:
    """All images at every d of the curved families and of what they are compared with."""
    curved = case.inputs["curvature"]
    ends = _compared_ends(curved)
    directions = curved.net.dimension if _is_full(curved) else 4 * _most_pairs(curved)
    d = curved.net.dimension
    return _swept(case, ends, 8.0 * d * directions**2 + _random_flops(d))


def twin_work(case: Case) -> Work:
    """All images at every d of the singular vectors, and of as many random directions."""
    n, d = case.inputs["boundary"].count["images"], case.net.dimension
    end = d if d <= _MOST else min(n, _SINGULAR)
    last = d if d <= _MOST else _SINGULAR
    return _swept(case, [*[end] * 4, last], 2 * _singular_flops(n, d) + _random_flops(d))


def _singular_flops(n: int, d: int) -> float:
    """Operations of `singular_families`: the whole decomposition, or leading directions."""
    most = min(n, _SINGULAR)
    return 40.0 * d**3 + 2.0 * n * d**2 if d <= _MOST else 6.0 * d * n**2 + 60.0 * d * most**2


def _random_flops(d: int) -> float:
    """Operations of `random_family`: ten draws are made orthonormal."""
    return 10 * 8.0 * d * min(d, _SINGULAR if d > _MOST else d) ** 2


def _compared_ends(curvature: Case) -> list[int]:
    """The last d of the curved families, of random directions and of principal components."""
    d, width = curvature.net.dimension, len(curvature.settings.classes)
    end = math.ceil(d / width) if d <= _MOST else max(1, _SINGULAR // width)
    return [*_curved_ends(curvature), end, end]


def _is_full(curvature: Case) -> bool:
    """Whether the full spectrum is known."""
    return curvature.settings.settings.pairs is None


def _most_pairs(curvature: Case) -> int:
    return len(curvature.settings.classes) * int(curvature.settings.settings.pairs or 0)


def _curved_ends(curvature: Case) -> list[int]:
    """The last d of S_pos, S_neg, both and S_flat."""
    s, d = curvature.settings.settings, curvature.net.dimension
    width = len(curvature.settings.classes)
    whole, halved = math.ceil(d / width), math.ceil(d / (2 * width))
    if s.pairs is None:
        return [whole, whole, halved, whole]
    room = (d - min(d, 2 * width * s.pairs)) // width
    flat = min(room, d if d <= _MOST else max(1, _SINGULAR // width))
    return [min(s.pairs, whole), min(s.pairs, whole), min(s.pairs, halved), flat]


def _swept(case: Case, ends: list[int], flops: float) -> Work:
    """The sweeps of `subspace_accuracy` over families that end at these d."""
    dims = case.settings.dimensions or default_dimensions(ends)
    n, d = case.count["test"] + case.count["train"], case.net.dimension
    return Work(
        {FORWARD: n * (1 + sum(v <= end for end in ends for v in dims))},
        flops=flops + 4.0 * n * d * min(d, _SINGULAR) * len(ends),
        memory=6 * d * min(d, _SINGULAR) * 8,
        sizes={"split": 2, "family": len(ends), "d": len(dims), "sample": n},
        types={"prediction": 1, "clean_prediction": 1, "label": 1, "sample_split": 1},
    )


def tell_accuracy(ds: xr.Dataset, share: float = 0.95) -> str:
    """Family by family, at which d the test accuracy first is a share of the plain one."""
    test = ds.sel(split="test")
    plain, constant = float(test["plain_accuracy"]), float(test["constant_accuracy"])
    lines = [f"plain test accuracy {100 * plain:.1f} %, most frequent class {100 * constant:.1f} %"]
    for family in ds["family"].to_numpy():
        one = test.sel(family=family)
        reached = (one["accuracy"] >= share * plain).to_numpy()
        if reached.any():
            first = one.isel(d=int(reached.argmax()))
            size, pixels = int(first["subspace_dimension"]), int(ds["image_dimension"])
            where = f"first at d = {int(first['d'])}, {size} of {pixels} dimensions"
        else:
            where = f"not reached, best {100 * float(one['accuracy'].max()):.1f} %"
        width = int(one["directions_per_step"])
        doubt = ga.experiments.bracketed(ga.experiments.family_doubt(ds, str(family)))
        lines.append(
            f"{family} ({width} directions a step){doubt}: {100 * share:.0f} % of it {where}"
        )
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class ConfinedDeepfool:
    """DeepFool confined to growing subspaces, beside the norms of the images projected on them."""

    count: int | None = None
    """Test images; default: 200, 100 for images of over 1,024 numbers, 30 of over 4,096."""
    dimensions: Counts = ()
    """Dimensions d of the subspaces; default: 10 to 16 up to D, evenly on a logarithmic axis."""
    draws: Count = 5
    """Random subspaces of each dimension; each image is attacked in one of them."""


# Images and d by default: (largest number of pixel values, images, d).
_CONFINED = ((100, 200, 16), (1024, 200, 12), (LARGE_IMAGE, 100, 10), (math.inf, 30, 8))

# Bytes of the bases of all draws of random subspaces, in float64.
_BASES = 2**31

# Largest d by default on images too large for a basis of all of image space.
_MOST = 4096


def _resolve_confined(s: ConfinedDeepfool, net: Classifier) -> ConfinedDeepfool:
    count, steps = next((n, k) for most, n, k in _CONFINED if net.dimension <= most)
    room = _BASES // (8 * s.draws * net.dimension)
    grid = np.geomspace(1, min(net.dimension, _MOST, max(room, 1)), steps).round().astype(int)
    return replace(
        s,
        count=count if s.count is None else s.count,
        dimensions=tuple(sorted(set(s.dimensions or grid.tolist()))),
    )


def confined_deepfool(
    run: Run,
    s: ConfinedDeepfool,
    images: ga.ImageSet,
    all_train: ga.ImageSet,
    boundary: xr.Dataset,
    curvature: xr.Dataset | None,
) -> xr.Dataset:
    """Norms inside S_hi and S_lo of the perturbations, curved, flat and random subspaces."""
    singular = ga.experiments.singular_families(boundary["direction"].to_numpy(), run.seed)
    families: dict[str, NestedSubspaces] = {name: singular[name] for name in singular}
    if curvature is not None:
        curvatures = ga.experiments.stored_curvatures(curvature)
        curved = ga.experiments.curvature_families(curvatures, run.seed)
        families |= {str(name): curved[name] for name in curved}
    return ga.experiments.confined_deepfool(
        run.net,
        images,
        families,
        list(s.dimensions),
        all_train.mean_image(),
        draws=s.draws,
        seed=run.seed,
        keep=run.keep,
        **run.pace,
    )


def confined_work(case: Case) -> Work:
    """A walk from every image in every subspace, and without one."""
    s, n, d = case.settings, case.count["images"], case.net.dimension
    count, most = case.inputs["boundary"].count["images"], max(s.dimensions)
    last = d if d <= _MOST else min(count, _SINGULAR)
    families = [(1, last), (1, last), (1, most)]
    if curved := case.inputs.get("curvature"):
        width = len(curved.settings.classes)
        steps = zip((width, width, 2 * width, width), _curved_ends(curved), strict=True)
        families += [(w, min(w * end, d)) for w, end in steps]
    walks: dict[Unit, float] = {Walk(): n}
    flops = _singular_flops(count, d) + s.draws * 8.0 * d * most**2
    for width, last in families:
        for size in {v // width * width for v in s.dimensions if width <= v <= last}:
            # Powers stand for all: a few walks are measured, and beyond them unconfined ones.
            near = 8 ** round(math.log(size, 8))
            walk = Walk(dimensions=near if near <= _CONFINING else 0)
            walks[walk] = walks.get(walk, 0) + n
            flops += 100.0 * n * d * size
    sizes = {"family": len(families), "d": len(s.dimensions), "sample": n, "example": 2}
    return Work(
        walks,
        flops,
        memory=(4 + s.draws) * d * most * 8 + 8 * n * case.image_bytes,
        sizes=sizes,
        types={"norm": 4, "converged": 1, "projected_norm": 4},
    )


def tell_confined(ds: xr.Dataset) -> str:
    """Mean norms at a middle dimension, family by family."""
    plain = float(ds["plain_norm"].where(ds["plain_converged"]).mean())
    lines, at = [f"unconfined: mean norm {plain:.3g} image units"], ds.sizes["d"] // 2
    for family in ds["family"].to_numpy():
        one = ds.isel(d=at).sel(family=family)
        if one["subspace_dimension"] == 0:
            continue
        norm = float(one["norm"].where(one["converged"]).mean())
        doubt = ga.experiments.bracketed(ga.experiments.family_doubt(ds, str(family), at))
        lines.append(
            f"{family}{doubt}, {int(one['subspace_dimension'])} dimensions: mean norm {norm:.3g}, "
            f"projected images {float(one['projected_norm'].mean()):.3g}, label changed for "
            f"{100 * float(one['converged_share']):.0f} % of {ds.sizes['sample']} images"
        )
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """Table 1: images resampled in front of the network, rescaled perturbations, direct attacks."""

    count: int | None = None
    """Test images; default: 1,000, 500 for images of over 1,024 numbers, 100 of over 4,096."""
    span_count: int | None = None
    """Training images whose resampled perturbations span the direct attack's subspace; default:
    2,000, 1,000 or 100. 0: no direct attack."""
    low_sizes: tuple[int, ...] = ()
    """Pixels d_low on the shorter side; default: shares of the side as in the paper."""
    factors: tuple[float, ...] = (1, 2, 3, 4, 5, 10)
    """Factors f on the perturbations of the original network."""


# Sides of the small image, as shares of the image's own: those of the paper's table, and 3/4.
_SHARES = (1.0, 200 / 227, 3 / 4, 150 / 227, 120 / 227, 100 / 227)

# Images by default: (largest number of pixel values, attacked, spanning).
_RESAMPLED = ((1024, 1000, 2000), (LARGE_IMAGE, 500, 1000), (math.inf, 100, 100))


def _resolve_resampling(s: Resampling, net: Classifier) -> Resampling:
    count, spanning = next((n, m) for most, n, m in _RESAMPLED if net.dimension <= most)
    side = min(net.input_shape[1:])
    sizes = tuple(sorted({round(share * side) for share in _SHARES}, reverse=True))
    return replace(
        s,
        count=count if s.count is None else s.count,
        span_count=spanning if s.span_count is None else s.span_count,
        low_sizes=s.low_sizes or sizes,
    )


def resampling(
    run: Run, s: Resampling, images: ga.ImageSet, span: ga.ImageSet | None
) -> xr.Dataset:
    """Accuracy, norms and fooling rates against d_low and f."""
    return ga.experiments.resampling(
        run.net,
        images,
        list(s.low_sizes),
        s.factors,
        span_images=span,
        seed=run.seed,
        keep=run.keep,
        **run.pace,
    )


def resampling_work(case: Case) -> Work:
    """Walks on the network; behind every resampling unit all factors, and walks in the span."""
    s, n, span = case.settings, case.count["images"], case.count["span"]
    d, lows = case.net.dimension, len(s.low_sizes)
    direct: dict[Unit, float] = {Walk(): lows * n, Walk(dimensions=span): lows * n} if span else {}
    units = Work({FORWARD: lows * n * (1 + 2 * len(s.factors)), Walk(): n + span}) + Work(direct)
    return replace(
        units,
        flops=lows * (8.0 * d * min(span, d) ** 2 + 50.0 * n * d * min(span, d)),
        memory=6 * (n + span) * case.image_bytes,
        sizes={"d_low": lows, "factor": len(s.factors), "sample": n},
        types={"resampled_norm": 4, "confined_norm": 4, "direct_norm": 4}
        | {"confined_converged": 1, "direct_converged": 1},
        without=() if span else ("span_dimension", *_DIRECT),
    )


_DIRECT = ("confined_norm", "confined_converged", "direct_norm", "direct_converged")


def tell_resampling(ds: xr.Dataset) -> str:
    """The table, a line per d_low."""
    factors = " ".join(f"{f'f={f:g}':>6}" for f in ds["factor"].to_numpy())
    lines = [f"{'d_low':>5} {'|x|':>7} {'|r|':>7} {'acc %':>6}  fooled %: {factors}  direct |r|"]
    for d_low in ds["d_low"].to_numpy():
        row = ds.sel(d_low=d_low)
        norm = float(row["resampled_norm"].where(ds["converged"]).mean())
        rates = " ".join(f"{100 * float(rate):6.1f}" for rate in row["fooling_rate"])
        direct = math.nan
        if "confined_norm" in row:
            direct = float(row["confined_norm"].where(row["confined_converged"]).mean())
        lines.append(
            f"{d_low:5d} {float(row['resampled_image_norm'].mean()):7.3f} {norm:7.4f} "
            f"{100 * float(row['accuracy']):6.1f}            {rates}  {direct:10.4f}"
        )
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class NormFractions:
    """Shares of perturbations' norms in the curved and in the flat directions of all classes."""

    count: int = 1000
    """Test images that are attacked; all if there are fewer."""
    epsilon: float = 0.01
    """Step of FGSM as a share of the pixel range; only its direction counts."""
    dimensions: Annotated[tuple[int, ...], Bound(0)] = ()
    """The d to visit, directions per class; default: all where few, else about 50."""


def _check_fractions(s: NormFractions, net: Classifier) -> NormFractions:
    del net
    if not 0 < s.epsilon < math.inf:
        raise InputError(f"epsilon={s.epsilon:g}: expected a finite number > 0.")
    return s


def norm_fractions(
    run: Run,
    s: NormFractions,
    images: ga.ImageSet,
    all_train: ga.ImageSet,
    curvature: xr.Dataset,
    universal: xr.Dataset,
) -> xr.Dataset:
    """DeepFool, FGSM, universal perturbations and saliency maps on all families of figure 3."""
    families = _compared(run, curvature, all_train)
    # Before the attacks: d beyond the families would be refused only after them.
    dimensions = ga.experiments.sweep_dimensions(families, s.dimensions or None).tolist()
    vectors = _perturbations(run, s, images)
    left_out = {kind: len(images) - len(v) for kind, v in vectors.items()}
    vectors["universal"] = torch.from_numpy(universal["perturbation"].to_numpy())
    return ga.experiments.norm_fractions(vectors, families, dimensions, left_out)


def _perturbations(run: Run, s: NormFractions, images: ga.ImageSet) -> dict[str, torch.Tensor]:
    """The kinds of figure 3 that each image has its own of; DeepFool's where it converged."""
    low, high = run.net.bounds
    size = run.pace["batch_size"]
    found = ga.deepfool(run.net, images, **run.pace)
    delta = found.delta[found.converged]
    if len(delta) == 0:
        raise InputError("count: DeepFool converged on no image; give more images.")
    step = s.epsilon * (high - low)
    return {
        "DeepFool": delta,
        "FGSM": ga.fgsm(run.net, images, step, batch_size=size).delta,
        "saliency": ga.saliency(run.net, images, batch_size=size),
    }


def fractions_work(case: Case) -> Work:
    """A walk and two gradients an image, and their projections on the curved families."""
    s, n, d = case.settings, case.count["images"], case.net.dimension
    ends = _compared_ends(case.inputs["curvature"])
    dims = s.dimensions or default_dimensions(ends)
    directions = min(d, _SINGULAR)
    return Work(
        {Walk(): n, GRADIENT: 2 * n},
        flops=8.0 * d * directions**2 + 24.0 * n * d * directions + _random_flops(d),
        memory=12 * n * case.image_bytes + 48 * d * directions,
        sizes={"kind": 4, "family": len(ends), "d": len(dims), "sample": n, "quantile": 3},
    )


def tell_fractions(ds: xr.Dataset) -> str:
    """The shares at the first d above zero."""
    above, lines = ds.sel(d=ds["d"] > 0), list[str]()
    if above.sizes["d"] == 0:
        return "no d above zero"
    first = above.isel(d=0)
    for kind in ds["kind"].to_numpy():
        shares = []
        for family in ds["family"].to_numpy():
            doubt = ga.experiments.bracketed(ga.experiments.family_doubt(ds, str(family), 1))
            share = float(first["mean_fraction"].sel(kind=kind, family=family))
            random = float(first["random_fraction"].sel(family=family))
            shares.append(f"{family}{doubt} {share:.2f} (random {random:.2f})")
        lines.append(f"share of the norm of {kind} at d = {int(first['d'])}: {', '.join(shares)}")
    return "\n".join(lines)


_PROJECTED: dict[str, Any] = {
    "divided": "families",
    "images": {
        "test": Sample("test", "count"),
        "train": Sample("train", "count"),
        "all_train": Sample("train"),
    },
    "resolve": _affordable,
    "quick": {"count": 100},
    "tell": tell_accuracy,
}

SUBSPACES = (
    Experiment(
        name="subspace_accuracy",
        settings=SubspaceAccuracy,
        compute=subspace_accuracy,
        inputs=("curvature",),
        work=accuracy_work,
        figures={"subspace_accuracy": Drawing(ga.plotting.subspace_accuracy)},
        **_PROJECTED,
    ),
    Experiment(
        name="first_order_twin",
        settings=FirstOrderTwin,
        compute=first_order_twin,
        inputs=("boundary",),
        work=twin_work,
        figures={"first_order_twin": Drawing(ga.plotting.first_order_twin)},
        **_PROJECTED,
    ),
    Experiment(
        name="confined_deepfool",
        divided="families and dimensions",
        settings=ConfinedDeepfool,
        compute=confined_deepfool,
        resolve=_resolve_confined,
        images={"images": Sample("test", "count"), "all_train": Sample("train")},
        inputs=("boundary",),
        optional=("curvature",),
        work=confined_work,
        quick={"count": 10, "dimensions": (4, 16, 64), "draws": 2},
        tell=tell_confined,
        figures={
            "confined_deepfool": Drawing(ga.plotting.confined_deepfool),
            "confined_examples": Drawing(ga.plotting.confined_examples),
        },
    ),
    Experiment(
        name="resampling",
        divided="sizes",
        settings=Resampling,
        compute=resampling,
        resolve=_resolve_resampling,
        images={
            "images": Sample("test", "count"),
            "span": Sample("train", "span_count", optional=True),
        },
        work=resampling_work,
        quick={"count": 20, "span_count": 20},
        tell=tell_resampling,
        figures={"resampling": Drawing(ga.plotting.resampling)},
    ),
)

# After the universal perturbations, whose shares it measures.
FRACTIONS = Experiment(
    name="norm_fractions",
    settings=NormFractions,
    compute=norm_fractions,
    resolve=_check_fractions,
    images={"images": Sample("test", "count"), "all_train": Sample("train")},
    inputs=("curvature", "universal"),
    work=fractions_work,
    quick={"count": 20},
    version=2,  # with random subspaces and principal components
    tell=tell_fractions,
    figures={"norm_fractions": Drawing(ga.plotting.norm_fractions, beside=("subspace_accuracy",))},
)
