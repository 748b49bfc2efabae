"""Speed, accuracy and memory of `normal_svd` beside NumPy, the disk and the BLAS.

Times of one machine mean little: look at the ratios, on a busy machine at those of CPU time. All
contenders take turns, and each ratio is the median over the turns.

Usage: python benchmarks/svd.py [--quick | --only-streamed]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tyro

RANK = 100
# Everything that the decomposition of the wide file may hold, as measured by the kernel.
CHILD = """
import json, resource, sys, time
import h5py
from geomadv.linalg import normal_svd
with h5py.File(sys.argv[1]) as file:
    start, cpu = time.perf_counter(), time.process_time()
    svd = normal_svd(file["normals"], rank=int(sys.argv[2]))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"wall": seconds, "CPU": cpu, "peak": peak, "method": svd.method}))
"""


def realistic_normals(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Unit rows with singular values that decay slowly, as i^-0.7."""
    generator = np.random.default_rng(seed)
    scale = np.arange(1, d + 1, dtype=np.float32) ** -0.7
    rotation = np.linalg.qr(generator.standard_normal((d, d), dtype=np.float32))[0]
    rows = (generator.standard_normal((n, d), dtype=np.float32) * scale) @ rotation
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def timed(job: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = job()
    return time.perf_counter() - start, result


def tall(n: int, d: int, repetitions: int) -> None:
    """In memory: against NumPy's full SVD, and against float64 LAPACK for the errors."""
    from geomadv.linalg import NormalSVD, Subspace, normal_svd

    rows = realistic_normals(n, d)
    wide = rows.astype(np.float64)
    normal_svd(rows[:600], rank=min(RANK, d))  # loads the libraries
    ratios: dict[str, list[float]] = {"float32": [], "float64": []}
    ours = []
    for _ in range(repetitions):
        seconds, svd = timed(lambda: normal_svd(rows, rank=RANK))
        ours.append(seconds)
        single, _ = timed(lambda: np.linalg.svd(rows, full_matrices=False))
        double, exact = timed(lambda: np.linalg.svd(wide, full_matrices=False))
        ratios["float32"].append(single / seconds)
        ratios["float64"].append(double / seconds)
    assert isinstance(svd, NormalSVD)
    _, values, right = exact
    error = np.abs(svd.singular_values.numpy() / values[:RANK] - 1).max()
    angle = Subspace(svd.directions).principal_angles(Subspace(right[:RANK].T.copy()))[-1]
    print(f"{n} x {d} float32 in memory, leading {RANK}, method {svd.method!r}")
    print(f"  normal_svd                              {statistics.median(ours):8.2f} s")
    for name, found in ratios.items():
        print(f"  faster than NumPy's full SVD, {name}   {statistics.median(found):8.1f} x", end="")
        print(f"   ({min(found):.1f} to {max(found):.1f})")
    print(f"  singular values, largest relative error {error:8.1e}")
    print(f"  stated bound, relative to the smallest  {svd.error_bound / values[RANK - 1]:8.1e}")
    print(f"  subspace, sine of the largest angle     {float(angle.sin()):8.1e}")


def write_wide(path: Path, n: int, d: int) -> None:
    """A contiguous dataset of unit rows, written in pieces."""
    generator = np.random.default_rng(1)
    mixing = generator.standard_normal((300, d), dtype=np.float32)
    mixing *= (np.arange(1, 301, dtype=np.float32) ** -0.7)[:, None]
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("normals", (n, d), np.float32)
        for start in range(0, n, 250):
            count = min(250, n - start)
            block = generator.standard_normal((count, 300), dtype=np.float32) @ mixing
            block += 0.1 * generator.standard_normal((count, d), dtype=np.float32)
            dataset[start : start + count] = block / np.linalg.norm(block, axis=1, keepdims=True)


def forget(path: Path) -> None:
    """Take the file out of the page cache, where the system allows it."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def read_through(path: Path) -> None:
    with h5py.File(path) as file:
        dataset = file["normals"]
        for start in range(0, dataset.shape[0], 250):
            dataset[start : start + 250]


def both_times(job: Callable[[], object]) -> np.ndarray:
    """Wall and CPU seconds."""
    cpu = time.process_time()
    return np.array([timed(job)[0], time.process_time() - cpu])


def half_product(n: int, d: int) -> np.ndarray:
    """Times of half an (n, d) Gram product, scaled up from one block at the BLAS' rate."""
    block = np.random.default_rng(2).standard_normal((n, 8192), dtype=np.float32)
    # NumPy uses the symmetric half for a @ a.T.
    return both_times(lambda: block @ block.T) * d / 8192


def compare_slice(path: Path, rows: int) -> None:
    """The same method beside LAPACK in float64 on the first rows of the file."""
    from geomadv.linalg import Subspace, normal_svd

    with h5py.File(path) as file:
        part = file["normals"][:rows]
    rank = min(RANK, rows // 4)
    svd = normal_svd(part, rank=rank, method="gram")
    _, values, right = np.linalg.svd(part.astype(np.float64), full_matrices=False)
    error = np.abs(svd.singular_values.numpy() / values[:rank] - 1).max()
    angle = Subspace(svd.directions).principal_angles(Subspace(right[:rank].T.copy()))[-1]
    print(f"  {rows} rows: values beside LAPACK, relative {error:8.1e}   (goal 1e-4)")
    print(f"  {rows} rows: sine of the largest angle      {float(angle.sin()):8.1e}")


def streamed(n: int, d: int, repetitions: int) -> None:
    """From HDF5: against reading the file plus half of the Gram product at the BLAS' rate."""
    rank = min(RANK, n)
    names = ("wall", "CPU")
    ratios, seconds, peak = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.h5"
        write_wide(path, n, d)
        for _ in range(repetitions):
            forget(path)
            reading = both_times(lambda: read_through(path))
            before = half_product(n, d)
            forget(path)
            output = subprocess.run(
                [sys.executable, "-c", CHILD, str(path), str(rank)],
                check=True,
                capture_output=True,
                text=True,
            )
            result = json.loads(output.stdout)
            seconds.append(np.array([result[name] for name in names]))
            ratios.append(seconds[-1] / (reading + (before + half_product(n, d)) / 2))
            peak = max(peak, result["peak"])
        print(f"{n} x {d} float32 HDF5, {n * d * 4 / 1e9:.1f} GB, method {result['method']!r}")
        for i, name in enumerate(names):
            found = [ratio[i] for ratio in ratios]
            own = statistics.median(each[i] for each in seconds)
            print(f"  normal_svd, {name:4} seconds                {own:8.1f}")
            print(
                f"  ... / (reading + half the Gram product) {statistics.median(found):8.2f}", end=""
            )
            print(f"   ({min(found):.2f} to {max(found):.2f}; goal 1.3)")
        print(f"  peak memory of the process              {peak:8.2f} GiB   (goal 1)")
        compare_slice(path, n // 10)


def main(quick: bool = False, only_streamed: bool = False, repetitions: int = 3) -> None:
    """Print both tables.

    Args:
        quick: small matrices, one minute; the ratios are then worse.
        only_streamed: the wide matrix from its file alone.
        repetitions: turns of all contenders.
    """
    if only_streamed:
        streamed(4_000, 150_528, repetitions)
    elif quick:
        tall(3_000, 1_000, repetitions)
        streamed(1_000, 40_000, repetitions)
    else:
        tall(10_000, 3_072, repetitions)
        streamed(4_000, 150_528, repetitions)


if __name__ == "__main__":
    tyro.cli(main)
