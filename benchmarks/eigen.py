"""Extreme eigenpairs of a mean Hessian beside SciPy's `eigsh` with naive products; peak memory.

Contestants take turns, and the ratio is the median over the turns. Residuals are measured with
double backward products for everybody, outside the times. Peak memory comes from processes of their
own, with more points and wider blocks. Usage: python benchmarks/eigen.py
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from curvature import double_backward, naive
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from timing import interleave, ratio

import geomadv as ga

# What a process holds beyond the libraries, in MiB, by the kernel's account.
CHILD = """
import json, resource, sys, torch
import geomadv as ga
name, points, block, batch = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
net = ga.load_network(name)
x = torch.rand(points, *net.input_shape)
label = torch.zeros(points, dtype=torch.int64)
some, zero = torch.ones(points), torch.zeros(points)
normals = torch.nn.functional.normalize(torch.randn(points, net.dimension), dim=1)
points = ga.BoundaryPoints(x, normals, label, label + 1, some, zero, zero, some.bool(), label)
operator = ga.mean_hessian(net, points, hvp="exact", batch_size=batch, memory=2**27)
operator.products_sum(torch.randn(net.dimension, block))
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10))
"""


@dataclass
class Flags:
    """Settings of the benchmark."""

    network: str = "lenet-softplus-mnist"
    """A smooth network of the zoo."""
    points: int = 512
    """Boundary points."""
    target: int | None = None
    """Target class of the points; default: the nearest boundary, whatever its class."""
    k: int = 20
    """Eigenpairs at each end."""
    tolerance: float = 1e-4
    """Relative residual."""
    batch: int = 64
    """Points at a time, for all contestants."""
    repetitions: int = 3
    """Interleaved repetitions."""
    threads: int = 2
    """Threads of torch."""


Pairs = tuple[NDArray[np.float64], NDArray[np.float64], int]


def ours(net: ga.Classifier, points: ga.BoundaryPoints, flags: Flags) -> Pairs:
    """From the points to both ends, set-up of the operator included."""
    operator = ga.mean_hessian(net, points, hvp="exact", batch_size=flags.batch)
    found = ga.principal_curvatures(operator, flags.k, tolerance=flags.tolerance)
    return found.values.numpy(), found.directions.numpy(), operator.products


def scipys(net: ga.Classifier, points: ga.BoundaryPoints, flags: Flags) -> Pairs:
    """One solve at each end."""
    mean = naive(net, points, double_backward, flags.batch)
    products = 0

    def product(v: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal products
        products += 1
        return mean(torch.from_numpy(v.ravel().astype(np.float32))).numpy()

    operator = LinearOperator((net.dimension,) * 2, matvec=product, dtype=np.float32)
    ends = [eigsh(operator, flags.k, which=end, tol=flags.tolerance) for end in ("LA", "SA")]
    values, directions = (np.concatenate([e[i] for e in ends], axis=-1) for i in (0, 1))
    return values, directions, products


def residual(
    product: Callable[[torch.Tensor], torch.Tensor], values: NDArray, directions: NDArray
) -> float:
    """Largest ||H v - value v|| / max|value|."""
    columns = torch.from_numpy(directions.astype(np.float32))
    image = torch.stack([product(v) for v in columns.T], dim=1).double().numpy()
    return float(np.linalg.norm(image - directions * values, axis=0).max() / np.abs(values).max())


def solve(flags: Flags) -> None:
    """Products, seconds and residuals of both."""
    net = ga.load_network(flags.network)
    images = ga.load_images(ga.networks.ZOO[flags.network].dataset)
    if flags.target is not None:
        images = images[images.labels != flags.target]
    points = ga.boundary_points(net, images.sample(2 * flags.points, 0).images, flags.target)
    points = points[points.converged][: flags.points]
    contestants = {
        "geomadv": lambda: ours(net, points, flags),
        "eigsh, double backward": lambda: scipys(net, points, flags),
    }
    seconds, results = interleave(contestants, flags.repetitions)
    check = naive(net, points, double_backward, flags.batch)
    print(f"{net.name}, D = {net.dimension}, {len(points)} points, {flags.k} pairs at each end")
    print(f"{'':24}products  seconds  largest residual")
    for name, (values, directions, products) in results.items():
        worst = residual(check, values, directions)
        print(f"{name:24}{products:8}{np.median(seconds[name]):9.2f}{worst:18.1e}")
    faster = ratio(seconds["eigsh, double backward"], seconds["geomadv"])
    print(f"geomadv is {faster:.1f} times faster")


def memory(flags: Flags) -> None:
    """Peak memory of one block of exact products against points and block width."""
    print("points  vectors  peak memory of the process")
    for points, block in ((256, 1), (256, 64), (4096, 1), (4096, 64)):
        arguments = [flags.network, *map(str, (points, block, flags.batch))]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments], check=True, capture_output=True, text=True
        )
        print(f"{points:6}{block:9}{json.loads(done.stdout):12.0f} MiB")


def main(flags: Flags) -> None:
    """Both parts."""
    torch.set_num_threads(flags.threads)
    solve(flags)
    memory(flags)


if __name__ == "__main__":
    main(tyro.cli(Flags))
