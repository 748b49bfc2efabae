"""How parallel the boundaries of a softmax layer are, from the Gram matrix of its weights alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomadv.errors import InputError
from geomadv.last_layer.adversarial_space import Array
from geomadv.progress import tqdm

# The two kinds of boundary pairs: (i, j) with (i, k), and four different classes.
RELATIONS = ("shared class", "four classes")

# Squared lengths from a Gram matrix are known to some roundings of its largest entry.
_ROUNDINGS = 1e3

# Boundaries at a time in the ordered search, and entries of its work arrays (32 MB each).
_ROWS, _ENTRIES = 256, 2**22

# Pairs of boundaries at a time in a histogram.
_PIECE = 2**18

# Bounds this little above the best cosine found are rounding.
_SLACK = 1e-12


@dataclass(frozen=True)
class ParallelBoundaries:
    """The most parallel boundaries; relation 0: pairs that share a class, 1: four classes.

    Attributes:
        cosine: (2,) largest |cos| between w_i - w_j and w_k - w_l; NaN where there is no pair.
        classes: (2, 4) the classes i, j, k, l of that pair; -1 where there is none.
        boundaries: number of pairs of classes with different weights.
        coincident: number of pairs of classes with the same weights to rounding, left out.
        pairs: number of pairs of boundaries that the maximum is over.
        evaluated: number of cosines computed; the others are smaller by a bound.
    """

    cosine: Array
    classes: NDArray[np.int64]
    boundaries: int
    coincident: int
    pairs: int
    evaluated: int


@dataclass(frozen=True)
class BoundaryAngles:
    """Histogram of the angles between boundaries, arccos |cos|, in degrees.

    Attributes:
        edges: (bins + 1,) from 0 to 90 degrees.
        counts: (2, bins) pairs of boundaries, by relation as in `ParallelBoundaries`.
        pairs: pairs counted: all of them, or the size of a sample.
        complete: whether these are all pairs.
    """

    edges: Array
    counts: NDArray[np.int64]
    pairs: int
    complete: bool


class _Differences:
    """Lengths of w_i - w_j and their products with the weights, from the centred Gram matrix."""

    def __init__(self, gram: Any) -> None:
        g = np.asarray(gram, dtype=np.float64)
        if g.ndim != 2 or g.shape[0] != g.shape[1] or len(g) < 3 or not np.isfinite(g).all():
            raise InputError(
                f"gram has shape {g.shape}; expected the finite (classes, classes) inner products "
                "of the weights of at least three classes: two classes have a single boundary."
            )
        # Differences do not see the mean; without it they lose less to rounding.
        g = g - g.mean(axis=0)
        self.gram = g - g.mean(axis=1, keepdims=True)
        diagonal = self.gram.diagonal()
        squared = diagonal[:, None] + diagonal - 2 * self.gram
        floor = _ROUNDINGS * np.finfo(np.float64).eps * float(diagonal.max())
        self.m = len(g)
        self.real = squared > floor
        np.fill_diagonal(self.real, False)
        self.inverse = np.zeros_like(squared)
        self.inverse[self.real] = squared[self.real] ** -0.5
        self.count = int(self.real.sum()) // 2

    def products(self, i: NDArray[np.int64], j: NDArray[np.int64]) -> Array:
        """Inner products (b, m) of the unit vectors along w_i - w_j with all weights."""
        rows = self.gram[i]
        rows -= self.gram[j]
        rows *= self.inverse[i, j][:, None]
        return np.asarray(rows)

    def cosines(self, i: Any, j: Any, k: Any, n: Any) -> Array:
        """Signed cosines between w_i - w_j and w_k - w_n, elementwise."""
        g = self.gram
        product = g[i, k] - g[i, n] - g[j, k] + g[j, n]
        return np.asarray(product * self.inverse[i, j] * self.inverse[k, n])


def most_parallel(gram: Any, progress: bool = False) -> ParallelBoundaries:
    """The exact maximum of |cos| over all pairs of boundaries, in memory of some m x m matrices.

    Zou et al., "Geometric Universality of Adversarial Examples in Deep Learning", definition 2: a
    layer without parallel boundaries has a maximum below 1.

    With p the products of a boundary's unit normal with the weights, cos = (p_k - p_l) / d_kl, at
    most (max p - p_k) / min_l d_kl or its mirror image. Boundaries are visited in the order of
    that bound until it falls to the best cosine found; within one, only the classes k whose own
    bound is above it are looked at. Work m^3 if the weights point in many directions (5e8 of the
    1.2e11 pairs for m = 1,000 random weights in 2,048 dimensions); nothing is left to chance.
    Rounding of a cosine: eps times the largest centred norm squared over the product of the two
    lengths.

    Args:
        gram: (m, m) inner products of the class weights, m >= 3.
        progress: show progress bars.

    Raises:
        InputError: not a finite square matrix of at least three classes, or no two classes differ.
    """
    differences = _Differences(gram)
    if differences.count == 0:
        raise InputError(
            "gram: all classes have the same weights, so there are no boundaries. Train the "
            "network, or load its weights."
        )
    shared = _most_parallel_shared(differences, progress)
    disjoint = _most_parallel_disjoint(differences, progress)
    found = [_best(differences, classes) for classes in (shared, disjoint[0])]
    n, m = differences.count, differences.m
    return ParallelBoundaries(
        cosine=np.array([value for value, _ in found]),
        classes=np.array([classes for _, classes in found], dtype=np.int64),
        boundaries=n,
        coincident=m * (m - 1) // 2 - n,
        pairs=n * (n - 1) // 2,
        evaluated=m * (m - 1) * (m - 2) // 2 + disjoint[1],
    )


def _best(differences: _Differences, classes: tuple[int, ...] | None) -> tuple[float, Any]:
    if classes is None:
        return np.nan, (-1,) * 4
    # By Cauchy and Schwarz at most 1; rounding may say otherwise.
    return min(float(np.abs(differences.cosines(*classes))), 1.0), classes


def _most_parallel_shared(differences: _Differences, progress: bool) -> tuple[int, ...] | None:
    """Classes (i, j, i, k) of the most parallel boundaries of one class: all m^3 / 2 of them."""
    g, inverse = differences.gram, differences.inverse
    best, classes = -1.0, None
    work = np.empty_like(g)
    for i in tqdm(range(differences.m), desc="boundaries of a class", disable=not progress):
        np.subtract(g, g[i], out=work)
        work += (g[i, i] - g[i])[:, None]
        work *= inverse[i]
        work *= inverse[i][:, None]
        np.fill_diagonal(work, 0.0)
        np.abs(work, out=work)
        j, k = divmod(int(work.argmax()), differences.m)
        # Zero entries stand for boundaries that do not exist.
        if work[j, k] > best and differences.real[i, j] and differences.real[i, k] and j != k:
            best, classes = float(work[j, k]), (i, j, i, k)
    return classes


def _masked(
    differences: _Differences, i: NDArray[np.int64], j: NDArray[np.int64], nearest: Array
) -> tuple[Array, Array]:
    """Products p (b, m) and the bounds (b, m) on the cosines with boundaries of each class k.

    The entries of i and j are set to that of another class, which changes no maximum.
    """
    p = differences.products(i, j)
    rows = np.arange(len(i))
    other = np.argmax((np.arange(3) != i[:, None]) & (np.arange(3) != j[:, None]), axis=1)
    p[rows, i] = p[rows, j] = p[rows, other]
    high, low = p.max(axis=1, keepdims=True), p.min(axis=1, keepdims=True)
    # max(high - p, p - low) = |p - middle| + half the range
    bound = np.abs(p - (high + low) / 2)
    bound += (high - low) / 2
    bound *= nearest
    bound[rows, i] = bound[rows, j] = 0.0
    return p, bound


def _row_bounds(differences: _Differences, nearest: Array, progress: bool) -> Array:
    """The bound (m, m) on the cosines of every boundary i < j with those of other classes."""
    m = differences.m
    bounds = np.zeros((m, m))
    for i in tqdm(range(m - 1), desc="bounds", disable=not progress):
        j = i + 1 + np.flatnonzero(differences.real[i, i + 1 :])
        if len(j) > 0:
            bounds[i, j] = _masked(differences, np.full_like(j, i), j, nearest)[1].max(axis=1)
    return bounds


def _any_disjoint(differences: _Differences) -> tuple[int, ...] | None:
    """Some boundaries (i, j) and (k, l) of four classes, to start from."""
    for i, j in zip(*np.nonzero(differences.real), strict=True):
        others = differences.real.copy()
        others[[i, j]] = others[:, [i, j]] = False
        if others.any():
            return int(i), int(j), *map(int, divmod(int(others.argmax()), differences.m))
    return None


def _most_parallel_disjoint(
    differences: _Differences, progress: bool
) -> tuple[tuple[int, ...] | None, int]:
    """Classes of the most parallel boundaries of four classes, and the cosines computed."""
    m, evaluated = differences.m, 0
    if m < 4:
        return None, evaluated
    nearest = differences.inverse.max(axis=1)
    bounds = _row_bounds(differences, nearest, progress)
    order = np.argsort(bounds, axis=None)[::-1][: differences.count]
    partner = np.maximum(bounds.max(axis=0), bounds.max(axis=1))
    classes = _any_disjoint(differences)
    best = 0.0 if classes is None else float(np.abs(differences.cosines(*classes)))
    with tqdm(total=len(order), desc="four classes", disable=not progress) as bar:
        for start in range(0, len(order), _ROWS):
            block = order[start : start + _ROWS]
            i, j = np.divmod(block, m)
            if bounds[i[0], j[0]] <= best + _SLACK:
                break
            p, bound = _masked(differences, i, j, nearest)
            # The other boundary of the pair is one of class k, and has a bound of its own.
            np.minimum(bound, partner, out=bound)
            row, k = np.nonzero(bound > best + _SLACK)
            for piece in range(0, len(row), max(1, _ENTRIES // m)):
                part = slice(piece, piece + max(1, _ENTRIES // m))
                alive = bound[row[part], k[part]] > best + _SLACK
                r, kk = row[part][alive], k[part][alive]
                if len(r) == 0:
                    continue
                values = p[r]
                values -= p[r, kk][:, None]
                np.abs(values, out=values)
                values *= differences.inverse[kk]
                index = np.arange(len(r))
                values[index, i[r]] = values[index, j[r]] = 0.0
                evaluated += values.size
                at, n = divmod(int(values.argmax()), m)
                if values[at, n] > best:
                    best = float(values[at, n])
                    classes = (int(i[r[at]]), int(j[r[at]]), int(kk[at]), n)
            bar.update(len(block))
    return classes, evaluated


def boundary_angles(
    gram: Any, bins: int = 90, sample: int = 2_000_000, seed: int = 0
) -> BoundaryAngles:
    """Angles between all pairs of boundaries; of many, a uniform sample.

    Args:
        gram: (m, m) inner products of the class weights, m >= 3.
        bins: of equal width.
        sample: pairs above which that many are drawn instead, independently and with replacement.
        seed: of the draw.

    Raises:
        InputError: gram as in `most_parallel`; bins or sample < 1.
    """
    if bins < 1 or sample < 1:
        raise InputError(f"bins={bins} and sample={sample} must be at least 1.")
    differences = _Differences(gram)
    first, second = np.nonzero(np.triu(differences.real))
    n = len(first)
    if n < 2:
        raise InputError(
            f"gram: {n} boundary between different classes, so there are no angles. Give weights "
            "of at least three different classes."
        )
    complete = n * (n - 1) // 2 <= sample
    edges = np.linspace(0.0, 90.0, bins + 1)
    counts = np.zeros((2, bins), dtype=np.int64)
    pairs = 0
    for a, b in _all_pairs(n) if complete else _random_pairs(n, sample, seed):
        i, j, k, l = first[a], second[a], first[b], second[b]  # noqa: E741
        cosine = np.minimum(np.abs(differences.cosines(i, j, k, l)), 1.0)
        angles = np.degrees(np.arccos(cosine))
        four = (i != k) & (i != l) & (j != k) & (j != l)
        for relation, chosen in enumerate((~four, four)):
            counts[relation] += np.histogram(angles[chosen], edges)[0]
        pairs += len(angles)
    return BoundaryAngles(edges, counts, pairs, complete)


Indices = NDArray[np.int64]


def _all_pairs(n: int) -> Iterator[tuple[Indices, Indices]]:
    """All a < b < n, some rows at a time."""
    rows = max(1, _PIECE // n)
    for start in range(0, n - 1, rows):
        a, b = np.nonzero(np.arange(start, min(start + rows, n - 1))[:, None] < np.arange(n))
        yield a + start, b


def _random_pairs(n: int, count: int, seed: int) -> Iterator[tuple[Indices, Indices]]:
    """Independent uniform pairs a != b < n."""
    generator = np.random.default_rng(seed)
    for start in range(0, count, _PIECE):
        size = min(_PIECE, count - start)
        a = generator.integers(n, size=size)
        yield a, (a + 1 + generator.integers(n - 1, size=size)) % n
