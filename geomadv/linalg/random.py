"""What directions without structure look like: uniform on the sphere."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomadv.linalg.gram import gram_matrix
from geomadv.linalg.operators import check_at_least

# Rows or columns drawn together, float32: 2048 vectors of 3 x 224 x 224 take 1.2 GB, so the sizes
# that matter here (D = 3,072) stay small.
_BLOCK = 2048


def uniform_directions(n: int, D: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, D) unit vectors, independent and uniform on the unit sphere of R^D.

    Normalised Gaussian vectors (Muller, Communications of the ACM 2, 1959).

    Raises:
        InputError: `n` or `D` < 1.
    """
    check_at_least(1, n=n, D=D)
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, D, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(vectors, dim=1, eps=0.0).to(dtype)


def baseline_spectrum(N: int, D: int, draws: int = 10, seed: int = 0) -> NDArray[np.float64]:
    """Singular values of N uniform unit rows in R^D, for several draws, to show their spread.

    For N, D -> infinity they fill the Marchenko-Pastur interval 1 ± sqrt(N / D).

    Args:
        N: rows.
        D: columns.
        draws: independent matrices; each costs one Gram matrix of the shorter side.
        seed: of all draws together.

    Returns:
        (draws, min(N, D)) float64 array, each row descending.

    Raises:
        InputError: `N`, `D` or `draws` < 1.
    """
    check_at_least(1, N=N, D=D, draws=draws)
    streams = np.random.default_rng(seed).spawn(draws)
    return np.stack([_one_spectrum(N, D, stream) for stream in streams])


def _one_spectrum(N: int, D: int, generator: np.random.Generator) -> NDArray[np.float64]:
    if D <= N:
        matrix = gram_matrix(_unit_rows(N, D, generator), D)
    else:
        matrix = _gram_of_columns(N, D, generator)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(matrix)[::-1], 0.0))


def _unit_rows(N: int, D: int, generator: np.random.Generator) -> Iterator[NDArray[np.float32]]:
    for start in range(0, N, _BLOCK):
        block = generator.standard_normal((min(_BLOCK, N - start), D), dtype=np.float32)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


def _gram_of_columns(N: int, D: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Gram matrix of unit rows from blocks of columns: normalised after all columns are summed."""
    matrix = gram_matrix(
        (
            generator.standard_normal((min(_BLOCK, D - start), N), dtype=np.float32)
            for start in range(0, D, _BLOCK)
        ),
        N,
    )
    norms = np.sqrt(matrix.diagonal())
    scaled: NDArray[np.float64] = matrix / np.outer(norms, norms)
    return scaled
