"""The tilting plane as one HTML file with a slider for the regularisation."""

import base64
import html
import json
from importlib import resources
from typing import Any

import numpy as np
import xarray as xr

from geomadv.errors import InputError
from geomadv.plotting.figure import figure

# How far the image across the boundary lies, as a multiple of the way to the boundary.
_ACROSS = 1.1


@figure("tilting_plane", "C", "angle", "weight", "trace_direction", "example_image", "test_n")
def tilting_slider(ds: xr.Dataset, points: int = 300, seed: int = 0) -> str:
    """A web page on which one moves the regularisation and sees points, boundary and image move.

    It starts in the middle of the values of C. A test image is shown beside its shift across the
    boundary, by a tenth more than the way to it, with the labels predicted for both.

    The page is whole in itself: it loads nothing, from this machine or another, and says so to the
    browser. Points are training images, drawn from both classes alike; values of C without a usable
    boundary are left out.

    Args:
        ds: result of `experiments.tilting_plane`.
        points: training images shown.
        seed: of their choice.

    Returns:
        The text of the HTML file, to be written as UTF-8.

    Raises:
        InputError: points < 2, or no value of C has a usable boundary.
    """
    if points < 2:
        raise InputError(f"points={points} must be at least 2, one of each class.")
    usable = np.isfinite(ds["angle"].to_numpy())
    if not usable.any():
        raise InputError(
            "no value of C has a usable boundary: there is nothing to show. Give other classes or "
            "images (tilting_plane.classes, --images)."
        )
    # Strong regularisation is to the right, as on a control that one turns up.
    ds = ds.isel(C=np.flatnonzero(usable)).sortby("C", ascending=False)
    names = " against ".join(ds.attrs["class_names"])
    title = f"The tilting boundary: {names} of {ds.attrs.get('dataset', 'the images')}"
    # In a script element of type JSON only "<" could end it early.
    data = json.dumps(_contents(ds, points, seed), allow_nan=False).replace("<", "\\u003c")
    template = resources.files("geomadv.plotting").joinpath("tilting_slider.html")
    page = template.read_text(encoding="utf-8").replace("__TITLE__", html.escape(title))
    return page.replace("__DATA__", data)


def _contents(ds: xr.Dataset, points: int, seed: int) -> dict[str, Any]:
    chosen = _sample(ds["train_label"].to_numpy(), points, seed)
    z, n = ds["train_z"].to_numpy()[chosen], ds["train_n"].to_numpy()[:, chosen]
    labels = ds["train_label"].to_numpy()[chosen]
    reach = 1.08 * np.array([np.abs(z).max(), max(np.abs(n).max(), 0.4 * np.abs(z).max())])
    # The trace's normal: its direction turned by a right angle.
    turned = ds["trace_direction"].to_numpy()[:, ::-1] * [1, -1]
    return {
        "classes": [f"class {name}" for name in ds.attrs["class_names"]],
        "C": ds["C"].to_numpy().tolist(),
        "angle": _round(np.degrees(ds["angle"].to_numpy())),
        "train_error": _round(100 * ds["train_error"].to_numpy()),
        "test_error": _round(100 * ds["test_error"].to_numpy()),
        "distance": _round(ds["mean_distance"].to_numpy()),
        "norm": _numbers(ds["mean_adversarial_norm"].to_numpy()),
        "converged": ds["converged"].to_numpy().astype(bool).tolist(),
        "reference": {
            "angle": 0.0,
            "train_error": 100 * float(ds["centroid_train_error"]),
            "test_error": 100 * float(ds["centroid_test_error"]),
            "distance": float(ds["centroid_mean_distance"]),
            "norm": _numbers(ds["centroid_mean_adversarial_norm"].to_numpy()[None])[0],
        },
        "gap": _round(-(ds["trace_point"].to_numpy() * turned).sum(1)),
        "reach": _round(reach),
        "z": _round(z),
        "n": _round(n),
        "label": (labels == ds.attrs["pair"][1]).astype(int).tolist(),
        "shape": list(ds["example_image"].shape[1:]),
        "weight": [_bytes(w, -np.abs(w).max(), np.abs(w).max()) for w in ds["weight"].to_numpy()],
        "examples": [_example(ds, k) for k in range(ds.sizes["example"])],
    }


def _example(ds: xr.Dataset, k: int) -> dict[str, Any]:
    image = ds["example_image"].isel(example=k).to_numpy()
    moved = image + _ACROSS * (ds["adversarial_image"].isel(example=k).to_numpy() - image)
    low, high = float(image.min()), float(image.max())
    number = int(ds["example_index"][k])
    label = int(ds["example_label"][k])
    second = label == int(ds.attrs["pair"][1])
    z = float(ds["test_z"][number])
    return {
        "name": f"class {ds.attrs['class_names'][int(second)]}",
        "number": number,
        "z": z,
        "n": _round(ds["test_n"].to_numpy()[:, number]),
        "norm": _round(np.abs(ds["test_distance"].to_numpy()[:, number])),
        # The nearest-centroid boundary is at z = 0.
        "reference": abs(z),
        "image": _bytes(image, low, high),
        "moved": [_bytes(one, low, high) for one in moved],
        "against": (ds["test_distance"].to_numpy()[:, number] > 0).tolist(),
    }


def _sample(labels: np.ndarray, points: int, seed: int) -> np.ndarray:
    """Positions of about `points` images, as many of one class as of the other if there are."""
    rng = np.random.default_rng(seed)
    both = (np.flatnonzero(labels == c) for c in np.unique(labels))
    return np.concatenate([rng.permutation(at)[: points // 2] for at in both])


def _bytes(image: np.ndarray, low: float, high: float) -> str:
    share = np.clip((image - low) / (high - low), 0, 1) if high > low else np.zeros_like(image)
    return base64.b64encode(np.rint(255 * share).astype(np.uint8).tobytes()).decode("ascii")


def _round(values: np.ndarray) -> Any:
    """Four decimals: far below a pixel of the screen."""
    return np.round(values, 4).tolist()


def _numbers(values: np.ndarray) -> list[float | None]:
    """Like `_round`, None where there is none (no test image is classified correctly)."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
