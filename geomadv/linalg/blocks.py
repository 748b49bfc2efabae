"""A matrix read block by block, from memory or from an HDF5 file, with bad rows left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geomadv.errors import InputError

Array = NDArray[Any]

# Bytes of one block: large enough to keep BLAS and the disk busy, small beside the matrices.
_BLOCK_BYTES = 1 << 27
# Longest sum taken in the input's precision before float64 takes over. Adding an (n, n) product to
# the float64 total then costs a few per cent of computing it.
_LONGEST_SUM = 8192


class BlockReader:
    """Blocks of an (N, D) matrix; rows with NaN are skipped, infinite values refused.

    A row of NaN stands for a point without a normal. Blocks have the matrix' dtype (float32 for
    the half-precision types, whose products would overflow). The next block is read by a second
    thread while the caller works on the present one.

    Attributes:
        shape: (N, D) as stored, bad rows included.
        keep: (N,) bool, False for rows to be skipped by `columns`.
        dtype: of the blocks.

    Args:
        rows: tensor, array or h5py.Dataset, never read as a whole.
        memory: bytes that the blocks in flight may take.

    Raises:
        InputError: not a two-dimensional floating-point matrix, or an empty one.
    """

    def __init__(self, rows: Tensor | Array | h5py.Dataset, memory: int) -> None:
        self._rows = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else rows
        if len(self._rows.shape) != 2 or 0 in self._rows.shape:
            raise InputError(
                f"rows: expected a matrix of shape (N, D) with one normal per row, found "
                f"{tuple(self._rows.shape)}. Flatten images to rows and check the selection."
            )
        if not np.issubdtype(self._rows.dtype, np.floating):
            raise InputError(
                f"rows: expected floating-point normals, found {self._rows.dtype}. "
                "Convert them to float32."
            )
        self.shape = (int(self._rows.shape[0]), int(self._rows.shape[1]))
        self.dtype = np.promote_types(self._rows.dtype, np.float32)
        self.keep = np.ones(self.shape[0], dtype=bool)
        self._bytes = max(1, memory // 3)
        self._chunks = getattr(self._rows, "chunks", None)

    @property
    def count(self) -> int:
        """Rows in use: those not known to be bad."""
        return int(self.keep.sum())

    def rows(self) -> tuple[int, Iterator[Array]]:
        """Number of blocks, and the blocks (b, D) of good rows, top to bottom; updates `keep`."""
        step = self._step(axis=0)
        starts = range(0, self.shape[0], step)
        return len(starts), _prefetched(self._row_reader(start, start + step) for start in starts)

    def columns(self) -> tuple[int, Iterator[Array]]:
        """Number of blocks, and the blocks (rows in `keep`, w) of columns from left to right.

        Where the file stores whole rows together, a block is as wide as the memory allows, since
        each block reads all of the file's chunks.
        """
        step = self._step(axis=1)
        starts = range(0, self.shape[1], step)
        return len(starts), _prefetched(
            self._column_reader(start, start + step) for start in starts
        )

    def _step(self, axis: int) -> int:
        """Length of a block along `axis`."""
        across = self.shape[1 - axis] * self.dtype.itemsize
        chunk = int(self._chunks[axis]) if self._chunks is not None else 1
        spread = chunk * across > _BLOCK_BYTES
        size = max(1, self._bytes // across) if spread else max(1, _BLOCK_BYTES // across)
        size = min(size, max(1, self._bytes // across), self.shape[axis])
        return max(chunk, size // chunk * chunk) if not spread else size

    def _row_reader(self, start: int, stop: int) -> Callable[[], Array]:
        def read() -> Array:
            block = self._load(self._rows[start:stop])
            # The sum of a row is finite unless an entry is not, or the sum itself overflows.
            with np.errstate(over="ignore", invalid="ignore"):
                suspicious = np.flatnonzero(~np.isfinite(block.sum(axis=1)))
            if len(suspicious) > 0:
                self._refuse_infinite(np.isinf(block[suspicious]).any())
                self.keep[start + suspicious] = ~np.isnan(block[suspicious]).any(axis=1)
            good = self.keep[start : start + len(block)]
            return block if good.all() else block[good]

        return read

    def _column_reader(self, start: int, stop: int) -> Callable[[], Array]:
        def read() -> Array:
            block = self._load(self._rows[:, start:stop])
            return block if self.keep.all() else block[self.keep]

        return read

    def _load(self, block: Array) -> Array:
        return np.ascontiguousarray(block, dtype=self.dtype)

    def skip_rows(self, squares: Array) -> None:
        """Mark the rows whose sum of squares is NaN as bad.

        Raises:
            InputError: an infinite sum.
        """
        self._refuse_infinite(np.isinf(squares).any())
        self.keep = ~np.isnan(squares)

    def _refuse_infinite(self, found: np.bool_) -> None:
        if found:
            raise InputError(
                "rows: expected finite values (NaN marks a point without a normal), found infinite "
                "ones, or ones whose square overflows. Normalise the rows and leave out bad points."
            )


def pieces(block: Array) -> Iterator[Array]:
    """Parts of a block of rows short enough for sums in its own precision."""
    for start in range(0, len(block), _LONGEST_SUM):
        yield block[start : start + _LONGEST_SUM]


def _prefetched(reads: Iterable[Callable[[], Array]]) -> Iterator[Array]:
    """Results in order; while the caller works on one, a second thread reads the next."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = None
        for read in reads:
            following = pool.submit(read)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()
