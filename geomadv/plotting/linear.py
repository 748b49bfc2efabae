"""Figures of the tilting plane: its projections, its sweep over C, adversarial images, angles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.experiments.linear.hyperplanes import as_good_as_the_best
from geomadv.plotting.figure import (
    Given,
    figure,
    heading,
    legend,
    new_figure,
    note,
    panel,
    panels,
    settle,
    whole,
)
from geomadv.plotting.parts import (
    caption,
    log_edges,
    question,
    show_direction,
    show_image,
    title,
)
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
    legend(row[0], 4, markerscale=2)
    return settle(note(heading(row[0], _title(ds)), _images(ds), _shown(ds)))


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
    legend(grid[0], 4, markerscale=2)
    drawing = heading(grid[0], "toy problem: two classes that differ much in z, cleanly in n")
    return settle(note(drawing, f"{ds.sizes['train']} training points", _shown(ds)))


@figure(
    "tilting_plane", "C", "angle", "converged", "train_error", "mean_adversarial_norm", "test_z"
)
def tilting_sweep(ds: xr.Dataset, *, ax: Given = None) -> Figure:
    """Deviation angle, error rates, distance and adversarial norm against C.

    ds: result of `experiments.tilting_plane`; ax: four axes to draw into. Grey lines are the
    nearest-centroid classifier; crosses mark fits whose solver did not converge. Bands are one
    binomial standard error of errors, and the 10th to 90th percentile of test images; shaded are
    the values of C whose test error lies within one standard error of the best.
    """
    four = panels(ax, PAGE, 4.0, 2, 2, sharex=True)
    angle, error, distance, norm = four
    _curve(angle, ds, ds["angle"] * (180 / np.pi), "C0", "test images")
    angle.set_ylabel("deviation angle (degrees)")
    _errors(error, ds)
    sizes = abs(ds["test_distance"])
    second = (ds["test_label"] == int(ds.attrs["pair"][1])).to_numpy()
    correct = (ds["test_distance"] > 0) == xr.DataArray(second, dims="test")
    for axes, name, label, values in (
        (distance, "mean_distance", "distance to the\nboundary (image units)", sizes),
        (norm, "mean_adversarial_norm", "adversarial norm\n(image units)", sizes.where(correct)),
    ):
        low, high = (values.quantile(share, "test") for share in (0.1, 0.9))
        axes.fill_between(ds["C"], low, high, color="C0", alpha=0.2, linewidth=0)
        _curve(axes, ds, ds[name], "C0", "test images")
        axes.axhline(float(ds[f"centroid_{name}"]), color=GREY, linestyle=":")
        axes.set_ylabel(label)
        axes.set_xlabel("C (strong to weak regularisation)")
    edges = log_edges(ds["C"].to_numpy())
    error_of = ds["test_error"].where(ds["angle"].notnull()).to_numpy()
    good = as_good_as_the_best(error_of, ds.sizes["test"])
    for axes in four:
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        for i in np.flatnonzero(good):
            axes.axvspan(edges[i], edges[i + 1], color=GREY, alpha=0.12, linewidth=0, zorder=0)
    legend(error, 4)
    return note(
        heading(angle, _title(ds)),
        _images(ds),
        "bands: one binomial standard error of errors; 10th to 90th percentile of test images, of "
        "norms those classified correctly; lines: means",
        "shaded: C with a test error within one standard error of the best",
    )


def _errors(axes: Axes, ds: xr.Dataset) -> None:
    for name, color, dashes in (("train", "C1", "--"), ("test", "C0", ":")):
        share = ds[f"{name}_error"]
        deviation = np.sqrt(share * (1 - share) / ds.sizes[name])
        low, high = 100 * (share - deviation), 100 * (share + deviation)
        axes.fill_between(ds["C"], low, high, color=color, alpha=0.2, linewidth=0)
        _curve(axes, ds, 100 * share, color, f"{name.replace('train', 'training')} images")
        level = 100 * float(ds[f"centroid_{name}_error"])
        axes.axhline(level, color=GREY, linestyle=dashes, label=f"nearest centroid, {name}")
    axes.set_ylabel("error (%)")


@figure("tilting_plane", "C", "angle", "example_image", "adversarial_image", "converged", "test")
def tilting_images(ds: xr.Dataset, steps: int = 6, examples: int = 2) -> Figure:
    """Test images moved onto the boundary, and the perturbations, against C.

    A page of its own: ds is the result of `experiments.tilting_plane`. A perturbation is scaled by
    its own largest pixel; grey is zero. Its norm, in image units, stands below it; a dashed frame
    marks a fit whose solver did not converge.
    """
    chosen = _equal_steps(ds, steps)[::-1]
    examples = min(examples, ds.sizes["example"])
    drawing = new_figure(PAGE, 0.5 + 2.0 * examples)
    grid = drawing.subplots(2 * examples, len(chosen) + 1, squeeze=False)
    for k in range(examples):
        _example(grid[2 * k : 2 * k + 2], ds.isel(example=k), chosen)
    for axes, i in zip(grid[0, 1:], chosen, strict=True):
        part = ds.isel(C=i)
        axes.set_title(f"C = {float(part['C']):.0e}\n{_degrees(part):.0f}°")
    grid[0, 0].set_title("image")
    drawing.suptitle(f"{_title(ds)}: images on the boundary and perturbations")
    dashed = "" if bool(ds["converged"].all()) else "; dashed frame: the fit did not converge"
    return note(
        drawing,
        f"{examples} of {ds.sizes['test']} test images; grey: zero, own scale{dashed}",
        "norm: Euclidean, in image units",
    )


@figure("tilting_plane", "C", "train_label", "angle", "test_z")
def tilting_space(ds: xr.Dataset) -> Figure:
    """The two extreme boundaries and the training images in the space of z and both weights.

    A page of its own: ds is the result of `experiments.tilting_plane` over two usable values of C
    or more, D >= 3. On the left the space; on the right it is seen along the line in which the two
    boundaries meet, where both are lines with their true angle and all distances to them are true.

    Raises:
        InputError: the result has no such space.
    """
    if "space_basis" not in ds:
        raise InputError(
            "the result has no space between two extreme weights: it needs two values of C with "
            "usable boundaries and images of three pixels or more."
        )
    drawing = new_figure(PAGE, 3.3)
    grid = drawing.add_gridspec(1, 2, width_ratios=[1.3, 1])
    left: Any = drawing.add_subplot(grid[0], projection="3d")
    right = drawing.add_subplot(grid[1])
    _space(left, ds)
    _edge_on(right, ds)
    legend(right, 4, markerscale=2)
    words = f"{_title(ds)}: boundaries at the extremes of C"
    return settle(note(heading(left, words), _images(ds), _shown(ds)))


@figure("normal_tilt", "angle", "random_angle", "source", "sample")
def normal_tilt(ds: xr.Dataset, *, ax: Axes | None = None) -> Figure:
    """Angles between boundary normals and centroid directions, by network: shares below an angle.

    ds: results of `experiments.normal_tilt` side by side, over sample and, with more than one
    network, `network_name`; ax: axes to draw into. A cumulative curve needs no bins; grey is the
    same of random directions, dots are medians.
    """
    if "network_name" not in ds.coords:
        ds = ds.assign_coords(network_name=ds.attrs.get("network", "network"))
    if "network_name" not in ds.dims:
        ds = ds.expand_dims("network_name")
    axes = panel(ax, COLUMN, 2.3 + 0.16 * ds.sizes["network_name"])
    _below(axes, ds["random_angle"], GREY, "random directions")
    for i, name in enumerate(ds["network_name"].to_numpy()):
        one = ds.sel(network_name=name)
        _below(axes, one["angle"], f"C{i % 6}", f"{name}: {_medians(one)}")
    axes.set_xlabel("angle to the centroid direction (degrees)")
    axes.set_ylabel("boundary points below (%)")
    axes.set_ylim(0, 103)
    legend(axes)
    axes.set_title(f"tilt of the boundary, {ds.attrs.get('dataset', '')}{_pair(ds)}")
    used = ds["angle"].notnull().sum("sample").to_numpy()
    points = f"{used.min()}" if used.min() == used.max() else f"{used.min()} to {used.max()}"
    return note(
        whole(axes),
        f"{points} boundary points a network of {ds.sizes['sample']} images",
        "grey: as many random directions, the same centroid directions; dots: medians",
    )


def _below(axes: Axes, angles: xr.DataArray, color: str, label: str) -> None:
    """The share of angles, in percent, that lie below each angle, and their median."""
    known = np.sort(np.degrees(angles.to_numpy().ravel()))
    known = known[np.isfinite(known)]
    shares = 100 * np.arange(1, len(known) + 1) / max(len(known), 1)
    axes.step(known, shares, where="post", color=color, label=label)
    if len(known):
        axes.plot(np.median(known), 50, "o", color=color, markersize=3)


def _title(ds: xr.Dataset) -> str:
    data = title(ds.assign_attrs(network=ds.attrs["classifier"].split("(")[0]))
    return f"{data}, {' against '.join(ds.attrs['class_names'])}"


def _images(ds: xr.Dataset) -> str:
    return f"{ds.sizes['train']} training and {ds.sizes['test']} test images"


def _shown(ds: xr.Dataset) -> str:
    """How many of the training images are drawn."""
    return f"at most {_POINTS} of each class drawn" if ds.sizes["train"] > _POINTS else ""


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
    axes.axvline(0, color=GREY, linestyle=":", linewidth=0.8, label="nearest-centroid boundary")
    every = np.concatenate(shown)
    reach = 1.05 * np.abs(sweep["train_n"].to_numpy()[:, every]).max()
    wide = 1.05 * np.abs(z[every]).max()
    high = max(reach, 0.4 * wide)
    # Longer than the panel, which cuts it.
    trace = point + np.array([[-4], [4]]) * max(wide, high) * along
    axes.plot(*trace.T, color="black", label="boundary")
    axes.set(xlim=(-wide, wide), ylim=(-high, high), aspect="equal")
    axes.set_title(
        f"C = {float(part['C']):.0e}, angle {_degrees(part):.0f}°\n"
        f"test error {100 * float(part['test_error']):.1f} %"
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
        caption(grid[1, column], f"norm {np.linalg.norm(step):.2f}")
        if not bool(ds["converged"][i]):
            question(grid[1, column])


def _space(axes: Any, ds: xr.Dataset) -> None:
    points = ds["space_train"].to_numpy()
    shown = _few(ds["train_label"].to_numpy())
    for at, color in zip(shown, ("C0", "C1"), strict=True):
        axes.scatter(*points[at].T, s=3, color=color, linewidth=0)
    reach = float(np.abs(points).max())
    for part, color, _ in _extremes(ds):
        normal, gap = part["space_normal"].to_numpy(), float(part["space_distance"])
        _surface(axes, normal, gap, reach, color)
        axes.quiver(*np.zeros(3), *(0.6 * reach * normal), color=color, linewidth=1.5)
    ends = (-reach, reach)
    tick = float(f"{0.7 * reach:.1g}")
    axes.set(xlim=ends, ylim=ends, zlim=ends)
    axes.set(**{f"{axis}ticks": [-tick, 0, tick] for axis in "xyz"})
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    axes.set_xlabel("z", labelpad=-6)
    axes.set_ylabel("n at largest C", labelpad=-6)
    axes.set_zlabel("third axis", labelpad=-6)
    axes.tick_params(labelsize=scaled(6), pad=-3)
    axes.view_init(18, -70)


def _extremes(ds: xr.Dataset) -> list[tuple[xr.Dataset, str, str]]:
    """The two boundaries, their colours and names."""
    parts = [ds.isel(extreme=k) for k in range(2)]
    strength = [float(ds["C"][int(part["space_index"])]) for part in parts]
    names = [f"boundary, C = {c:.0e}" for c in strength]
    return list(zip(parts, ("C2", "C3"), names, strict=True))


def _edge_on(axes: Axes, ds: xr.Dataset) -> None:
    """Both boundaries as lines, in the plane that their weights span."""
    extremes = _extremes(ds)
    first, second = (part["space_normal"].to_numpy() for part, *_ in reversed(extremes))
    across = second - (second @ first) * first
    length = float(np.linalg.norm(across))
    if length < 1e-9:
        # One direction: any other one will do.
        across, length = np.roll(first, 1) - (np.roll(first, 1) @ first) * first, 1.0
    plane = np.stack([first, across / max(length, 1e-12)])
    points = ds["space_train"].to_numpy() @ plane.T
    shown = _few(ds["train_label"].to_numpy())
    for at, name, color in zip(shown, ds.attrs["class_names"], ("C0", "C1"), strict=True):
        look: Any = {"color": color, "linewidth": 0, "alpha": 0.6, "label": f"class {name}"}
        axes.scatter(points[at, 0], points[at, 1], s=4, **look)
    reach = 1.05 * np.abs(points).max(0)
    for part, color, name in extremes:
        normal = plane @ part["space_normal"].to_numpy()
        foot, along = -float(part["space_distance"]) * normal, np.array([-normal[1], normal[0]])
        trace = foot + np.array([[-4], [4]]) * reach.max() * along
        axes.plot(*trace.T, color=color, label=name)
    angle = float(np.degrees(np.arccos(np.clip(first @ second, -1, 1))))
    axes.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="equal")
    axes.set_title(f"along their common line, {angle:.0f}° apart")
    axes.set_xlabel(f"along w at C = {extremes[1][2].split()[-1]} (image units)")
    axes.set_ylabel("across it (image units)")


def _surface(axes: Any, normal: NDArray[Any], gap: float, reach: float, color: str) -> None:
    """The plane normal.y + gap = 0 over the two axes that lie most along it."""
    solved = int(np.argmax(np.abs(normal)))
    free = [axis for axis in range(3) if axis != solved]
    corners = np.meshgrid(*(np.array([-reach, reach]) for _ in free))
    sheet = [np.zeros((2, 2))] * 3
    for axis, values in zip(free, corners, strict=True):
        sheet[axis] = values
    rest = sum(normal[axis] * sheet[axis] for axis in free)
    sheet[solved] = -(gap + rest) / normal[solved]
    axes.plot_surface(*sheet, color=color, alpha=0.3, linewidth=0)
