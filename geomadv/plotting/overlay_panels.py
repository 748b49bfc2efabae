"""What several networks' results of one experiment show in the same axes: curves by panel."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomadv.plotting.panels import Curve, Panel, band, both, cumulative
from geomadv.plotting.parts import image_side, own_row, relative_norm, spread

Array = NDArray[Any]


def _boundary(ds: xr.Dataset) -> list[Panel]:
    distance = ds["distance"].where(ds["converged"]).to_numpy()
    side = np.sqrt(ds["direction"].shape[1])
    y = "images nearer than that (%)"
    return [
        Panel("distance to the boundary", "image units", y, [cumulative(distance)], "x", 100),
        Panel("the same per pixel", "image units / √D", y, [cumulative(distance / side)], "x", 100),
    ]


def _normal_svd(ds: xr.Dataset) -> list[Panel]:
    values, null = ds.get("spectrum", ds["singular_value"]).to_numpy(), ds["baseline"].mean("draw")
    dimension = ds["direction"][0].size

    def curves(index: Array) -> list[Curve]:
        scaled = null / float(null[0])
        return [Curve(index, values / values[0]), Curve(index[: len(scaled)], scaled, null=True)]

    index = np.arange(1, len(values) + 1)
    return both("normals", "singular value / largest", index, dimension, curves, log="xy")


def _random_subspace(ds: xr.Dataset) -> list[Panel]:
    energy = ds["energy_share"].to_numpy()
    half = int(np.argmax(energy >= 0.5)) if (energy >= 0.5).any() else len(energy) - 1
    norm = int(np.abs(100 * ds["uniform_fooling_rate"].mean("draw").to_numpy() - 10).argmin())
    inside, uniform = ds["fooling_rate"], ds["uniform_fooling_rate"]
    against = [
        band(relative_norm(ds), inside.isel(m=half), "draw"),
        band(relative_norm(ds), uniform, "draw", null=True),
    ]
    level = 100 * float(uniform.isel(norm=norm).mean())
    dimension = [
        band(ds["m"], inside.isel(norm=norm), "draw"),
        Curve(ds["m"], np.full(ds.sizes["m"], level), null=True),
    ]
    x, y = "norm (% of mean image norm)", "fooled (%)"
    return [
        Panel("m: half of the normals' energy, or all", x, y, against, "x", 100),
        Panel("norm: uniform fools nearest to 10 %", "dimension m", y, dimension, "x", 100),
    ]


def _curvature(ds: xr.Dataset) -> list[Panel]:
    value = (ds["shape_value"] * ds["median_distance"]).to_numpy()
    value = value[np.isfinite(value).all(1)]
    half = value.shape[1] // 2
    index = np.arange(1, half + 1)
    ends = {"most positive": value[:, :half], "most negative": value[:, ::-1][:, :half]}
    return [
        Panel(
            title,
            "index of the curvature",
            "curvature × median distance",
            [Curve(index, np.median(rows, 0), rows.min(0), rows.max(0))] if len(rows) else [],
            "x",
        )
        for title, rows in ends.items()
    ]


def _score_curves(ds: xr.Dataset) -> list[Panel]:
    families = [str(family) for family in ds["family"].to_numpy()]
    place = np.arange(len(families))
    panels = []
    for name in ("symmetry_median", "monotonicity_median", "separability", "shape_share"):
        value = ds[name].isel(direction=0)
        curve = Curve(place, value.median("class"), value.min("class"), value.max("class"))
        panels.append(
            Panel(
                name.removesuffix("_median").replace("_", " "), "", "share", [curve], ticks=families
            )
        )
    return panels


def _direction_sweep(ds: xr.Dataset) -> list[Panel]:
    families, x = ds["family"].to_numpy().tolist(), ds["scale"] / float(ds["scale"].max())
    one = ds.isel(direction=0)
    panels = []
    for family, name, y in (
        ("positive", "transition", "other images in the class (%)"),
        ("negative", "retention", "own images that stay (%)"),
        ("flat", "retention", "own images that stay (%)"),
    ):
        rates = 100 * one[name].mean("class")
        curves = [Curve(x, rates.sel(family=family))] if family in families else []
        if "random" in families:
            curves.append(Curve(x, rates.sel(family="random"), null=True))
        panels.append(Panel(f"{family} directions", "scale / largest scale", y, curves, "", 100))
    return panels


def _accuracy(ds: xr.Dataset) -> list[Panel]:
    dimension, shown = float(ds["image_dimension"]), ds.isel(split=-1)
    panels = []
    for names in _beside_random(ds):
        pair = shown.sel(family=names)

        def curves(sizes: Array, pair: xr.Dataset = pair) -> list[Curve]:
            y, error = 100 * pair["accuracy"], 200 * pair["standard_error"]
            own = Curve(sizes[0], y[0], (y - error)[0], (y + error)[0])
            return [
                own,
                *(Curve(at, null, null=True) for at, null in zip(sizes[1:], y[1:], strict=True)),
            ]

        sizes, title = pair["subspace_dimension"].to_numpy(), names[0].replace("_", " ")
        panels += both(title, "accuracy (%)", sizes, dimension, curves, top=100)
    return panels


def _beside_random(ds: xr.Dataset) -> list[list[str]]:
    """Each family, and random subspaces, where there are any: they end at a size of their own."""
    names = [str(name) for name in ds["family"].to_numpy()]
    random = [name for name in names if name == "random"]
    return [[name, *random] for name in names if name != "random"]


def _norm_fractions(ds: xr.Dataset) -> list[Panel]:
    panels = []
    for family in ds["family"].to_numpy():
        if str(family) == "random":
            continue
        one = ds.isel(kind=0).sel(family=family)
        share = one["random_fraction"].to_numpy() ** 2
        low, high = one["fraction_quantile"][..., 0], one["fraction_quantile"][..., -1]
        curves = [
            Curve(share, one["mean_fraction"], low, high),
            Curve(share, one["random_fraction"], null=True),
        ]
        panels.append(Panel(str(family), "d / D", "share of the norm", curves, "", 1))
    return panels


def _confined(ds: xr.Dataset) -> list[Panel]:
    dimension = ds["mean_image"].size
    plain = float(ds["plain_norm"].where(ds["plain_converged"]).mean())
    # No norm is that of a family that has ended, of dimension 0.
    there = ds["converged"] & (ds["subspace_dimension"] > 0)
    low, mean, high = spread(ds["norm"].where(there) / plain, "sample", 0.1, 0.9)
    size = ds["subspace_dimension"].where(ds["subspace_dimension"] > 0)
    panels = []
    for names in _beside_random(ds):
        if names[0] not in ("hi", "lo"):
            continue

        def curves(sizes: Array, names: list[str] = names) -> list[Curve]:
            own, *random = (mean.sel(family=name) for name in names)
            band = (low.sel(family=names[0]), high.sel(family=names[0]))
            return [
                Curve(sizes[0], own, *band),
                *(Curve(sizes[1], null, null=True) for null in random),
            ]

        sizes = size.sel(family=names).to_numpy()
        panels += both(names[0], "norm / unconfined norm", sizes, dimension, curves, log="xy")
    return panels


def _resampling(ds: xr.Dataset) -> list[Panel]:
    share = ds["d_low"] / image_side(ds)
    ends = {f"f = {float(ds['factor'][at]):g}": at for at in (0, -1)}
    return [
        Panel(
            title,
            "d_low / image side",
            "fooled (%)",
            [
                Curve(share, 100 * ds["fooling_rate"].isel(factor=at)),
                Curve(share, 100 * ds["noise_fooling_rate"].isel(factor=at), null=True),
            ],
            "",
            100,
        )
        for title, at in ends.items()
    ]


def _universal(ds: xr.Dataset) -> list[Panel]:
    random = 100 * float(ds["random_fooling_rate"].mean())
    null = Curve(ds["size"], np.full(ds.sizes["size"], random), null=True)
    return [
        Panel(
            title,
            "images in the sample set",
            "fooled (%)",
            [band(ds["size"], ds[name], "repeat"), null],
            "x",
            100,
        )
        for title, name in (
            ("sample set", "fooling_rate"),
            ("held-out images", "held_out_fooling_rate"),
        )
    ]


def _label_graph(ds: xr.Dataset) -> list[Panel]:
    share = 100 * np.cumsum(np.sort(ds["received_share"].to_numpy())[::-1])
    index = np.arange(1, len(share) + 1)
    y, uniform = "fooled images that get them (%)", 100 * index / len(index)
    return [
        Panel(
            "most frequent labels", x, y, [Curve(at, share), Curve(at, uniform, null=True)], "", 100
        )
        for x, at in (("labels", index), ("labels / classes", index / len(index)))
    ]


def _norm_comparison(ds: xr.Dataset) -> list[Panel]:
    x, names = "norm (% of mean image norm)", ds["kind"].to_numpy().tolist()
    rates = {
        kind: band(relative_norm(ds), ds["fooling_rate"].sel(kind=kind), "draw") for kind in names
    }
    random = rates.pop("random", None)
    null = [] if random is None else [Curve(random.x, random.y, null=True)]
    return [Panel(kind, x, "fooled (%)", [rate, *null], "", 100) for kind, rate in rates.items()]


def _finetuning(ds: xr.Dataset) -> list[Panel]:
    x = "rounds of fine-tuning"
    new, first = (band(ds["round"], ds[f"{n}fooling_rate"], "member") for n in ("", "first_"))
    accuracy = Curve(ds["round"], 100 * ds["accuracy"])
    return [
        Panel("fooled by new perturbations", x, "held-out images (%)", [new], "", 100),
        Panel("fooled by those of round 0", x, "held-out images (%)", [first], "", 100),
        Panel("clean accuracy", x, "held-out images (%)", [accuracy], "", 100),
    ]


def _categories(ds: xr.Dataset) -> list[Panel]:
    ds = own_row(ds)
    x = relative_norm(ds, "radius")
    return [
        Panel(
            title, "norm (% of mean image norm)", "fooled (%)", [Curve(x, 100 * ds[name])], "x", 100
        )
        for title, name in (
            ("A: its own perturbation", "adversarial_share"),
            ("U: one for all", "universal_share"),
            ("R: random", "random_share"),
        )
    ]


def _tilting(ds: xr.Dataset) -> list[Panel]:
    x, norm = "C", ds["mean_adversarial_norm"] / float(ds["centroid_mean_adversarial_norm"])
    level = np.full(ds.sizes["C"], 100 * float(ds["centroid_test_error"]))
    error = [Curve(ds["C"], 100 * ds["test_error"]), Curve(ds["C"], level, null=True)]
    return [
        Panel("deviation angle", x, "degrees", [Curve(ds["C"], np.degrees(ds["angle"]))], "x"),
        Panel("test error", x, "%", error, "x"),
        Panel("adversarial norm", x, "share of the centroids'", [Curve(ds["C"], norm)], "x"),
    ]


def _normal_tilt(ds: xr.Dataset) -> list[Panel]:
    curves = [
        cumulative(np.degrees(ds["angle"])),
        cumulative(np.degrees(ds["random_angle"]), null=True),
    ]
    y = "boundary points below (%)"
    return [
        Panel("tilt of the boundary", "angle to the centroid direction (°)", y, curves, "", 100)
    ]


def _softmax(ds: xr.Dataset) -> list[Panel]:
    shares = [
        cumulative(100 * ds["hidden_share"].where(ds["perturbation_converged"])),
        cumulative(100 * ds["noise_hidden_share"], null=True),
    ]
    radius = relative_norm(ds, "epsilon")
    collided = [
        Curve(radius, 100 * ds["collision"].mean("pair")),
        Curve(radius, 100 * ds["noise_collision"].mean("pair"), null=True),
    ]
    x = "hidden energy of the feature change (%)"
    return [
        Panel("DeepFool in the last layer", x, "images below (%)", shares, "", 100),
        Panel("features collide", "radius (% of mean image norm)", "pairs (%)", collided, "x", 100),
    ]


def _normal_section(ds: xr.Dataset) -> list[Panel]:
    distance = float(ds["distance"].where(ds["converged"]).median())
    reach = float(ds["scale"].max())
    steps = np.linspace(0, reach, 100)

    def holding(family: str, null: bool = False) -> Curve:
        radius = ds["radius"].sel(family=family, model="shape").isel(direction=0).to_numpy()
        known = radius[~np.isnan(radius)]
        share = [100 * np.mean(known >= s) if len(known) else np.nan for s in steps]
        return Curve(steps / distance, share, null=null)

    families = ds["family"].to_numpy().tolist()
    null = [holding("random", True)] if "random" in families else []
    return [
        Panel(f, "|s| / median distance", "model holds (%)", [holding(f), *null], "", 100)
        for f in families
        if f != "random"
    ]


def _decision_plane(ds: xr.Dataset) -> list[Panel]:
    grid, names = ("vertical", "horizontal"), ds["second"].to_numpy().tolist()
    there = ds["margin"].notnull()
    own = 100 * (ds["prediction"] == ds["source"]).where(there).mean(grid)
    planes = ds["prediction"].transpose("second", "sample", *grid).to_numpy()
    classes = [[len(np.unique(plane[plane >= 0])) or np.nan for plane in row] for row in planes]
    several = xr.DataArray(np.asarray(classes, dtype=float), dims=("second", "sample"))
    place = np.arange(len(names))

    def over_images(values: xr.DataArray) -> Curve:
        low, middle, high = values.quantile([0, 0.5, 1], "sample").to_numpy()
        return Curve(place, middle, low, high)

    x = "second direction of the plane"
    return [
        Panel("own class", x, "share of the plane (%)", [over_images(own)], "", 100, names),
        Panel("classes", x, "classes in the plane", [over_images(several)], "", None, names),
    ]


# Experiment -> its panels, and what lines, dashes and bands are.
OVERLAYS: dict[str, tuple[Callable[[xr.Dataset], list[Panel]], str]] = {
    "boundary": (_boundary, "distances of images to the boundary"),
    "normal_svd": (_normal_svd, "singular values of the normals; dashed: uniform directions"),
    "random_subspace_fooling": (
        _random_subspace,
        "random vectors in the leading normal subspace, bands: range of draws; dashed: uniform",
    ),
    "curvature": (_curvature, "mean shape operator: median and range over classes"),
    "score_curves": (_score_curves, "score curves: median and range over classes"),
    "direction_sweep": (_direction_sweep, "leading directions, means over classes; dashed: random"),
    "subspace_accuracy": (
        _accuracy,
        "projected test images, bands: two standard errors; dashed: random subspaces",
    ),
    "first_order_twin": (
        _accuracy,
        "projected test images, bands: two standard errors; dashed: random subspaces",
    ),
    "norm_fractions": (
        _norm_fractions,
        "DeepFool's norm in subspaces, bands: 10th to 90th percentile; dashed: random direction",
    ),
    "confined_deepfool": (
        _confined,
        "confined perturbations, bands: 10th to 90th percentile; dashed: random subspaces",
    ),
    "resampling": (_resampling, "f r on resampled images; dashed: noise of the same norm"),
    "universal": (_universal, "universal perturbation, bands: range of repeats; dashed: random"),
    "label_graph": (_label_graph, "labels under the universal perturbation; dashed: uniform"),
    "norm_comparison": (
        _norm_comparison,
        "vectors of the same norm, held-out images, bands: range of draws; dashed: random",
    ),
    "finetuning": (_finetuning, "fine-tuning, bands: range of the pool"),
    "categories": (_categories, "what fools how many"),
    "tilting_plane": (_tilting, "regularisation tilts the boundary; dashed: nearest centroid"),
    "normal_section": (
        _normal_section,
        "points at which the quadratic model is within 20 % up to |s|; dashed: random directions",
    ),
    "decision_plane": (_decision_plane, "planes through images: median and range over images"),
    "normal_tilt": (_normal_tilt, "boundary normals; dashed: random directions"),
    "softmax_directions": (_softmax, "the last layer; dashed: noise of the same norm"),
}
