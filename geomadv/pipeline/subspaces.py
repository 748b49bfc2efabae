"""What lies in the curved, the flat and the leading directions: accuracy, norms, attacks."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import torch
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.experiments.subspaces.families import DENSE, LEADING, random_draws
from geomadv.experiments.subspaces.sweep import default_dimensions
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import LARGE_IMAGE, Bound, Count, CountOrAll
from geomadv.pipeline.work import FORWARD, GRADIENT, Case, Walk, Work


@dataclass(frozen=True, kw_only=True)
class SubspaceAccuracy:
    """Accuracy of images projected on the curved and on the flat directions of all classes."""

    count: CountOrAll = None
    """Images of either split; default: 10,000, for images of over 1,024 numbers 1,000, of over
    4,096 numbers 200."""
    dimensions: Annotated[tuple[int, ...], Bound(0)] = ()
    """The d to visit, directions per class; default: all where few, else about 50."""


@dataclass(frozen=True, kw_only=True)
class FirstOrderTwin:
    """Accuracy of images projected on the singular vectors of perturbations and of normals."""

    count: CountOrAll = None
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
    if (found := ga.experiments.image_family(train, width, run.seed)) is not None:
        families["image PCA"] = found
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
    end = d if d <= DENSE else min(n, LEADING)
    last = d if d <= DENSE else LEADING
    return _swept(case, [*[end] * 4, last], 2 * singular_flops(n, d) + _random_flops(d))


def singular_flops(n: int, d: int) -> float:
    """Operations of `singular_families`: the whole decomposition, or leading directions."""
    most = min(n, LEADING)
    return 40.0 * d**3 + 2.0 * n * d**2 if d <= DENSE else 6.0 * d * n**2 + 60.0 * d * most**2


def _random_flops(d: int) -> float:
    """Operations of `random_family`: its draws are made orthonormal, few columns with fewer."""
    return random_draws(d) * (8.0 * d**3 if d <= DENSE else 5.0 * d * LEADING**2)


def _compared_ends(curvature: Case) -> list[int]:
    """The last d of the curved families, of random directions and of principal components."""
    d, width = curvature.net.dimension, len(curvature.settings.classes)
    end = math.ceil(d / width) if d <= DENSE else max(1, LEADING // width)
    return [*curved_ends(curvature), end, end]


def _is_full(curvature: Case) -> bool:
    """Whether the full spectrum is known."""
    return curvature.settings.settings.pairs is None


def _most_pairs(curvature: Case) -> int:
    return len(curvature.settings.classes) * int(curvature.settings.settings.pairs or 0)


def curved_ends(curvature: Case) -> list[int]:
    """The last d of S_pos, S_neg, both and S_flat."""
    s, d = curvature.settings.settings, curvature.net.dimension
    width = len(curvature.settings.classes)
    whole, halved = math.ceil(d / width), math.ceil(d / (2 * width))
    if s.pairs is None:
        return [whole, whole, halved, whole]
    room = (d - min(d, 2 * width * s.pairs)) // width
    flat = min(room, d if d <= DENSE else max(1, LEADING // width))
    return [min(s.pairs, whole), min(s.pairs, whole), min(s.pairs, halved), flat]


def _swept(case: Case, ends: list[int], flops: float) -> Work:
    """The sweeps of `subspace_accuracy` over families that end at these d."""
    dims = case.settings.dimensions or default_dimensions(ends)
    n, d = case.count["test"] + case.count["train"], case.net.dimension
    return Work(
        {FORWARD: n * (1 + sum(v <= end for end in ends for v in dims))},
        flops=flops + 4.0 * n * d * min(d, LEADING) * len(ends),
        memory=40 * d * min(d, LEADING),
        sizes={"split": 2, "family": len(ends), "d": len(dims), "sample": n},
        types={"prediction": 1, "clean_prediction": 1, "label": 1, "sample_split": 1},
    )


def tell_accuracy(ds: xr.Dataset) -> str:
    """Family by family, at which d the test accuracy first is 95 % of the plain one."""
    test = ds.sel(split="test")
    plain, constant = float(test["plain_accuracy"]), float(test["constant_accuracy"])
    lines = [f"plain test accuracy {100 * plain:.1f} %, most frequent class {100 * constant:.1f} %"]
    for family in ds["family"].to_numpy():
        one = test.sel(family=family)
        reached = (one["accuracy"] >= 0.95 * plain).to_numpy()
        if reached.any():
            first = one.isel(d=int(reached.argmax()))
            size, pixels = int(first["subspace_dimension"]), int(ds["image_dimension"])
            where = f"first at d = {int(first['d'])}, {size} of {pixels} dimensions"
        else:
            where = f"not reached, best {100 * float(one['accuracy'].max()):.1f} %"
        width = int(one["directions_per_step"])
        doubt = ga.experiments.bracketed(ga.experiments.family_doubt(ds, str(family)))
        lines.append(f"{family} ({width} directions a step){doubt}: 95 % of it {where}")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class NormFractions:
    """Shares of perturbations' norms in the curved and in the flat directions of all classes."""

    count: Count = 1000
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
    directions = min(d, LEADING)
    return Work(
        {Walk(): n, GRADIENT: 2 * n},
        flops=8.0 * d * directions**2 + 24.0 * n * d * directions + _random_flops(d),
        memory=12 * n * case.image_bytes + 40 * d * directions,
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
            doubt = ga.experiments.bracketed(ga.experiments.family_doubt(above, str(family), 0))
            share = float(first["mean_fraction"].sel(kind=kind, family=family))
            random = float(first["random_fraction"].sel(family=family))
            shares.append(f"{family}{doubt} {share:.2f} (random {random:.2f})")
        lines.append(f"share of the norm of {kind} at d = {int(first['d'])}: {', '.join(shares)}")
    return "\n".join(lines)


_PROJECTED: dict[str, Any] = {
    "divided": "families",
    "images": {
        "test": Sample("test", "count", labels=True),
        "train": Sample("train", "count"),
        "all_train": Sample("train"),
    },
    "resolve": _affordable,
    "quick": {"count": 100},
    "quick_large": {"count": 20},
    "tell": tell_accuracy,
    "headline": 1,
}


SUBSPACES = (
    Experiment(
        name="subspace_accuracy",
        settings=SubspaceAccuracy,
        compute=subspace_accuracy,
        inputs=("curvature",),
        work=accuracy_work,
        figures={
            "subspace_accuracy": Drawing(
                ga.plotting.subspace_accuracy,
                "Accuracy on images of which only the part in a subspace is left, against "
                "its directions per class. A family that rises before the grey random "
                "subspaces carries what the network reads; one that rises after them does "
                "not. Image PCA, made without any network, tells whether the images alone "
                "explain it.",
            )
        },
        **_PROJECTED,
    ),
    Experiment(
        name="first_order_twin",
        settings=FirstOrderTwin,
        compute=first_order_twin,
        inputs=("boundary",),
        work=twin_work,
        figures={
            "first_order_twin": Drawing(
                ga.plotting.first_order_twin,
                "Accuracy on images of which only the part along singular vectors of the "
                "perturbations (thick) or of the normals (thin) is left: leading ones first "
                "(S_hi) or trailing ones first (S_lo), beside random subspaces.",
            )
        },
        **_PROJECTED,
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
    figures={
        "norm_fractions": Drawing(
            ga.plotting.norm_fractions,
            "Above: accuracy on the subspaces; below: the share of the norm of four "
            "kinds of perturbation that lies in them. Families that rise early in both "
            "say that attacks lie where the network reads. Grey: random subspaces.",
            beside=("subspace_accuracy",),
        )
    },
)
