"""Density of the whole spectrum of a large operator: stochastic Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from geomadv.errors import InputError
from geomadv.linalg.eigen import Operator
from geomadv.linalg.operators import Array, CountedOperator, check_at_least
from geomadv.progress import tqdm

# Width of the Gaussians relative to the spectral range, and how many of them the grid overlaps.
_RELATIVE_WIDTH = 0.01
_MARGIN = 4
# A remainder below this many rounding errors ends a probe: its quadrature is exact.
_NOISE = 32


@dataclass(frozen=True)
class SpectralDensity:
    """Density of the eigenvalues of a symmetric operator on R^D, from random probes.

    Attributes:
        grid: (g,) eigenvalues, ascending.
        density: (g,) share of the eigenvalues per unit of eigenvalue; integrates to 1.
        spread: (g,) standard deviation of the density between probes; divide by sqrt(probes) for
            the standard error of `density`.
        nodes: (probes, steps) Ritz values of each probe, ascending.
        weights: (probes, steps) their weights, at least 0, of sum 1 for each probe.
        width: standard deviation of the Gaussians that smooth the nodes.
        dimension: D.
        products: operator-vector products spent.
    """

    grid: Array
    density: Array
    spread: Array
    nodes: Array
    weights: Array
    width: float
    dimension: int
    products: int

    def __repr__(self) -> str:
        probes, steps = self.nodes.shape
        return (
            f"SpectralDensity(R^{self.dimension}, eigenvalues {self.grid[0]:.3g} to "
            f"{self.grid[-1]:.3g} from {probes} probes of {steps} steps, {self.products} products)"
        )

    def moment(self, power: int) -> tuple[float, float]:
        """Estimate of trace(H^power) and its standard error over the probes (NaN for one probe).

        The quadrature is exact for powers below 2 steps, so that only the probes are random: the
        error is Hutchinson's (Communications in Statistics 19, 1990).

        Raises:
            InputError: power below 0 or not below 2 steps.
        """
        probes, steps = self.nodes.shape
        if not 0 <= power < 2 * steps:
            raise InputError(f"power: expected 0 to {2 * steps - 1}, found {power}.")
        values = self.dimension * (self.weights * self.nodes**power).sum(axis=1)
        error = values.std(ddof=1) / np.sqrt(probes) if probes > 1 else np.nan
        return float(values.mean()), float(error)


def spectral_density(
    operator: Operator,
    probes: int = 10,
    steps: int = 80,
    points: int = 1000,
    width: float | None = None,
    block: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> SpectralDensity:
    """Density of all eigenvalues from `probes` Lanczos runs of `steps` products each.

    Stochastic Lanczos quadrature (Ubaru, Chen, Saad, SIAM Journal on Matrix Analysis 38, 2017) with
    random signs as probes and full reorthogonalisation: each run gives Gauss quadrature nodes and
    weights of the spectrum as its probe sees it; Gaussians of standard deviation `width` smooth
    them. An operator that is slightly asymmetric is taken for its symmetric part.

    Args:
        operator: (D, D) symmetric scipy LinearOperator or array.
        probes: random vectors; the error falls as 1 / sqrt(probes).
        steps: products per probe; nodes per unit of spectrum limit the resolution.
        points: length of the grid, which reaches 4 widths beyond the outermost nodes.
        width: in units of eigenvalues; default 1 % of the range of the nodes.
        block: probes multiplied together.
        seed: of the probes; they do not depend on `block`.
        progress: show a progress bar in products.

    Memory: 8 D steps block bytes.

    Raises:
        InputError: bad operator, a count below 1, a width that is not positive, or a product with
            NaN.
    """
    counted = CountedOperator(operator)
    check_at_least(1, probes=probes, steps=steps, block=block)
    check_at_least(2, points=points)
    check_at_least(0, seed=seed)
    if width is not None and not 0 < width < np.inf:
        raise InputError(f"width: expected a positive number, found {width}.")
    steps = min(steps, counted.dimension)
    streams = np.random.default_rng(seed).spawn(probes)
    runs: list[tuple[Array, Array]] = []
    with tqdm(
        total=probes * steps, desc="spectral density", unit="product", disable=not progress
    ) as bar:
        for start in range(0, probes, block):
            signs = [_signs(counted.dimension, s) for s in streams[start : start + block]]
            runs += _quadratures(counted, np.stack(signs), steps, bar)
    nodes, weights = (np.stack(part) for part in zip(*runs, strict=True))
    width = _default_width(nodes, weights) if width is None else width
    grid, curves = _smoothed(nodes, weights, width, points)
    return SpectralDensity(
        grid=grid,
        density=curves.mean(axis=0),
        spread=curves.std(axis=0, ddof=1) if probes > 1 else np.full(points, np.nan),
        nodes=nodes,
        weights=weights,
        width=width,
        dimension=counted.dimension,
        products=counted.products,
    )


def _signs(dimension: int, generator: np.random.Generator) -> Array:
    """A unit vector of random signs."""
    entry = dimension**-0.5
    signs: Array = generator.choice([-entry, entry], dimension)
    return signs


def _quadratures(
    operator: CountedOperator, start: Array, steps: int, bar: Any
) -> list[tuple[Array, Array]]:
    """Nodes and weights for every row of `start`, unit vectors (b, D) that advance together."""
    basis = np.empty((len(start), steps, start.shape[1]))
    basis[:, 0] = start
    diagonal, off_diagonal = np.zeros((len(start), steps)), np.zeros((len(start), steps))
    norm = 0.0
    for j in range(steps):
        image = operator(np.ascontiguousarray(basis[:, j].T)).T
        bar.update(len(start))
        norm = max(norm, float(np.linalg.norm(image, axis=1).max()))
        diagonal[:, j] = np.einsum("bd,bd->b", basis[:, j], image)
        if j == steps - 1:
            break
        known = basis[:, : j + 1]
        for _ in range(2):
            overlap = known @ image[:, :, None]
            image = image - (known.transpose(0, 2, 1) @ overlap)[:, :, 0]
        length = np.linalg.norm(image, axis=1)
        # A zero vector stands for a probe that has ended: it decouples from the rest.
        length[length <= _NOISE * operator.eps * norm] = 0.0
        off_diagonal[:, j] = length
        basis[:, j + 1] = image / np.where(length > 0, length, np.inf)[:, None]
    return [_gauss(a, b[:-1]) for a, b in zip(diagonal, off_diagonal, strict=True)]


def _gauss(diagonal: Array, off_diagonal: Array) -> tuple[Array, Array]:
    """Nodes and weights of Gauss quadrature (Golub and Welsch, Math. of Computation 23, 1969)."""
    nodes, vectors = eigh_tridiagonal(diagonal, off_diagonal)
    return nodes, vectors[0] ** 2


def _default_width(nodes: Array, weights: Array) -> float:
    seen = nodes[weights > 0]
    spread = float(np.ptp(seen))
    # All eigenvalues are equal, perhaps zero.
    return _RELATIVE_WIDTH * (spread or float(np.abs(seen).max()) or 1.0)


def _smoothed(nodes: Array, weights: Array, width: float, points: int) -> tuple[Array, Array]:
    """Grid (points,) and one density per probe, (probes, points)."""
    seen = nodes[weights > 0]
    grid = np.linspace(seen.min() - _MARGIN * width, seen.max() + _MARGIN * width, points)
    curves = np.empty((len(nodes), points))
    for curve, centres, shares in zip(curves, nodes, weights, strict=True):
        kernel = np.exp(-0.5 * ((grid - centres[:, None]) / width) ** 2)
        curve[:] = shares @ kernel / (width * np.sqrt(2 * np.pi))
    return grid, curves
