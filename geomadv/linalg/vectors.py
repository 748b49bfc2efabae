"""Unit vectors: lengths at any scale that the dtype can hold, and one sign for every direction."""

import math
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError

Directions = TypeVar("Directions", Tensor, NDArray[np.floating])


def unit_rows(rows: Tensor, order: float = 2) -> tuple[Tensor, Tensor]:
    """Rows (n, D) over their norms of an order (1, 2), and these norms (n,).

    Each row is divided by its largest entry first: squares of entries below 1e-19 or above 1e19
    would leave float32's range. A row that has no direction (zeros only, or entries that are not
    finite) comes back as zeros, with norm 0 or inf; so does one in the range of subnormal numbers,
    whose last digits are lost.
    """
    largest = rows.abs().amax(1)
    usable = (largest >= torch.finfo(rows.dtype).tiny) & largest.isfinite()
    scaled = torch.where(usable[:, None], rows / largest[:, None], 0.0)
    length = torch.linalg.vector_norm(scaled, ord=order, dim=1)
    unit = torch.where(usable[:, None], scaled / length[:, None], 0.0)
    bad = torch.where(largest.isfinite(), 0.0, math.inf).to(rows.dtype)
    return unit, torch.where(usable, largest * length, bad)


def fix_sign(directions: Directions) -> Directions:
    """Columns of (D, k) `directions`, flipped so that the largest-magnitude component is positive.

    Singular vectors and eigenvectors are determined up to their sign, and libraries choose it
    differently; this convention makes results comparable between machines. Of equally large
    components the first decides; a zero column stays as it is.

    Args:
        directions: (D, k) tensor or array; not changed.

    Returns:
        A new tensor or array of the same shape, kind and dtype.

    Raises:
        InputError: `directions` is not two-dimensional or has no rows.
    """
    if directions.ndim != 2 or directions.shape[0] == 0:
        raise InputError(
            f"directions: expected shape (D, k) with one direction per column, found "
            f"{tuple(directions.shape)}. Pass a single direction as directions[:, None]."
        )
    if isinstance(directions, Tensor):
        # argmax of a tensor does not promise the first of equal maxima; that of an array does.
        top = torch.from_numpy(directions.detach().abs().cpu().numpy().argmax(axis=0))
        decisive = directions.gather(0, top.to(directions.device)[None])
        return torch.where(decisive < 0, -directions, directions)
    decisive_array = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    return np.where(decisive_array < 0, -directions, directions)
