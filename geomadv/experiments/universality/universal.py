"""Universal perturbations: how many images one vector fools, and how many it takes to find it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError, check_counts
from geomadv.experiments.universality.search import kept_searches
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.linalg import uniform_directions
from geomadv.perturbations.balls import ball_norm, check_ball, check_units, mean_norm
from geomadv.perturbations.fooling import clean_labels, is_fooled, labels_under
from geomadv.perturbations.universal import UniversalPerturbation, check_search
from geomadv.progress import tqdm

_SEARCH, _FOUND = ("size", "repeat"), "class predicted at the held-out image"
_PASSES, _AFTER = (*_SEARCH, "pass"), "after the pass"

SCHEMA: Schema = {
    "size": (("size",), "images in the sample set", "1"),
    "fooling_rate": (_SEARCH, "fooling rate on the sample set", "1"),
    "held_out_fooling_rate": (_SEARCH, "fooling rate on held-out images", "1"),
    "norm": (_SEARCH, "p-norm of the perturbation", "image units"),
    "history": (_PASSES, f"fooling rate on the sample set {_AFTER}", "1"),
    "held_out_history": (_PASSES, f"fooling rate on held-out images {_AFTER}", "1"),
    "perturbation": (
        ("repeat", *IMAGE),
        "universal perturbation of the largest sample set",
        "image units",
    ),
    "prediction": (("held_out_sample",), _FOUND, "1"),
    "label": (("repeat", "held_out_sample"), f"{_FOUND} plus the perturbation", "1"),
    "random_fooling_rate": (
        ("draw",),
        "held-out fooling rate of random perturbations of norm radius",
        "1",
    ),
    "radius": ((), "radius of the ball", "image units"),
    "mean_image_norm": ((), "mean Euclidean norm of the images", "image units"),
}


def universal(
    net: Classifier,
    images: Any,
    held_out: Any,
    radius: float,
    p: float = 2,
    sizes: Sequence[int] | None = None,
    repeats: int = 3,
    seed: int = 0,
    *,
    search: Mapping[str, Any] | None = None,
    draws: int = 10,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fooling rates of universal perturbations against the size of their sample set.

    "Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017), table 1 and
    figure 6. Each repeat draws its own sample sets, smaller ones inside larger ones, and its own
    order of the images.

    Args:
        net: the network.
        images: images (N, C, H, W) that sample sets are drawn from.
        held_out: images that take no part in the search.
        radius: of the p-ball, image units.
        p: 2 or math.inf.
        sizes: of the sample sets, ascending, each at most N; default: N alone.
        repeats: searches per size.
        seed: of everything random.
        search: settings of `universal_perturbation`: target_rate, passes, method, block and those
            of DeepFool.
        draws: random perturbations of the same norm, for comparison: uniform directions (p = 2)
            or random signs (p = inf).
        keep: what keeps finished searches; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over size, repeat, pass, draw, held_out_sample, and channel, row, column:
        `fooling_rate` and `held_out_fooling_rate` (size, repeat); `history` and
        `held_out_history` (size, repeat, pass), NaN after the last pass; `norm` (size, repeat);
        of the largest size `perturbation` (repeat, channel, row, column) and `label`
        (repeat, held_out_sample), -1 where scores are not finite (not fooled), with
        `prediction` (held_out_sample) at the clean images; `random_fooling_rate` (draw);
        `radius` and `mean_image_norm`.

    Raises:
        InputError: unusable images or settings, a size outside 1..N.
    """
    x, unseen = net.check_images(images), net.check_images(held_out)
    sizes = [len(x)] if sizes is None else [int(n) for n in sizes]
    _check(sizes, len(x), repeats, draws)
    check_ball(radius, p)
    check_units("radius", radius, p, net)
    settings = check_search(search)
    size = net.batch_size(batch_size)
    clean = clean_labels(net, unseen, size)
    settings |= {"radius": radius, "p": p, "held_out": unseen, "batch_size": size}
    searches, places = {}, []
    for repeat in range(repeats):
        order = np.random.default_rng([seed, repeat]).permutation(len(x))
        for number, n in enumerate(sizes):
            sample = x[torch.from_numpy(order[:n])]
            searches[f"search-{n}-{repeat}"] = {"images": sample, "seed": seed + repeat}
            places.append((number, repeat))
    with tqdm(total=len(searches), desc="sample sizes", unit="search", disable=not progress) as bar:
        found = dict(
            zip(places, kept_searches(keep, net, searches, bar.update, **settings), strict=True)
        )
    largest = [found[len(sizes) - 1, repeat].delta for repeat in range(repeats)]
    noise = random_perturbations(net, draws, radius, p, seed).to(x)
    labels = torch.stack([labels_under(net, unseen, v, size) for v in (*largest, *noise)])
    values = _rates(found, sizes, repeats) | {
        "perturbation": torch.stack(largest),
        "prediction": clean,
        "label": labels[:repeats],
        "random_fooling_rate": is_fooled(labels[repeats:], clean).double().mean(1),
        "radius": float(radius),
        "mean_image_norm": mean_norm(x),
        "size": np.asarray(sizes),
    }
    return described(SCHEMA, values, {"p": f"{p:g}"})


def random_perturbations(net: Classifier, draws: int, radius: float, p: float, seed: int) -> Tensor:
    """(draws, C, H, W) float64 random perturbations of p-norm radius.

    Uniform directions for p = 2, independent signs for p = inf.
    """
    vectors = uniform_directions(draws, net.dimension, seed=seed, dtype=torch.float64)
    if p != 2:
        vectors = vectors.sign()
    scaled = [v * (radius / ball_norm(v, p)) for v in vectors]
    return torch.stack(scaled).reshape(-1, *net.input_shape)


def _rates(
    found: Mapping[tuple[int, int], UniversalPerturbation], sizes: Sequence[int], repeats: int
) -> dict[str, NDArray[np.float64]]:
    """Rates, norms and histories of all searches."""
    passes = max(u.passes for u in found.values())
    shape = (len(sizes), repeats)
    rate, unseen, norm = (np.full(shape, np.nan) for _ in range(3))
    history, held_out = (np.full((*shape, passes), np.nan) for _ in range(2))
    for at, u in found.items():
        rate[at], unseen[at], norm[at] = u.fooling_rate, u.held_out_fooling_rate, u.norm
        history[at][: u.passes] = u.history
        held_out[at][: u.passes] = u.held_out_history
    return {
        "fooling_rate": rate,
        "held_out_fooling_rate": unseen,
        "norm": norm,
        "history": history,
        "held_out_history": held_out,
    }


def _check(sizes: Sequence[int], n: int, repeats: int, draws: int) -> None:
    if not sizes or min(sizes) < 1 or max(sizes) > n or list(sizes) != sorted(set(sizes)):
        raise InputError(
            f"sizes={list(sizes)} must ascend and lie between 1 and the {n} images that sample "
            "sets are drawn from."
        )
    check_counts(repeats=repeats, draws=draws)
