"""DeepFool beside its peers: speed as ratios to Foolbox, success rate, median norm.

Needs `pip install --no-deps -r benchmarks/peers.txt` and GEOMADV_DATA; see benchmarks/README.md.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any

import torch
import tyro
from timing import interleave, ratio
from torch import Tensor

import geomadv as ga


def register_stand_ins() -> None:
    """Empty modules for what peers import at the top but do not use here.

    torchvision's wheel does not import next to the CPU build of torch; adv-lib also imports
    visdom. Nothing that is measured calls into them.
    """
    for name in (
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.functional",
        "torchvision.models",
        "torchvision.datasets",
        "torchvision.utils",
        "visdom",
    ):
        try:
            __import__(name)
        except Exception:
            module = ModuleType(name)
            module.__getattr__ = _nothing  # type: ignore[method-assign]
            sys.modules[name] = module


def _nothing(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return lambda *_, **__: None


register_stand_ins()
import foolbox  # noqa: E402
import torchattacks  # noqa: E402
from adv_lib.attacks.decoupled_direction_norm import ddn  # noqa: E402
from adv_lib.attacks.deepfool import df  # noqa: E402
from adv_lib.attacks.fast_minimum_norm import fmn  # noqa: E402
from adv_lib.attacks.superdeepfool import sdf  # noqa: E402
from art.attacks.evasion import DeepFool as ArtDeepFool  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402

Attack = Callable[[], Tensor]


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = ("lenet-mnist", "resnet20-cifar10")
    """Networks to attack."""
    count: tuple[int, ...] = (256, 128)
    """Test images per network."""
    repetitions: int = 5
    """Interleaved repetitions."""
    threads: int = 2
    """Threads of torch."""
    slow_peers: bool = False
    """Also torchattacks and ART (many times slower), once each, on 32 images."""
    nearest: bool = True
    """Also compare boundary_points(nearest=True) with DDN, FMN and SuperDeepFool."""


def speed(net: ga.Classifier, x: Tensor) -> dict[str, Attack]:
    """DeepFool with 10 candidates, 50 steps, overshoot 0.02, clipped and not."""
    labels = net.predict(x)
    attack = foolbox.attacks.L2DeepFoolAttack(
        steps=50, candidates=10, overshoot=0.02, loss="logits"
    )
    wide = foolbox.PyTorchModel(net.module, bounds=(-1e4, 1e4), device="cpu")
    boxed = foolbox.PyTorchModel(net.module, bounds=net.bounds, device="cpu")
    return {
        "Foolbox": lambda: attack.run(wide, x, labels),
        "geomadv": lambda: ga.deepfool(net, x).adversarial,
        "geomadv, all candidates": lambda: ga.deepfool(net, x, prune=False).adversarial,
        "Foolbox, clipped": lambda: attack.run(boxed, x, labels),
        "adv-lib, clipped": lambda: df(net.module, x, labels),
        "geomadv, clipped": lambda: ga.deepfool(net, x, clip=True).adversarial,
    }


def slow(net: ga.Classifier, x: Tensor) -> dict[str, Attack]:
    """Peers that take many times longer."""
    labels = net.predict(x)
    art = PyTorchClassifier(
        net.module,
        loss=None,
        input_shape=net.input_shape,
        nb_classes=net.num_classes,
        clip_values=net.bounds,
        device_type="cpu",
    )
    art_attack = ArtDeepFool(art, max_iter=50, epsilon=0.02, nb_grads=10, verbose=False)
    torch_attack = torchattacks.DeepFool(net.module, steps=50, overshoot=0.02)
    return {
        "geomadv, clipped": lambda: ga.deepfool(net, x, clip=True).adversarial,
        "ART": lambda: torch.as_tensor(art_attack.generate(x.numpy())),
        "torchattacks": lambda: torch_attack(x, labels),
    }


def minimal_norm(net: ga.Classifier, x: Tensor) -> dict[str, Attack]:
    """Attacks that look for the smallest norm, 100 gradient steps each."""
    labels = net.predict(x)

    def nearest() -> Tensor:
        points = ga.boundary_points(net, x, nearest=True, nearest_steps=100)
        # From the boundary to its other side, to be judged as the attacks are.
        return x + (1 + 1e-4) * (points.points - x)

    return {
        "DDN": lambda: ddn(net.module, x, labels, steps=100),
        "FMN": lambda: fmn(net.module, x, labels, norm=2, steps=100),
        "SuperDeepFool": lambda: sdf(net.module, x, labels, steps=100),
        "geomadv, nearest": nearest,
    }


def report(net: ga.Classifier, x: Tensor, contestants: dict[str, Attack], repetitions: int) -> None:
    """One line a contestant: seconds, ratio to the first, success rate, median norm."""
    seconds, adversarial = interleave(contestants, repetitions)
    first = next(iter(contestants))
    labels = net.predict(x)
    print(f"\n{net.name}, {len(x)} images\n{'':26}seconds  speed  success  median norm")
    for name in contestants:
        found = adversarial[name].to(x)
        success = net.scores(found).argmax(1) != labels
        norms = (found - x).flatten(1).norm(dim=1)[success]
        print(
            f"{name:26}{median(seconds[name]):7.2f}{ratio(seconds[first], seconds[name]):7.2f}"
            f"{100 * success.float().mean():8.1f}%{norms.median():13.5f}"
        )


def main(flags: Flags) -> None:
    """Prints one table per network and question."""
    torch.set_num_threads(flags.threads)
    for name, count in zip(flags.networks, flags.count, strict=True):
        net = ga.load_network(name)
        images = ga.load_images(net_dataset(name), split="test", limit=count).images
        report(net, images, speed(net, images), flags.repetitions)
        if flags.slow_peers:
            report(net, images[:32], slow(net, images[:32]), 1)
        if flags.nearest:
            few = images[:64]
            report(net, few, minimal_norm(net, few), 1)


def net_dataset(name: str) -> str:
    """The data set that a network of the zoo is for."""
    return ga.networks.ZOO[name].dataset


if __name__ == "__main__":
    main(tyro.cli(Flags))
