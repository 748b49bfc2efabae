"""Figures of the tilting plane: its projections, its sweep over C, adversarial images, angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.plotting.figure import (
    Given,
    figure,
    heading,
    legend,
    new_figure,
    panel,
    panels,
    settle,
    whole,
)
from geomadv.plotting.parts import histogram, show_direction, show_image, title
from geomadv.plotting.style import COLUMN, GREY, PAGE, scaled

# Points drawn of each class: more only hide each other.
_POINTS = 250

_PLANE = ("C", "angle", "train_z", "train_n", "train_label", "trace_point", "trace_direction")


@figure("tilting_plane", *_PLANE, "test_z")
def tilting_plane(ds: xr.Dataset, angles: int = 4, *, ax: Given = None) -> Figure:
    """Training images and the boundary in the tilting plane, from upright to most tilted.

    ds: result of `experiments.tilting_plane`. Of the sweep, those boundaries are drawn whose
    angles lie nearest to equal steps. Both axes have one scale: distances to the line are
    distances to the boundary. ax: axes to draw into, as many as there are such boundaries.
    """
    chosen = _equal_steps(ds, angles)
    row = panels(ax, PAGE, 2.6, 1, len(chosen), sharex=True, sharey=True)
    for axes, i in zip(row, chosen, strict=True):
        _plane(axes, ds, ds.isel(C=i))
        axes.set_xlabel("along z (image units)")
    row[0].set_ylabel("along n (image units)")
    legend(row[0], 4)
    return settle(heading(row[0], _title(ds)))


@figure("tilting_toy", "dimension", *_PLANE)
def tilting_toy(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """The toy problem's tilting plane: one row per number of dimensions, C grows to the right.

    ds: result of `experiments.tilting_toy`; ax: axes to draw into, up to three a row.
    """
    chosen = _equal_steps(ds.isel(dimension=0), 3)
    count = ds.sizes["dimension"]
    shared: Any = {"sharex": True, "sharey": True}
    grid = panels(ax, PAGE, 0.6 + 1.35 * count, count, len(chosen), **shared)
    for k in range(count):
        part = ds.isel(dimension=k)
        row = grid[k * len(chosen) : (k + 1) * len(chosen)]
        for axes, i in zip(row, chosen, strict=True):
            _plane(axes, part, part.isel(C=i), names=("0", "1"))
        row[0].set_ylabel(f"{int(part['dimension'])} dimensions\nalong n")
    for axes in row:
        axes.set_xlabel("along z (image units)")
    legend(grid[0], 4)
    return settle(heading(grid[0], "toy problem: two classes that differ much in z, cleanly in n"))


@figure(
    "tilting_plane", "C", "angle", "converged", "train_error", "mean_adversarial_norm", "test_z"
)
def tilting_sweep(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Deviation angle, error rates, distance and adversarial norm against C.

    ds: result of `experiments.tilting_plane`; ax: four axes to draw into. Dotted lines are the
    nearest-centroid classifier; crosses mark fits whose solver did not converge.
    """
    four = panels(ax, PAGE, 4.0, 2, 2, sharex=True)
    angle, error, distance, norm = four
    _curve(angle, ds, ds["angle"] * (180 / np.pi), "black", "angle between w and z")
    angle.set_ylabel("deviation angle (degrees)")
    angle.set_ylim(bottom=-1)
    for name, color, label in (("train", "C1", "training images"), ("test", "C0", "test images")):
        _curve(error, ds, 100 * ds[f"{name}_error"], color, label)
        error.axhline(100 * float(ds[f"centroid_{name}_error"]), color=color, linestyle=":")
    error.plot([], [], color=GREY, linestyle=":", label="nearest-centroid classifier")
    error.set_ylabel("error (%)")
    for axes, name, label in (
        (distance, "mean_distance", "mean distance to the\nboundary (image units)"),
        (norm, "mean_adversarial_norm", "mean adversarial norm\n(image units)"),
    ):
        _curve(axes, ds, ds[name], "C0", "test images")
        axes.axhline(float(ds[f"centroid_{name}"]), color="C0", linestyle=":")
        axes.set_ylabel(label)
        axes.set_xlabel("C (strong to weak regularisation)")
    for axes in four:
        axes.set_xscale("log")
    for axes in (error, distance, norm):
        axes.set_ylim(bottom=0)
    legend(error, 3)
    return heading(angle, _title(ds))


@figure("tilting_plane", "C", "angle", "example_image", "adversarial_image")
def tilting_images(ds: xr.Dataset, steps: int = 6, examples: int = 2) -> Figure:
    """Test images moved onto the boundary, and the perturbations, against C.

    A page of its own: ds is the result of `experiments.tilting_plane`. A perturbation is scaled by
    its own largest pixel; grey is zero. Its norm, in image units, stands above it.
    """
    chosen = _equal_steps(ds, steps)[::-1]
    examples = min(examples, ds.sizes["example"])
    drawing = new_figure(PAGE, 0.5 + 2.0 * examples)
    grid = drawing.subplots(2 * examples, len(chosen) + 1, squeeze=False)
    for k in range(examples):
        _example(grid[2 * k : 2 * k + 2], ds.isel(example=k), chosen)
    for axes, i in zip(grid[0, 1:], chosen, strict=True):
        part = ds.isel(C=i)
        heading_of = f"C = {float(part['C']):.0e}\n{_degrees(part):.0f}°"
        axes.set_title(heading_of, fontsize=scaled(7))
    grid[0, 0].set_title("image", fontsize=scaled(7))
    drawing.suptitle(f"{_title(ds)}: images on the boundary and perturbations")
    return drawing


@figure("tilting_plane", "C", "train_label", "angle", "test_z")
def tilting_space(ds: xr.Dataset) -> Figure:
    """The two extreme boundaries and the training images in the space of z and both weights.

    A page of its own, seen from two sides: ds is the result of `experiments.tilting_plane` over two
    usable values of C or more, D >= 3.

    Raises:
        InputError: the result has no such space.
    """
    if "space_basis" not in ds:
        raise InputError(
            "the result has no space between two extreme weights: it needs two values of C with "
            "usable boundaries and images of three pixels or more."
        )
    both = panels(None, PAGE, 3.4, 1, 2, subplot_kw={"projection": "3d"})
    for axes, (elevation, turn) in zip(both, ((18, -70), (60, -35)), strict=True):
        _space(axes, ds, detailed=axes is both[0], view=(elevation, turn))
    legend(both[1], 4)
    return heading(both[0], f"{_title(ds)}: boundaries at the extremes of C")


@figure("normal_tilt", "angle", "random_angle", "source", "sample")
def normal_tilt(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Histograms of the angle between boundary normals and centroid directions, by network.

    ds: results of `experiments.normal_tilt` side by side, over sample and, with more than one
    network, `network_name`; ax: axes to draw into.
    """
    if "network_name" not in ds.coords:
        ds = ds.expand_dims(network_name=[ds.attrs.get("network", "network")])
    axes = panel(ax, COLUMN, 2.3 + 0.16 * ds.sizes["network_name"])
    random = np.degrees(ds["random_angle"].to_numpy().ravel())
    look: Any = {"edges": np.linspace(0, 180, 61), "histtype": "step"}
    histogram(axes, random, color=GREY, label="random directions", **look)
    for i, name in enumerate(ds["network_name"].to_numpy()):
        one = ds.sel(network_name=name)
        label = f"{name}: {_medians(one)}"
        angles = np.degrees(one["angle"].to_numpy())
        histogram(axes, angles, color=f"C{i % 6}", label=label, **look)
    widest = max(np.nanmax(random), float(np.degrees(ds["angle"].max().fillna(0))))
    axes.set_xlim(0, 10 * np.ceil(widest / 10))
    axes.set_xlabel("angle to the centroid direction (degrees)")
    axes.set_ylabel("share of boundary points (%)")
    legend(axes, loc="outside lower left")
    axes.set_title(f"tilt of the boundary, {ds.attrs.get('dataset', '')}{_pair(ds)}")
    return whole(axes)


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


def _few(labels: NDArray[Any]) -> list[NDArray[Any]]:
    """Positions of evenly spaced images of the two classes."""
    both = (np.flatnonzero(labels == c) for c in np.unique(labels))
    return [at[:: max(1, -(-len(at) // _POINTS))] for at in both]


def _plane(
    axes: Axes, sweep: xr.Dataset, part: xr.Dataset, names: Sequence[str] | None = None
) -> None:
    names = sweep.attrs["class_names"] if names is None else names
    z, n = part["train_z"].to_numpy(), part["train_n"].to_numpy()
    shown = _few(part["train_label"].to_numpy())
    for at, name, color, marker in zip(shown, names, ("C0", "C1"), "o^", strict=True):
        look: Any = {"color": color, "marker": marker, "linewidth": 0, "alpha": 0.6}
        axes.scatter(z[at], n[at], s=4, label=f"class {name}", **look)
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
        fontsize=scaled(7),
    )


def _curve(axes: Axes, ds: xr.Dataset, values: xr.DataArray, color: str, label: str) -> None:
    axes.plot(ds["C"], values, color=color, marker="o", markersize=2.5, label=label)
    early = ~ds["converged"].to_numpy().astype(bool)
    if early.any():
        cross: Any = {"marker": "x", "linestyle": "", "markersize": 6}
        axes.plot(ds["C"][early], values[early], color=color, **cross)


def _example(grid: NDArray[Any], ds: xr.Dataset, chosen: Sequence[int]) -> None:
    image = ds["example_image"].to_numpy()
    low, high = float(image.min()), float(image.max())
    show_image(grid[0, 0], image, low, high)
    grid[1, 0].set_axis_off()
    for column, i in enumerate(chosen, start=1):
        moved = ds["adversarial_image"].isel(C=i).to_numpy()
        show_image(grid[0, column], moved, low, high)
        step = moved - image
        show_direction(grid[1, column], step)
        grid[1, column].set_title(f"norm {np.linalg.norm(step):.2f}", fontsize=scaled(6), pad=2)


def _space(axes: Any, ds: xr.Dataset, detailed: bool, view: tuple[int, int]) -> None:
    points = ds["space_train"].to_numpy()
    shown = _few(ds["train_label"].to_numpy())
    for at, name, color in zip(shown, ds.attrs["class_names"], ("C0", "C1"), strict=True):
        axes.scatter(*points[at].T, s=3, color=color, linewidth=0, label=f"class {name}")
    reach = float(np.abs(points).max())
    for k, color in enumerate(("C2", "C3")):
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
    axes.tick_params(labelsize=scaled(5), pad=-3)
    axes.view_init(*view)


def _surface(
    axes: Any, normal: NDArray[Any], gap: float, reach: float, color: str, label: str
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
