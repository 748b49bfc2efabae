"""What a network answers along straight lines through images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.labels import Schema
from geomadv.progress import tqdm

# Perturbed images are made in blocks of about so many numbers, several batches if these are small:
# the handful of operations around the network then costs little even for the smallest networks.
BLOCK_NUMBERS = 2**17

# What every result along lines holds.
LINES: Schema = {
    "scale": (("scale",), "scale s of the perturbation s d, d a unit vector", "image units"),
    "source": (("sample",), "class predicted at the clean image", "1"),
    "target": ((), "target class", "1"),
    "class_name": (("label",), "names of the network's classes", "1"),
}


@dataclass(frozen=True)
class LineAnswers:
    """Answers at x_n + s d, as arrays (direction, scale, sample).

    Attributes:
        target: score of the target class, the network's dtype.
        other: largest score of the other classes.
        softmax: softmax of the target class.
        prediction: predicted class, int16 (int32 for over 32,767 classes).
    """

    target: NDArray[np.floating]
    other: NDArray[np.floating]
    softmax: NDArray[np.floating]
    prediction: NDArray[np.signedinteger]


def unit_directions(net: Classifier, directions: Any) -> Tensor:
    """Directions (D, k) of any norm as unit rows (k, D) on the network's device, in its dtype.

    Raises:
        InputError: another shape, no direction, NaN, or a direction of norm zero.
    """
    columns = torch.as_tensor(directions)
    if columns.ndim != 2 or columns.shape[0] != net.dimension or columns.shape[1] == 0:
        raise InputError(
            f"directions have shape {tuple(columns.shape)}; images of network {net.name!r} have "
            f"{net.dimension} dimensions: give one direction a column, ({net.dimension}, k)."
        )
    rows = columns.detach().T.to(device="cpu", dtype=torch.float64)
    norms = rows.norm(dim=1, keepdim=True)
    unusable = (~norms.isfinite() | (norms == 0)).flatten().nonzero().flatten().tolist()
    if unusable:
        raise InputError(
            f"directions: column {unusable[0]} is zero or not finite; expected directions of a "
            "positive norm. Leave it out."
        )
    unit: Tensor = (rows / norms).to(device=net.device, dtype=net.dtype)
    return unit


def check_scales(scales: Any) -> NDArray[np.float64]:
    """Scales as an increasing float64 array (s,) that holds 0 and both signs.

    Raises:
        InputError: no such scales.
    """
    array = np.asarray(scales, dtype=np.float64)
    good = array.ndim == 1 and len(array) > 2 and bool(np.isfinite(array).all())
    if good:
        # The middle of np.linspace(-r, r, odd) is zero but for rounding.
        array = np.where(np.abs(array) <= 1e-12 * np.abs(array).max(), 0.0, array)
    if not good or (np.diff(array) <= 0).any() or array[0] >= 0 or 0 not in array[:-1]:
        raise InputError(
            f"scales={np.array2string(array, threshold=8)}: expected finite numbers in increasing "
            "order with 0 and both signs among them, in image units, for example "
            "numpy.linspace(-4, 4, 41)."
        )
    return array


def check_target(net: Classifier, target: int) -> None:
    """Raises `InputError` where the target is no class of the network."""
    if not 0 <= target < net.num_classes:
        raise InputError(
            f"target={target} is no class of network {net.name!r}, which has 0 to "
            f"{net.num_classes - 1}. Give one of these."
        )


@torch.no_grad()
def line_answers(
    net: Classifier,
    x: Tensor,
    directions: Tensor,
    scales: NDArray[np.float64],
    target: int,
    *,
    batch_size: int | None = None,
    progress: bool = False,
    label: str = "lines",
) -> LineAnswers:
    """Passes all x_n + s d through the network, in full batches across directions and scales.

    x (N, C, H, W) and unit rows (k, D) as `check_images` and `unit_directions` give them.

    Raises:
        InputError: the scores are not finite somewhere along the lines.
    """
    size = net.batch_size(batch_size)
    samples, steps = x.flatten(1), torch.as_tensor(scales).to(x)
    n, s, k = len(x), len(scales), len(directions)
    block = size * max(1, BLOCK_NUMBERS // (size * net.dimension))
    parts: list[tuple[Tensor, Tensor]] = []
    with tqdm(total=k * s * n, desc=label, unit="image", disable=not progress) as bar:
        for start in range(0, k * s * n, block):
            index = torch.arange(start, min(start + block, k * s * n), device=x.device)
            line, sample = index // n, index % n
            moved = torch.addcmul(
                samples[sample], steps[line % s, None], directions[line // s]
            ).reshape(-1, *net.input_shape)
            scores = torch.cat([net.scores(batch) for batch in moved.split(size)])
            parts.append(_answers(scores, target))
            bar.update(len(index))
    shape = (k, s, n)
    numbers = torch.cat([part for part, _ in parts], dim=1).reshape(3, *shape)
    if not numbers.isfinite().all():
        raise InputError(
            f"scales: network {net.name!r} gives non-finite scores between {scales[0]:g} and "
            f"{scales[-1]:g} image units from the images. Choose smaller scales."
        )
    kind = np.int16 if net.num_classes <= np.iinfo(np.int16).max else np.int32
    labels = torch.cat([part for _, part in parts]).reshape(shape).cpu().numpy()
    prediction: NDArray[np.signedinteger] = np.asarray(labels, dtype=kind)
    own, other, softmax = numbers.cpu().numpy()
    return LineAnswers(own, other, softmax, prediction)


def _answers(scores: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Scores (b, classes) -> target score, largest other score, target softmax (3, b); class."""
    own = scores[:, target]
    other = scores.index_fill(1, torch.tensor(target, device=scores.device), -torch.inf).amax(1)
    softmax = (own - scores.logsumexp(1)).exp()
    return torch.stack([own, other, softmax]), scores.argmax(1)
