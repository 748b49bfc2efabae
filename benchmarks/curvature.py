"""Cost of Hessian-vector products beside naive ones, in units of one plain gradient.

All contestants apply the mean Hessian over the same points; each turn times all of them, and each
ratio to the gradient is the median over the turns. Usage: python benchmarks/curvature.py
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import tyro
from timing import interleave, ratio
from torch import Tensor

import geomadv as ga
from geomadv.boundary import boundary_gradient
from geomadv.curvature import mean_hessian, mean_shape_operator


@dataclass
class Flags:
    """Settings of the benchmark."""

    network: str = "lenet-softplus-mnist"
    """A smooth network of the zoo."""
    points: int = 512
    """Boundary points."""
    batch: int = 64
    """Points at a time, for all contestants."""
    block: int = 16
    """Vectors of a block."""
    repetitions: int = 7
    """Interleaved repetitions."""
    threads: int = 2
    """Threads of torch."""


def naive(
    net: ga.Classifier, points: ga.BoundaryPoints, product: Callable[..., Tensor], batch: int
) -> Callable[[Tensor], Tensor]:
    """Mean over the points of a product written down without care."""

    def mean(v: Tensor) -> Tensor:
        total = torch.zeros_like(v)
        for i in torch.arange(len(points)).split(batch):
            part = points[i]

            def f(x: Tensor, part: ga.BoundaryPoints = part) -> Tensor:
                scores = net.module(x)
                pair = scores.gather(1, part.target[:, None]) - scores.gather(
                    1, part.source[:, None]
                )
                return pair.sum()

            rows = v.reshape(1, *net.input_shape).expand_as(part.points)
            total += product(f, part.points, rows).flatten(1).sum(0)
        return total / len(points)

    return mean


def double_backward(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x), x, create_graph=True)
    return torch.autograd.grad(gradient, x, v)[0]


def jvp_of_grad(f: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    return torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]


def gradient(net: ga.Classifier, points: ga.BoundaryPoints, batch: int) -> None:
    """One plain gradient of every point's boundary function."""
    for i in torch.arange(len(points)).split(batch):
        part = points[i]
        boundary_gradient(net, part.points, part.source, part.target)


def main(flags: Flags) -> None:
    """Prints one table."""
    torch.set_num_threads(flags.threads)
    net = ga.load_network(flags.network)
    images = ga.load_images(ga.networks.ZOO[flags.network].dataset, limit=flags.points).images
    points = ga.boundary_points(net, images)
    points = points[points.converged]
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(net.dimension, flags.block, generator=generator, dtype=net.dtype)
    setting: dict[str, Any] = {"batch_size": flags.batch}
    exact = mean_hessian(net, points, hvp="exact", **setting)
    started = time.perf_counter()
    again = mean_hessian(net, points, hvp="exact", **setting)
    again.products_sum(vectors[:, :1])
    setup = time.perf_counter() - started
    exact.products_sum(vectors[:, :1])
    forgetful = mean_hessian(net, points, hvp="exact", memory=0, **setting)
    shape = mean_shape_operator(net, points, hvp="exact", **setting)
    shape.products_sum(vectors[:, :1])
    difference = mean_hessian(net, points, hvp="finite-difference", **setting)
    backward = naive(net, points, double_backward, flags.batch)
    forward = naive(net, points, jvp_of_grad, flags.batch)
    one = vectors[:, :1]
    contestants: dict[str, tuple[int, Callable[[], Any]]] = {
        "plain gradient": (1, lambda: gradient(net, points, flags.batch)),
        "naive double backward": (1, lambda: backward(one.squeeze(1))),
        "jvp of the gradient": (1, lambda: forward(one.squeeze(1))),
        "exact": (1, lambda: exact.products_sum(one)),
        "exact, block": (flags.block, lambda: exact.products_sum(vectors)),
        "exact, block, nothing kept": (flags.block, lambda: forgetful.products_sum(vectors)),
        "shape operator, exact": (1, lambda: shape.products_sum(one)),
        "finite difference": (1, lambda: difference.products_sum(one)),
        "finite difference, block": (flags.block, lambda: difference.products_sum(vectors)),
    }
    seconds, results = interleave(
        {k: run for k, (_, run) in contestants.items()}, flags.repetitions
    )
    unit = seconds["plain gradient"]
    print(f"{net.name}, D = {net.dimension}, {len(points)} points, blocks of {flags.block}")
    print(f"{'':28}gradients per vector")
    for name, (count, _) in contestants.items():
        print(f"{name:28}{1 / ratio(unit, seconds[name]) / count:10.2f}")
    print(f"{'set-up and first product':28}{setup / median(unit):10.1f}")
    reference = results["naive double backward"].double()
    error = (results["exact"].squeeze(1) / len(points) - reference).norm() / reference.norm()
    print(f"exact against double backward: relative difference {error:.1e}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
