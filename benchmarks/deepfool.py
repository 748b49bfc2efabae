"""DeepFool beside its peers: speed as ratios to Foolbox, success rate, median norm.

Needs `pip install --no-deps -r benchmarks/peers.txt` and GEOMADV_DATA; see benchmarks/README.md.
"""

import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any

import torch
import tyro
from timing import interleave, ratio
from torch import Tensor, nn

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

# Networks of the zoo that need no long training.
ZOO = (
    "digits-cnn",
    "digits-relu",
    "lenet-mnist",
    "lenet-softplus-mnist",
    "mnist-convsmall-robust-eps0.1",
    "mnist-convsmall-robust-eps0.3",
    "cifar10-convsmall-robust-linf8",
    "cifar10-convsmall-robust-l2-36",
    "resnet20-cifar10",
    "resnet32-cifar10",
    "resnet56-cifar10",
    "nin-cifar10",
    "alexnet-cifar100",
    "mobilenet-imagenet",
    "mobilenet-v2-imagenet",
    "efficientnet-lite0-imagenet",
    "squeezenet-imagenet",
)
# A network with more classes is too slow for SuperDeepFool: a gradient per class and step.
_MANY_CLASSES = 100


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = ZOO
    """Networks on which DeepFool is timed beside its peers."""
    count: int = 128
    """Test images each."""
    count_large: int = 16
    """The same for images of more than 10,000 values."""
    repetitions: int = 3
    """Interleaved repetitions."""
    threads: int = 2
    """Threads of torch."""
    slow_peers: bool = False
    """Also torchattacks and ART (many times slower), once each, on 32 images."""
    nearest: tuple[str, ...] = ZOO
    """Networks on which boundary_points(nearest=True) meets DDN, FMN and SuperDeepFool."""
    nearest_count: int = 64
    """Test images each; count_large where images are large."""


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


class Counted(nn.Module):
    """The network's scores; counts the images that go through it forwards and backwards."""

    def __init__(self, net: ga.Classifier) -> None:
        super().__init__()
        self.scores, self.forwards, self.backwards = net.scores, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, classes) of x (n, C, H, W)."""
        self.forwards += len(x)
        return self.scores(_Tally.apply(x, self))  # type: ignore[no-untyped-call]


class _Tally(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counted: Counted) -> Tensor:
        ctx.counted = counted
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        ctx.counted.backwards += len(gradient[0])
        return gradient[0], None


def minimal_norm(net: ga.Classifier, counted: Counted, x: Tensor) -> dict[str, Attack]:
    """Attacks that look for the smallest norm, 100 gradient steps each.

    SuperDeepFool takes as many as it likes, in up to 10 walks of 50 steps: with its default of 100
    each, an image without slopes takes an hour. The peers stay in the pixel box, geomadv does not.
    """
    labels = net.predict(x)
    ours = copy.copy(net)
    ours.scores = counted  # type: ignore[method-assign]

    def points(nearest: bool) -> Tensor:
        found = ga.boundary_points(ours, x, nearest=nearest, nearest_steps=100).points
        # From the boundary, known to 1e-5, to its other side, to be judged as the attacks are.
        return x + (1 + 1e-4) * (found - x)

    attacks: dict[str, Attack] = {
        "DDN": lambda: ddn(counted, x, labels, steps=100),
        "FMN": lambda: fmn(counted, x, labels, norm=2, steps=100),
        "SuperDeepFool": lambda: sdf(counted, x, labels, steps=10, df_steps=50),
        "geomadv, not nearest": lambda: points(False),
        "geomadv, nearest": lambda: points(True),
    }
    if net.num_classes > _MANY_CLASSES:
        del attacks["SuperDeepFool"]
    return attacks


def report_nearest(net: ga.Classifier, x: Tensor) -> None:
    """One line an attack: seconds, passes an image, success, median norm (failures infinite)."""
    counted = Counted(net)
    labels = net.predict(x)
    print(f"\n{net.name}, {len(x)} images")
    print(f"{'':22}seconds  forward  backward  success  median norm")
    for name, attack in minimal_norm(net, counted, x).items():
        counted.forwards = counted.backwards = 0
        started = time.perf_counter()
        found = attack().to(x)
        seconds = time.perf_counter() - started
        forward, backward = counted.forwards / len(x), counted.backwards / len(x)
        success = net.scores(found).argmax(1) != labels
        norms = (found - x).flatten(1).norm(dim=1).where(success, torch.inf)
        print(
            f"{name:22}{seconds:7.1f}{forward:9.1f}{backward:10.1f}"
            f"{100 * success.float().mean():8.1f}%{norms.median():13.5f}",
            flush=True,
        )


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


def report_difference(net: ga.Classifier, x: Tensor) -> None:
    """On how many images the default walk ends elsewhere than the one that looks at all rivals.

    Batches of other images round differently, which a long walk through kinks amplifies: the
    unpruned walk in other batches is the yardstick.
    """
    full = ga.deepfool(net, x, prune=False)

    def moved(other: ga.DeepFoolResult) -> int:
        return int(((other.delta - full.delta).flatten(1).norm(dim=1) > 1e-3 * full.norm).sum())

    default = moved(ga.deepfool(net, x))
    batches = moved(ga.deepfool(net, x, prune=False, batch_size=37))
    print(
        f"default and unpruned walk differ by more than 1e-3 of the norm on {default} of {len(x)} "
        f"images ({100 * default / len(x):.1f} %); the unpruned one in batches of 37: {batches}",
        flush=True,
    )


def test_images(net: ga.Classifier, name: str, count: int, flags: Flags) -> Tensor:
    """The first test images of the data set that a network of the zoo is for."""
    limit = flags.count_large if net.dimension > 10_000 else count
    return ga.load_images(ga.networks.ZOO[name].dataset, split="test", limit=limit).images


def main(flags: Flags) -> None:
    """Prints one table per network and question."""
    torch.set_num_threads(flags.threads)
    for name in flags.networks:
        net = ga.load_network(name)
        x = test_images(net, name, flags.count, flags)
        report(net, x, speed(net, x), flags.repetitions)
        report_difference(net, x)
        if flags.slow_peers:
            report(net, x[:32], slow(net, x[:32]), 1)
    for name in flags.nearest:
        net = ga.load_network(name)
        report_nearest(net, test_images(net, name, flags.nearest_count, flags))


if __name__ == "__main__":
    main(tyro.cli(Flags))
