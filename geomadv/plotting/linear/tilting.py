"""Figures of the tilting plane: its projections, its sweep over C, adversarial images, angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from geomadv.errors import InputError
from geomadv.plotting.style import (
    BLUE,
    COLUMN,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    show_direction,
    style,
    title,
)

# Points drawn of each class: more only hide each other.
_POINTS = 250


def tilting_plane(ds: xr.Dataset, angles: int = 4) -> Figure:
    """Training images and the boundary in the tilting plane, from upright to most tilted.

    ds: result of `experiments.tilting_plane`. Of the sweep, those boundaries are drawn whose
    angles lie nearest to equal steps. Both axes have one scale: distances to the line are
    distances to the boundary.
    """
    chosen = _equal_steps(ds, angles)
    with style():
        figure = new_figure(PAGE, 2.6)
        grid = figure.subplots(1, len(chosen), squeeze=False, sharex=True, sharey=True)[0]
        for axes, i in zip(grid, chosen, strict=True):
            _plane(axes, ds, ds.isel(C=i))
            axes.set_xlabel("along z (image units)")
        grid[0].set_ylabel("along n (image units)")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle(_title(ds))
        return figure


def tilting_toy(ds: xr.Dataset) -> Figure:
    """The toy problem's tilting plane: one row per number of dimensions, C grows to the right.

    ds: result of `experiments.tilting_toy`.
    """
    first = ds.isel(dimension=0)
    chosen = _equal_steps(first, 3)
    with style():
        figure = new_figure(PAGE, 0.6 + 1.35 * ds.sizes["dimension"])
        grid = figure.subplots(
            ds.sizes["dimension"], len(chosen), squeeze=False, sharex=True, sharey=True
        )
        for row, (_, part) in zip(grid, ds.groupby("dimension", squeeze=False), strict=True):
            part = part.squeeze("dimension")
            for axes, i in zip(row, chosen, strict=True):
                _plane(axes, part, part.isel(C=i), names=("0", "1"))
            row[0].set_ylabel(f"{int(part['dimension'])} dimensions\nalong n")
        for axes in grid[-1]:
            axes.set_xlabel("along z (image units)")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle("toy problem: two classes that differ much in z, cleanly in n")
        return figure


def tilting_sweep(ds: xr.Dataset) -> Figure:
    """Deviation angle, error rates, distance and adversarial norm against C.

    ds: result of `experiments.tilting_plane`. Dotted lines are the nearest-centroid classifier;
    crosses mark fits whose solver did not converge.
    """
    with style():
        figure = new_figure(PAGE, 4.0)
        (angle, error), (distance, norm) = figure.subplots(2, 2, sharex=True)
        _curve(angle, ds, ds["angle"] * (180 / np.pi), "black", "angle between w and z")
        angle.set_ylabel("deviation angle (degrees)")
        angle.set_ylim(bottom=-1)
        _curve(error, ds, 100 * ds["train_error"], ORANGE, "training images")
        _curve(error, ds, 100 * ds["test_error"], BLUE, "test images")
        for name, color in (("train", ORANGE), ("test", BLUE)):
            error.axhline(100 * float(ds[f"centroid_{name}_error"]), color=color, linestyle=":")
        error.plot([], [], color=GREY, linestyle=":", label="nearest-centroid classifier")
        error.set_ylabel("error (%)")
        for axes, name, label in (
            (distance, "mean_distance", "mean distance to the\nboundary (image units)"),
            (norm, "mean_adversarial_norm", "mean adversarial norm\n(image units)"),
        ):
            _curve(axes, ds, ds[name], BLUE, "test images")
            axes.axhline(float(ds[f"centroid_{name}"]), color=BLUE, linestyle=":")
            axes.set_ylabel(label)
            axes.set_xlabel("C (strong to weak regularisation)")
        for axes in (angle, error, distance, norm):
            axes.set_xscale("log")
        for axes in (error, distance, norm):
            axes.set_ylim(bottom=0)
        figure.legend(*error.get_legend_handles_labels(), loc="outside lower center", ncols=3)
        figure.suptitle(_title(ds))
        return figure


def tilting_images(ds: xr.Dataset, steps: int = 6, examples: int = 2) -> Figure:
    """Test images moved onto the boundary, and the perturbations, against C.

    ds: result of `experiments.tilting_plane`. A perturbation is scaled by its own largest pixel;
    grey is zero. Its norm, in image units, stands above it.
    """
    chosen = _equal_steps(ds, steps)[::-1]
    examples = min(examples, ds.sizes["example"])
    with style():
        figure = new_figure(PAGE, 0.5 + 2.0 * examples)
        grid = figure.subplots(2 * examples, len(chosen) + 1, squeeze=False)
        for k in range(examples):
            _example(grid[2 * k : 2 * k + 2], ds.isel(example=k), chosen)
        for axes, i in zip(grid[0, 1:], chosen, strict=True):
            part = ds.isel(C=i)
            axes.set_title(f"C = {float(part['C']):.0e}\n{_degrees(part):.0f}°", fontsize=7)
        grid[0, 0].set_title("image", fontsize=7)
        figure.suptitle(f"{_title(ds)}: images on the boundary and perturbations")
        return figure


def tilting_space(ds: xr.Dataset) -> Figure:
    """The two extreme boundaries and the training images in the space of z and both weights.

    ds: result of `experiments.tilting_plane` over two usable values of C or more, D >= 3.

    Raises:
        InputError: the result has no such space.
    """
    if "space_basis" not in ds:
        raise InputError(
            "the result has no space between two extreme weights: it needs two values of C with "
            "usable boundaries and images of three pixels or more."
        )
    with style():
        figure = new_figure(PAGE, 3.4)
        for place, (elevation, turn) in enumerate(((18, -70), (60, -35))):
            axes = figure.add_subplot(1, 2, place + 1, projection="3d")
            _space(axes, ds, detailed=place == 0)
            axes.view_init(elevation, turn)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.suptitle(f"{_title(ds)}: boundaries at the extremes of C")
        return figure


def normal_tilt(ds: xr.Dataset) -> Figure:
    """Histograms of the angle between boundary normals and centroid directions, by network.

    ds: results of `experiments.normal_tilt` side by side, over sample and, with more than one
    network, `network`.
    """
    if "network_name" not in ds.coords:
        ds = ds.expand_dims(network_name=[ds.attrs.get("network", "network")])
    with style():
        figure = new_figure(COLUMN, 2.3 + 0.16 * ds.sizes["network_name"])
        axes = figure.add_subplot()
        bins = np.linspace(0, 180, 61)
        random = np.degrees(ds["random_angle"].to_numpy().ravel())
        random = random[np.isfinite(random)]
        _histogram(axes, random, bins, GREY, "random directions")
        colors = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
        for i, name in enumerate(ds["network_name"].to_numpy()):
            angles = np.degrees(ds["angle"].sel(network_name=name).to_numpy())
            usable = angles[np.isfinite(angles)]
            label = f"{name}: {_medians(ds.sel(network_name=name))}"
            _histogram(axes, usable, bins, colors[i % len(colors)], label)
        widest = max(random.max(), float(np.degrees(ds["angle"].max().fillna(0))))
        axes.set_xlim(0, 10 * np.ceil(widest / 10))
        axes.set_xlabel("angle to the centroid direction (degrees)")
        axes.set_ylabel("share of boundary points (%)")
        figure.legend(loc="outside lower left")
        axes.set_title(f"tilt of the boundary, {ds.attrs.get('dataset', '')}{_pair(ds)}")
        return figure


def _title(ds: xr.Dataset) -> str:
    data = title(ds.assign_attrs(network=ds.attrs["classifier"].split("(")[0]))
    return f"{data}, {' against '.join(ds.attrs['class_names'])}"


def _pair(ds: xr.Dataset) -> str:
    names = ds.attrs.get("class_names")
    return "" if names is None or len(names) != 2 else f", {names[0]} against {names[1]}"


def _medians(ds: xr.Dataset) -> str:
    if bool(ds["angle"].isnull().all()):
        return "no usable boundary point"
    angle = f"median {float(np.degrees(ds['angle'].median())):.0f}°"
    if "distance" not in ds:
        return angle
    return f"{angle}, distance {float(ds['distance'].median()):.2g}"


def _degrees(ds: xr.Dataset) -> float:
    return float(np.degrees(ds["angle"]))


def _equal_steps(ds: xr.Dataset, count: int) -> list[int]:
    """Positions along C whose angles lie nearest to equal steps from smallest to largest."""
    angles = ds["angle"].to_numpy()
    steps = np.linspace(np.nanmin(angles), np.nanmax(angles), count)
    chosen = {int(np.nanargmin(np.abs(angles - step))) for step in steps}
    return sorted(chosen, key=lambda i: float(angles[i]))


def _few(labels: np.ndarray) -> list[np.ndarray]:
    """Positions of evenly spaced images of the two classes."""
    both = (np.flatnonzero(labels == c) for c in np.unique(labels))
    return [at[:: max(1, -(-len(at) // _POINTS))] for at in both]


def _plane(
    axes: Axes, sweep: xr.Dataset, part: xr.Dataset, names: Sequence[str] | None = None
) -> None:
    names = sweep.attrs["class_names"] if names is None else names
    z, n = part["train_z"].to_numpy(), part["train_n"].to_numpy()
    shown = _few(part["train_label"].to_numpy())
    colors = (BLUE, ORANGE)
    for at, name, color, marker in zip(shown, names, colors, "o^", strict=True):
        axes.scatter(
            z[at], n[at], s=4, color=color, marker=marker, linewidth=0, alpha=0.6,
            label=f"class {name}",
        )  # fmt: skip
    point, along = part["trace_point"].to_numpy(), part["trace_direction"].to_numpy()
    axes.axline(tuple(point), tuple(point + along), color="black", label="boundary")
    axes.axvline(0, color=GREY, linestyle=":", linewidth=0.8, label="nearest-centroid boundary")
    every = np.concatenate(shown)
    reach = 1.05 * np.abs(sweep["train_n"].to_numpy()[:, every]).max()
    wide = 1.05 * np.abs(z[every]).max()
    high = max(reach, 0.4 * wide)
    axes.set(xlim=(-wide, wide), ylim=(-high, high), aspect="equal")
    axes.set_title(
        f"C = {float(part['C']):.1e}, angle {_degrees(part):.0f}°\n"
        f"test error {100 * float(part['test_error']):.1f} %",
        fontsize=7,
    )


def _curve(axes: Axes, ds: xr.Dataset, values: xr.DataArray, color: str, label: str) -> None:
    axes.plot(ds["C"], values, color=color, marker="o", markersize=2.5, label=label)
    early = ~ds["converged"].to_numpy().astype(bool)
    if early.any():
        axes.plot(
            ds["C"][early], values[early], color=color, marker="x", linestyle="", markersize=6
        )


def _example(grid: np.ndarray, ds: xr.Dataset, chosen: Sequence[int]) -> None:
    image = ds["example_image"].to_numpy()
    low, high = float(image.min()), float(image.max())
    _picture(grid[0, 0], image, low, high)
    grid[1, 0].set_axis_off()
    for column, i in enumerate(chosen, start=1):
        moved = ds["adversarial_image"].isel(C=i).to_numpy()
        _picture(grid[0, column], moved, low, high)
        step = moved - image
        show_direction(grid[1, column], step)
        grid[1, column].set_title(f"norm {np.linalg.norm(step):.2f}", fontsize=6, pad=2)


def _picture(axes: Axes, image: np.ndarray, low: float, high: float) -> None:
    shown = np.clip((image - low) / (high - low), 0, 1)
    if len(shown) == 3:
        axes.imshow(shown.transpose(1, 2, 0))
    else:
        axes.imshow(shown[0], cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def _space(axes: Any, ds: xr.Dataset, detailed: bool) -> None:
    points = ds["space_train"].to_numpy()
    shown = _few(ds["train_label"].to_numpy())
    for at, name, color in zip(shown, ds.attrs["class_names"], (BLUE, ORANGE), strict=True):
        axes.scatter(*points[at].T, s=3, color=color, linewidth=0, label=f"class {name}")
    reach = float(np.abs(points).max())
    for k, color in enumerate((GREEN, VERMILION)):
        part = ds.isel(extreme=k)
        normal, gap = part["space_normal"].to_numpy(), float(part["space_distance"])
        c = float(ds["C"][int(part["space_index"])])
        _surface(axes, normal, gap, reach, color, f"boundary, C = {c:.0e}")
        axes.quiver(*np.zeros(3), *(0.6 * reach * normal), color=color, linewidth=1.5)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((1, 1, 1))
    axes.set_xlabel("z", labelpad=-8)
    axes.set_ylabel("n at largest C", labelpad=-8)
    axes.set_zlabel("third axis" if detailed else "", labelpad=-8)
    axes.tick_params(labelsize=5, pad=-3)


def _surface(
    axes: Any, normal: np.ndarray, gap: float, reach: float, color: str, label: str
) -> None:
    """The plane normal.y + gap = 0 over the two axes that lie most along it."""
    solved = int(np.argmax(np.abs(normal)))
    free = [axis for axis in range(3) if axis != solved]
    corners = np.meshgrid(*(np.array([-reach, reach]) for _ in free))
    sheet = [np.zeros((2, 2))] * 3
    for axis, values in zip(free, corners, strict=True):
        sheet[axis] = values
    rest = sum(normal[axis] * sheet[axis] for axis in free)
    sheet[solved] = -(gap + rest) / normal[solved]
    axes.plot_surface(*sheet, color=color, alpha=0.3, linewidth=0, label=label)


def _histogram(axes: Axes, angles: np.ndarray, bins: np.ndarray, color: str, label: str) -> None:
    if len(angles) == 0:
        axes.plot([], [], color=color, label=label)
        return
    weights = np.full(len(angles), 100 / len(angles))
    axes.hist(angles, bins.tolist(), weights=weights, color=color, label=label, histtype="step")
