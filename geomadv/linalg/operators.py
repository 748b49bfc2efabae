"""Operators as the eigensolvers see them: products of float64 blocks, counted and checked."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from geomadv.errors import InputError

Array = NDArray[np.float64]


class CountedOperator:
    """A square real operator applied to float64 blocks of columns.

    Vectors are rounded to the operator's dtype before they go in, products come back in float64.

    Attributes:
        dimension: D.
        dtype: floating dtype in which the operator works.
        products: vectors multiplied so far.

    Args:
        operator: (D, D) scipy LinearOperator or array.

    Raises:
        InputError: not square, or complex.
    """

    def __init__(self, operator: LinearOperator | NDArray[Any]) -> None:
        shape = tuple(getattr(operator, "shape", ()))
        if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
            raise InputError(
                f"operator: expected a square array or scipy LinearOperator, found shape {shape}."
            )
        self._operator = aslinearoperator(operator)
        # A LinearOperator may leave its dtype open.
        dtype = np.dtype(self._operator.dtype or np.float64)
        if dtype.kind == "c":
            raise InputError(
                f"operator: expected a real symmetric operator, found {dtype}. Take its real part."
            )
        self.dimension = int(shape[0])
        self.dtype = np.promote_types(dtype, np.float32) if dtype.kind == "f" else np.dtype("f8")
        self.products = 0

    @property
    def eps(self) -> float:
        """Relative rounding error of one operation in the operator's dtype."""
        return float(np.finfo(self.dtype).eps)

    def __call__(self, columns: Array) -> Array:
        """Products with the columns of a (D, b) array, as a new (D, b) float64 array.

        Raises:
            InputError: a product contains NaN or infinite values.
        """
        image: Array = np.array(self._operator.matmat(columns.astype(self.dtype)), dtype=np.float64)
        finite = np.isfinite(image).all(axis=0)
        if not finite.all():
            number = self.products + int(np.flatnonzero(~finite)[0]) + 1
            raise InputError(
                f"operator: product number {number} contains NaN or infinite values. Check the "
                "operator's inputs; a smaller step or float64 helps where they overflow."
            )
        self.products += columns.shape[1]
        return image

    def identity_products(self, width: int) -> Iterator[tuple[int, Array]]:
        """Blocks of at most `width` columns of the dense matrix, each with its first column."""
        for start in range(0, self.dimension, width):
            block = np.zeros((self.dimension, min(width, self.dimension - start)))
            block[start : start + block.shape[1]] = np.eye(block.shape[1])
            yield start, self(block)


def check_at_least(smallest: int, **counts: int) -> None:
    """Raises an `InputError` that names the first argument below `smallest`."""
    for name, count in counts.items():
        if count < smallest:
            raise InputError(f"{name}: expected at least {smallest}, found {count}.")


def eigh_driver(n: int) -> str:
    """LAPACK's way to all eigenpairs of a dense n x n matrix, for `scipy.linalg.eigh`.

    Divide and conquer, the fastest; SciPy 1.11 gives it too little room for a matrix of one number.
    """
    return "evd" if n > 1 else "evr"
