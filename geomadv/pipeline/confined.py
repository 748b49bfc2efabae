"""DeepFool inside subspaces, and perturbations of resampled images."""

import math
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.experiments.subspaces.families import DENSE, LEADING
from geomadv.linalg import NestedSubspaces
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import LARGE_IMAGE, CountOrAll, Counts, Draws
from geomadv.pipeline.subspaces import curved_ends, singular_flops
from geomadv.pipeline.work import FORWARD, Case, Unit, Walk, Work

# Dimensions of a subspace beyond which a plan takes a confined walk for an unconfined one.
_CONFINING = 8


@dataclass(frozen=True, kw_only=True)
class ConfinedDeepfool:
    """DeepFool confined to growing subspaces, beside the norms of the images projected on them."""

    count: CountOrAll = None
    """Test images; default: 200, 100 for images of over 1,024 numbers, 30 of over 4,096."""
    dimensions: Counts = ()
    """Dimensions d of the subspaces, those beyond D are left out; default: 10 to 16 up to D, evenly
    on a logarithmic axis."""
    draws: Draws = 5
    """Random subspaces of each dimension; each image is attacked in one of them."""


# Images and d by default: (largest number of pixel values, images, d).
_CONFINED = ((100, 200, 16), (1024, 200, 12), (LARGE_IMAGE, 100, 10), (math.inf, 30, 8))


# Bytes of the bases of all draws of random subspaces, in float64.
_BASES = 2**31


def _resolve_confined(s: ConfinedDeepfool, net: Classifier) -> ConfinedDeepfool:
    count, steps = next((n, k) for most, n, k in _CONFINED if net.dimension <= most)
    room = _BASES // (8 * s.draws * net.dimension)
    grid = np.geomspace(1, min(net.dimension, DENSE, max(room, 1)), steps).round().astype(int)
    given = [d for d in s.dimensions if d <= net.dimension]
    return replace(
        s,
        count=count if s.count is None else s.count,
        dimensions=tuple(sorted(set(given or s.dimensions or grid.tolist()))),
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
    last = d if d <= DENSE else min(count, LEADING)
    families = [(1, last), (1, last), (1, most)]
    if curved := case.inputs.get("curvature"):
        width = len(curved.settings.classes)
        steps = zip((width, width, 2 * width, width), curved_ends(curved), strict=True)
        families += [(w, min(w * end, d)) for w, end in steps]
    walks: dict[Unit, float] = {Walk(): n}
    flops = singular_flops(count, d) + s.draws * 8.0 * d * most**2
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

    count: CountOrAll = None
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
    sizes = tuple(sorted({max(1, round(share * side)) for share in _SHARES}, reverse=True))
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
    return "\n".join([*lines, _least_resampled(ds)])


def _least_resampled(ds: xr.Dataset) -> str:
    """The table's row of the weakest resampling that changes the images, in words."""
    moved = (abs(ds["resampled_norm"] - ds["norm"]) > 1e-5 * ds["norm"]).any("sample").to_numpy()
    d_low = max(ds["d_low"].to_numpy()[moved], default=int(ds["d_low"].max()))
    rates = 100 * ds["fooling_rate"].sel(d_low=d_low).sortby("factor")
    least, most = (float(rates["factor"][at]) for at in (0, -1))
    times = "" if least == 1 else f" at {least:g} times the norm"
    return (
        f"at {d_low} pixels a side {float(rates[0]):.0f} % of the perturbations still fool{times}, "
        f"{float(rates[-1]):.0f} % at {most:g} times the norm"
    )


CONFINED = (
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
        headline=1,
        figures={
            "confined_deepfool": Drawing(
                ga.plotting.confined_deepfool,
                "Mean norm of DeepFool's perturbation when it has to stay in a subspace of "
                "dimension d (blue), and of the images projected there (orange). Below the "
                "dashed line, which holds for directions that are all alike, the subspace "
                "is more vulnerable than chance. Circles: some images kept their label.",
            ),
            "confined_examples": Drawing(
                ga.plotting.confined_examples,
                "One image attacked inside subspaces of growing dimension d: the "
                "perturbation in its own grey scale with its norm above, and below it the "
                "image as far as the same subspace shows it.",
            ),
        },
    ),
    Experiment(
        name="resampling",
        divided="sizes",
        settings=Resampling,
        compute=resampling,
        resolve=_resolve_resampling,
        images={
            "images": Sample("test", "count", labels=True),
            "span": Sample("train", "span_count", optional=True),
        },
        work=resampling_work,
        quick={"count": 20, "span_count": 20},
        quick_large={"count": 10},
        tell=tell_resampling,
        headline=-1,
        figures={
            "resampling": Drawing(
                ga.plotting.resampling,
                "Images made smaller and back to size before the network: accuracy, and how "
                "often the perturbation of the plain network, scaled by f, still fools; on "
                "the right the norm of attacks made anew. Rates that return with f say that "
                "resampling weakens perturbations and does not remove them.",
            )
        },
    ),
)
