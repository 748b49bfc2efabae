"""Universal perturbations beside ART's: fooling rates, and time as ratios to ART.

Needs `pip install --no-deps -r benchmarks/peers.txt` and GEOMADV_DATA; see benchmarks/README.md.
Both get the same images, radius, number of passes and DeepFool settings, and no target rate.
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

import torch
import tyro
from torch import Tensor

import geomadv as ga

try:
    import torchvision  # noqa: F401
except Exception:
    # Its wheel does not import next to the CPU build of torch. ART only looks for it.
    for name in ("torchvision", "torchvision.transforms", "torchvision.models"):
        sys.modules[name] = ModuleType(name)

from art.attacks.evasion import UniversalPerturbation as ArtUniversalPerturbation
from art.estimators.classification import PyTorchClassifier

OVERSHOOT, CANDIDATES, MAX_ITER = 0.02, 10, 10


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = ("lenet-mnist", "lenet-mnist", "resnet20-cifar10")
    """Networks to attack."""
    relative_radius: tuple[float, ...] = (0.04, 0.5, 0.04)
    """Radius of the 2-norm ball for each network, as a share of the mean image norm. The paper's is
    4 %, which hardly fools LeNet; so it has a larger one as well."""
    count: int = 400
    """Training images of the sample set; 1,000 test images judge the result."""
    passes: int = 3
    """Passes over the sample set."""
    seeds: tuple[int, ...] = (0,)
    """Runs of each contestant; every seed draws its own sample set."""
    threads: int = 1
    """Threads of torch."""
    art: bool = True
    """Off: only the batched method beside the sequential one."""


def art(net: ga.Classifier, x: Tensor, radius: float, passes: int, seed: int) -> Tensor:
    """ART's perturbation (C, H, W); without clip_values, as geometry ignores the pixel box."""
    estimator = PyTorchClassifier(
        net.module,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=net.input_shape,
        nb_classes=net.num_classes,
        device_type="cpu",
    )
    attack = ArtUniversalPerturbation(
        estimator,
        attacker="deepfool",
        attacker_params={
            "max_iter": MAX_ITER,
            "epsilon": OVERSHOOT,
            "nb_grads": CANDIDATES,
            "verbose": False,
        },
        delta=0.0,
        max_iter=passes,
        eps=radius,
        norm=2,
        verbose=False,
    )
    random.seed(seed)
    attack.generate(x.numpy())
    return torch.as_tensor(attack.noise[0])


def ours(
    net: ga.Classifier,
    x: Tensor,
    radius: float,
    passes: int,
    seed: int,
    method: Literal["batched", "sequential"],
) -> Tensor:
    """Our perturbation (C, H, W)."""
    found = ga.universal_perturbation(
        net,
        x,
        radius,
        target_rate=1.0,
        passes=passes,
        seed=seed,
        method=method,
        deepfool=ga.DeepFoolSettings(candidates=CANDIDATES, overshoot=OVERSHOOT, max_iter=MAX_ITER),
    )
    return found.delta


@torch.no_grad()
def fooling_rate(net: ga.Classifier, x: Tensor, v: Tensor) -> float:
    """Share of the images whose predicted label changes."""
    parts = x.split(128)
    changed = [net.scores(p + v).argmax(1) != net.scores(p).argmax(1) for p in parts]
    return float(torch.cat(changed).double().mean())


def compare(flags: Flags, name: str, relative: float) -> None:
    """One line a contestant and seed: seconds, speed, fooling rates, norm."""
    net = ga.load_network(name)
    dataset = ga.networks.ZOO[name].dataset
    train = ga.load_images(dataset, split="train")
    unseen = ga.load_images(dataset, split="test", limit=1000).images
    runs: dict[str, Callable[[Tensor, float, int], Tensor]] = {
        "ART": lambda x, radius, seed: art(net, x, radius, flags.passes, seed),
        "sequential": lambda x, radius, seed: ours(
            net, x, radius, flags.passes, seed, "sequential"
        ),
        "batched": lambda x, radius, seed: ours(net, x, radius, flags.passes, seed, "batched"),
    }
    if not flags.art:
        del runs["ART"]
    print(
        f"\n{name}, {flags.count} images, radius {100 * relative:g} % of the mean image norm\n"
        f"{'':12}seed  seconds  speed  fooled  held-out  norm / radius"
    )
    for seed in flags.seeds:
        x = train.sample(flags.count, seed).images
        radius = relative * x.flatten(1).norm(dim=1).mean().item()
        first = None
        for label, run in runs.items():
            started = time.perf_counter()
            v = run(x, radius, seed)
            seconds = time.perf_counter() - started
            first = seconds if first is None else first
            print(
                f"{label:12}{seed:4}{seconds:9.1f}{first / seconds:7.1f}"
                f"{100 * fooling_rate(net, x, v):7.1f}%{100 * fooling_rate(net, unseen, v):9.1f}%"
                f"{v.norm().item() / radius:15.4f}",
                flush=True,
            )


def main(flags: Flags) -> None:
    """Prints one table per network."""
    torch.set_num_threads(flags.threads)
    for name, relative in zip(flags.networks, flags.relative_radius, strict=True):
        compare(flags, name, relative)


if __name__ == "__main__":
    main(tyro.cli(Flags))
