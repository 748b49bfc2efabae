"""Lengths and directions of rows at any scale that the dtype can hold."""

import math

import torch
from torch import Tensor


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
