"""One sign for every direction: what the singular value decomposition leaves free."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError

Directions = TypeVar("Directions", Tensor, NDArray[np.floating])


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
