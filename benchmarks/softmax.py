"""Time and peak memory of the search for the most parallel boundaries of a softmax layer.

Each layer is searched in a process of its own, so that the peak is that of the search. Beside it:
the time of computing all cosines in blocks, extrapolated from some of them, as a ratio. Times are
those of the processor, which a shared machine does not stretch.
Usage: python benchmarks/softmax.py [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import tyro

CHILD = """
import json, resource, sys, time
import numpy as np
from geomadv.last_layer import boundary_angles, most_parallel
m, l, planted = (int(a) for a in sys.argv[1:])
w = np.random.default_rng(0).standard_normal((m, l))
if planted:
    w[3] = w[2] + 0.7 * (w[0] - w[1])
wall = time.perf_counter()
start = time.process_time()
gram = w @ w.T
del w
found = most_parallel(gram)
search = time.process_time() - start
wall = time.perf_counter() - wall
start = time.process_time()
boundary_angles(gram)
histogram = time.process_time() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"search": search, "wall": wall, "histogram": histogram, "peak": peak,
                  "pairs": found.pairs, "evaluated": found.evaluated,
                  "cosine": found.cosine.tolist(), "classes": found.classes.tolist()}))
"""


def blockwise_rate(m: int, width: int) -> float:
    """Cosines per second when all are computed: products of unit normals in blocks, float32."""
    generator = np.random.default_rng(0)
    normals = generator.standard_normal((4096, min(m - 1, width)), dtype=np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.abs(normals @ normals.T).max()
    start = time.process_time()
    np.abs(normals @ normals.T).max()
    return len(normals) ** 2 / (time.process_time() - start)


def report(m: int, width: int, planted: bool) -> None:
    """One layer of m classes and `width` features with Gaussian weights."""
    output = subprocess.run(
        [sys.executable, "-c", CHILD, str(m), str(width), str(int(planted))],
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(output.stdout)
    naive = result["pairs"] / blockwise_rate(m, width)
    print(f"m = {m}, l = {width}{', one parallel pair planted' if planted else ''}")
    print(f"  search for the maximum (exact)     {result['search']:8.1f} s")
    print(f"    by the clock                     {result['wall']:8.1f} s")
    print(f"  faster than all cosines in blocks  {naive / result['search']:8.0f} x (extrapolated)")
    print(f"  histogram of a sample of 2e6       {result['histogram']:8.1f} s")
    print(f"  peak memory of the process         {result['peak']:8.2f} GiB")
    print(f"  pairs of boundaries                {result['pairs']:8.2e}")
    print(f"  cosines computed                   {result['evaluated']:8.2e}")
    for name, cosine, classes in zip(
        ("shared class", "four classes"), result["cosine"], result["classes"], strict=True
    ):
        print(f"  largest |cos|, {name:12s}        {cosine:8.5f}   classes {classes}")


def main(quick: bool = False) -> None:
    """Print a table per layer.

    Args:
        quick: 200 classes instead of 1,000.
    """
    m = 200 if quick else 1000
    report(m, 2048, planted=False)
    report(m, 2048, planted=True)
    # Few features crowd the boundaries: the bound leaves more of the pairs to compute.
    report(m, 64, planted=False)


if __name__ == "__main__":
    tyro.cli(main)
