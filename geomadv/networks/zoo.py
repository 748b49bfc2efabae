"""The networks that are known by name."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn

from geomadv.errors import InputError, closest
from geomadv.files.places import DATA_VARIABLE, cache_dir
from geomadv.networks import architectures, mobile
from geomadv.networks.pretrained import find_pretrained
from geomadv.networks.published import PUBLISHED
from geomadv.networks.spec import NetworkSpec, Recipe

# Mean and standard deviation of the training pixels, all in [0, 1]; those of the pretrained
# networks are the ones they were trained with.
_DIGITS = ((0.305,), (0.376,))
_MNIST = ((0.1307,), (0.3081,))
_NIN = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
_CIFAR100 = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_WONG_CIFAR10 = ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225))
_MOBILENET = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # x / 127.5 - 1 for 8-bit pixels
_LITE0 = ((127 / 255,) * 3, (128 / 255,) * 3)
_SQUEEZENET = ((122.679 / 255, 116.669 / 255, 104.007 / 255), (1 / 255,) * 3)  # Caffe's

_FIRST = "first 1,000 test images"

_DIGITS_CNN = NetworkSpec(
    name="digits-cnn",
    build=partial(architectures.digits_cnn, nn.GELU),
    dataset="digits",
    input_shape=(1, 8, 8),
    mean=_DIGITS[0],
    std=_DIGITS[1],
    description="small smooth (GELU) network for 8x8 digits; trains in seconds",
    recipe=Recipe(epochs=30, batch_size=64, learning_rate=3e-3, weight_decay=1e-4),
    accuracy=0.984,
)
_LENET_MNIST = NetworkSpec(
    name="lenet-mnist",
    build=architectures.lenet,
    dataset="mnist",
    input_shape=(1, 28, 28),
    mean=_MNIST[0],
    std=_MNIST[1],
    description="LeNet (Caffe's variant) for MNIST; trains in about a minute",
    recipe=Recipe(epochs=2, batch_size=256, learning_rate=4e-3),
    accuracy=0.992,
)
_TRAINED_HERE = (
    _DIGITS_CNN,
    replace(
        _DIGITS_CNN,
        name="digits-relu",
        build=partial(architectures.digits_cnn, nn.ReLU),
        description="digits-cnn with ReLU: piecewise linear; trains in seconds",
        accuracy=0.982,
    ),
    _LENET_MNIST,
    replace(
        _LENET_MNIST,
        name="lenet-softplus-mnist",
        build=architectures.lenet_softplus,
        description="LeNet made smooth (softplus, average pooling); trains in about a minute",
        accuracy=0.991,
    ),
)


def _resnet(layers: int, accuracy: float) -> NetworkSpec:
    return NetworkSpec(
        name=f"resnet{layers}-cifar10",
        build=partial(architectures.cifar_resnet, (layers - 2) // 6),
        dataset="cifar10",
        input_shape=(3, 32, 32),
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        description=f"ResNet-{layers} for CIFAR-10, pretrained (Y. Idelbayev)",
        weights=PUBLISHED[f"resnet{layers}-cifar10"],
        accuracy=accuracy,
        tested=_FIRST,
    )


def _robust(dataset: str, radius: str, accuracy: float) -> NetworkSpec:
    """A network of Wong and Kolter (2018) and Wong et al. (2018), provably robust."""
    channels, side = (1, 28) if dataset == "mnist" else (3, 32)
    return NetworkSpec(
        name=f"{dataset}-convsmall-robust-{radius}",
        build=partial(architectures.conv_small, channels, side),
        dataset=dataset,
        input_shape=(channels, side, side),
        mean=None if channels == 1 else _WONG_CIFAR10[0],
        std=None if channels == 1 else _WONG_CIFAR10[1],
        description=f"small network for {dataset}, provably robust training ({radius})",
        weights=PUBLISHED[f"{dataset}-convsmall-robust-{radius}"],
        accuracy=accuracy,
        tested="test images" if dataset == "mnist" else _FIRST,
    )


def _imagenet(
    name: str,
    build: Callable[[], nn.Module],
    scaling: tuple[tuple[float, ...], tuple[float, ...]],
    description: str,
    accuracy: float,
) -> NetworkSpec:
    return NetworkSpec(
        name=f"{name}-imagenet",
        build=build,
        dataset="imagenet-sample",
        input_shape=(3, 224, 224),
        mean=scaling[0],
        std=scaling[1],
        description=f"{description} for ImageNet, pretrained",
        weights=PUBLISHED[f"{name}-imagenet"],
        accuracy=accuracy,
        tested="1,000 images, one a class, perhaps seen in training",
    )


_PRETRAINED = (
    _resnet(20, 0.915),
    _resnet(32, 0.928),
    _resnet(56, 0.926),
    NetworkSpec(
        name="nin-cifar10",
        build=architectures.nin,
        dataset="cifar10",
        input_shape=(3, 32, 32),
        mean=_NIN[0],
        std=_NIN[1],
        description="Network in Network for CIFAR-10, pretrained; 86.9 % of all test images",
        weights=PUBLISHED["nin-cifar10"],
        accuracy=0.855,
        tested=_FIRST,
    ),
    NetworkSpec(
        name="alexnet-cifar100",
        build=architectures.alexnet_cifar,
        dataset="cifar100",
        input_shape=(3, 32, 32),
        mean=_CIFAR100[0],
        std=_CIFAR100[1],
        description="AlexNet for CIFAR-100, trained for 15 epochs; 39.9 % of all test images",
        weights=PUBLISHED["alexnet-cifar100"],
        accuracy=0.416,
        tested="1,000 test images, ten a class",
    ),
    _imagenet(
        "mobilenet",
        mobile.mobilenet_v1,
        _MOBILENET,
        "MobileNet v1, width 0.75,",
        0.847,
    ),
    _imagenet(
        "mobilenet-v2",
        mobile.mobilenet_v2,
        _MOBILENET,
        "MobileNet v2, dequantised from 8 bits,",
        0.876,
    ),
    _imagenet(
        "efficientnet-lite0",
        mobile.efficientnet_lite0,
        _LITE0,
        "EfficientNet-Lite0",
        0.877,
    ),
    _imagenet(
        "squeezenet",
        architectures.squeezenet,
        _SQUEEZENET,
        "SqueezeNet 1.1",
        0.606,
    ),
    _robust("mnist", "eps0.1", 0.9820),
    _robust("mnist", "eps0.3", 0.8523),
    _robust("cifar10", "linf8", 0.312),
    _robust("cifar10", "l2-36", 0.553),
)

ZOO: dict[str, NetworkSpec] = {spec.name: spec for spec in (*_TRAINED_HERE, *_PRETRAINED)}


def list_networks() -> list[str]:
    """Names of the networks that `load_network` knows, those trained here first."""
    return list(ZOO)


def network_cards(names: Sequence[str] = ()) -> str:
    """What is known of networks, one card after the other.

    Name, data set, input size, normalisation, accuracy, where the weights come from and under
    which licence, their size, and whether they are at hand: in a folder of weights, or trained in
    the cache.

    names: of the zoo; none: all.

    Raises:
        InputError: no such network.
    """
    for name in names:
        if name not in ZOO:
            raise InputError(
                f"network {name!r} is not known.{closest(name, list_networks())} Known are "
                f"{', '.join(ZOO)}."
            )
    return "\n\n".join(_card(ZOO[name]) for name in names or ZOO)


def _card(spec: NetworkSpec) -> str:
    normalised = "none"
    if spec.mean and spec.std:
        normalised = f"mean {_numbers(spec.mean)}, std {_numbers(spec.std)}"
    rows = {
        "data": f"{spec.dataset}, input {' x '.join(map(str, spec.input_shape))}",
        "normalisation": normalised,
        "accuracy": f"{spec.accuracy:.1%} of {spec.tested}" if spec.accuracy else "not measured",
        "source": spec.weights.origin if spec.weights else "the recipe of geomadv",
        **({"licence": spec.weights.licence} if spec.weights else {}),
        "size": _size(spec),
        "weights": _at_hand(spec),
    }
    return "\n".join(
        [f"{spec.name}: {spec.description}", *(f"  {key:14} {row}" for key, row in rows.items())]
    )


def _size(spec: NetworkSpec) -> str:
    with torch.device("meta"):
        state = spec.build().state_dict()
    count = sum(t.numel() for name, t in state.items() if not name.endswith("num_batches_tracked"))
    size = count * (2 if spec.weights and spec.weights.half else 4)
    return f"{count:,} numbers, {size / 1e6:.1f} MB"


def _at_hand(spec: NetworkSpec) -> str:
    if spec.weights is None:
        kept = any((cache_dir() / "networks").glob(f"{spec.name}-*.safetensors"))
        return "trained, in the cache" if kept else "trained on first use"
    if find_pretrained(spec.weights):
        return f"{spec.weights.file}, at hand"
    if spec.weights.remote:
        return f"{spec.weights.file}, not at hand: downloaded on first use"
    return (
        f"{spec.weights.file}, not at hand, no download: put it into weights/ of {DATA_VARIABLE}, "
        "or train the network and name your weights"
    )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
