"""Throughput on a GPU beside the arithmetic limit of the card, network by network.

`make bench-gpu`. The limit is what the card does in a large product of float32 matrices in the same
run; operations of a network are counted by PyTorch. Finite-difference products are two gradients.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

import geomadv as ga
from geomadv.classifier.precision import arithmetic, gpu_arithmetic
from geomadv.errors import InputError


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = (
        "digits-cnn",
        "lenet-mnist",
        "nin-cifar10",
        "resnet20-cifar10",
        "resnet56-cifar10",
        "alexnet-cifar100",
        "squeezenet-imagenet",
        "mobilenet-v2-imagenet",
    )
    """Networks to measure; those without weights or images at hand are left out."""
    count: int = 1000
    """Images, repeated where the data set has fewer."""
    repetitions: int = 3
    """Of each figure; the median counts."""
    device: str = "cuda"
    """cuda, cuda:1, ..."""
    tf32: bool = False
    """Networks in TF32."""
    out: Path | None = None
    """JSON lines are appended here."""


def seconds(run: Callable[[], object], repetitions: int) -> float:
    """Median time of a call, after one that sets things up."""
    times = []
    for _ in range(repetitions + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def matrix_rate(device: torch.device, tf32: bool, repetitions: int) -> float:
    """Operations a second of a product of two 8192 x 8192 float32 matrices."""
    a, b = torch.randn(2, 8192, 8192, device=device).unbind()

    def products() -> None:
        for _ in range(5):
            a @ b

    with gpu_arithmetic(tf32):
        return 5 * 2 * 8192**3 / seconds(products, repetitions)


def gradient(net: ga.Classifier, x: torch.Tensor) -> torch.Tensor:
    """The gradient of the score on top at every image."""
    with torch.enable_grad(), arithmetic(net):
        x = x.detach().requires_grad_()
        # PyTorch's counter does not take a leaf as the input of a module.
        (found,) = torch.autograd.grad(net.scores(x + 0).amax(1).sum(), x)
    return found


def operations(net: ga.Classifier, x: torch.Tensor) -> float:
    """Operations of a gradient, per image."""
    with FlopCounterMode(display=False) as counted:
        gradient(net, x)
    return counted.get_total_flops() / len(x)


def measured(name: str, flags: Flags) -> dict[str, Any]:
    """Rates of one network, per second."""
    net = ga.load_network(name, device=flags.device, progress=False)
    net = net.with_tf32() if flags.tf32 else net
    images = ga.load_images(ga.networks.ZOO[name].dataset, split="test", size=net.framing)
    x = images[: flags.count].images.to(net.device, net.dtype)
    x = x.repeat(-(-flags.count // len(x)), 1, 1, 1)[: flags.count]
    n, size = len(x), net.batch_size()

    def rate(calls: int, run: Callable[[], object]) -> float:
        return calls / seconds(run, flags.repetitions)

    points = ga.boundary_points(net, x)
    normals = points.normals[points.converged]
    hessian = ga.mean_hessian(net, points)
    vectors = torch.randn(net.dimension, 8, device=net.device)
    line, scales = vectors[:, :1], np.linspace(-1, 1, 21)
    return {
        "network": name,
        "tf32": net.note if net.tf32 else "off",
        "batch": size,
        "operations": operations(net, x[:2]),
        "forwards": rate(n, lambda: net.predict(x)),
        "gradients": rate(n, lambda: [gradient(net, part) for part in x.split(size)]),
        "images_walked": rate(n, lambda: ga.deepfool(net, x)),
        "boundary_points": rate(n, lambda: ga.boundary_points(net, x)),
        "hessian_products": rate(8 * len(normals), lambda: hessian.products_sum(vectors)),
        "kind": hessian.kind,
        "sweep_images": rate(
            21 * n, lambda: ga.experiments.direction_sweep(net, x, line, scales, 0)
        ),
        "svd_seconds": 1 / rate(1, lambda: ga.normal_svd(normals, fewer=True)),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def main(flags: Flags) -> None:
    """Prints a line per network."""
    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py needs a CUDA device, and there is none: not run.")
    limit = matrix_rate(torch.device(flags.device), flags.tf32, flags.repetitions)
    card = torch.cuda.get_device_name(flags.device)
    print(f"{card}, PyTorch {torch.__version__}, matrix product {limit / 1e12:.1f} TFLOP/s")
    print(
        f"{'network':24}{'batch':>6}{'MFLOP':>8}{'forward/s':>11}{'gradient/s':>11}{'of limit':>9}"
        f"{'DeepFool/s':>11}{'points/s':>9}{'Hessian/s':>10}  {'kind':18}{'sweep/s':>9}{'SVD s':>7}"
    )
    for name in flags.networks:
        torch.cuda.reset_peak_memory_stats()
        try:
            row = measured(name, flags)
        except InputError as error:
            print(f"{name:24}left out: {error}", flush=True)
            continue
        share = row["operations"] * row["gradients"] / limit
        print(
            f"{name:24}{row['batch']:6d}{row['operations'] / 1e6:8.1f}{row['forwards']:11,.0f}"
            f"{row['gradients']:11,.0f}{share:9.1%}{row['images_walked']:11,.0f}"
            f"{row['boundary_points']:9,.0f}{row['hessian_products']:10,.0f}  {row['kind']:18}"
            f"{row['sweep_images']:9,.0f}{row['svd_seconds']:7.2f}",
            flush=True,
        )
        if flags.out:
            line = json.dumps({"card": card, "limit": limit, "share": share, **row})
            with flags.out.open("a") as file:
                file.write(f"{line}\n")


if __name__ == "__main__":
    main(tyro.cli(Flags))
