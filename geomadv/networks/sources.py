"""Modules from outside the zoo: a function of a Python module, torchvision, timm, Hugging Face."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from PIL import Image
from torch import nn

from geomadv.errors import InputError, closest
from geomadv.files.places import cache_dir
from geomadv.framing import Framing
from geomadv.images.classes import imagenet_classes
from geomadv.images.formats import CIFAR10_NAMES

# A folder that holds this file is one of Hugging Face's `save_pretrained`.
HF_CONFIG = "config.json"


@dataclass(frozen=True)
class Source:
    """A module and what its origin says about it; None where it says nothing.

    Attributes:
        module: normalised images (N, C, H, W) -> logits.
        name: what the network is called.
        input_shape: (C, H, W).
        mean, std: per channel, for images in [0, 1].
        class_names: one per logit.
        notes: what was adapted, for `Classifier.note`.
        framing: how it gets images of other sizes.
    """

    module: nn.Module
    name: str
    input_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: Sequence[str] | None = None
    notes: tuple[str, ...] = ()
    framing: Framing | None = None


def states_shape(name: str) -> bool:
    """Whether the origin of a network states the shape of its images: all but a user's function."""
    return ":" not in name or name.partition(":")[0] in ("torchvision", "timm", "hf", "robustbench")


def open_source(name: str, pretrained: bool) -> Source:
    """The module that a name with a colon, or a folder of Hugging Face, names.

    name: `torchvision:NAME`, `timm:NAME`, `hf:NAME`, `robustbench:NAME`,
        `package.module:function`, or a folder of Hugging Face.
    pretrained: take the package's own weights, downloaded by the package. Those of a function are
        what it makes, and its random numbers are seeded with 0.

    Raises:
        InputError: a package, module or function is missing or fails, or gives no `nn.Module`.
    """
    if (Path(name) / HF_CONFIG).is_file():
        return _hugging_face(name, pretrained)
    origin, _, model = name.partition(":")
    if not origin or not model:
        raise InputError(
            f"network {name!r}: expected 'package.module:function', 'torchvision:NAME', "
            "'timm:NAME', 'hf:NAME' or 'robustbench:NAME'."
        )
    if origin == "torchvision":
        return _torchvision(model, pretrained)
    if origin == "timm":
        return _timm(model, pretrained)
    if origin == "hf":
        return _hugging_face(model, pretrained)
    if origin == "robustbench":
        return _robustbench(model, pretrained)
    module = _called(origin, model)
    initial = pretrained and next(module.parameters(), None) is not None
    note = (
        f"no weights given: those that {name} makes, its initial ones unless it loads others "
        "(torch.manual_seed(0))"
    )
    return Source(module, name=f"{origin}.{model}", notes=(note,) if initial else ())


# A function of the user's


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """A script's own folder is on the import path, the folder it is started from is not."""
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _called(module_name: str, function_name: str) -> nn.Module:
    module = _user_module(module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [n for n in vars(module) if not n.startswith("_") and callable(vars(module)[n])]
        raise InputError(
            f"module {module_name!r} has no function {function_name!r}."
            f"{closest(function_name, known)} The function takes no arguments and returns the "
            "network as an nn.Module."
        )
    with _failures_named(f"{module_name}:{function_name}"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = function()
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{module_name}:{function_name} returned {type(network).__name__}; expected an "
            "nn.Module that maps (N, C, H, W) images to logits."
        )
    return network


def _user_module(name: str) -> ModuleType:
    try:
        with _current_folder_importable():
            return importlib.import_module(name)
    except Exception as error:  # importing runs the user's code: anything may be raised
        raise InputError(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}. Start from the "
            "folder that holds it, install it, or add its folder to PYTHONPATH."
        ) from error


# Packages of networks


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a wheel for another torch fails in ways of its own
        wanted = "robustbench" if name.startswith("robustbench") else "'geomadv[zoo]'"
        raise InputError(
            f"{name} cannot be imported: {type(error).__name__}: {error}. Install it with "
            f"pip install {wanted}, in the version made for the installed torch."
        ) from error


@contextmanager
def _failures_named(what: str) -> Iterator[None]:
    """Turns whatever foreign code raises into an InputError that names the network."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"network {what!r} cannot be made: {type(error).__name__}: {error}. What makes "
            "it is called without arguments: correct it, or give values to all of them."
        ) from error


def _check_known(package: str, model: str, known: Callable[[], Sequence[str]]) -> None:
    names = known()
    # timm's names may carry a tag that selects the weights: resnet18.a1_in1k.
    if model not in names and model.partition(".")[0] not in names:
        raise InputError(
            f"{package} has no network {model!r}.{closest(model, names)} "
            f"It lists its {len(names)} networks with {package}."
            f"{'models.list_models()' if package == 'torchvision' else 'list_models()'}."
        )


def _torchvision(model: str, pretrained: bool) -> Source:
    """Input size, normalisation and class names are those of the default weights' transforms."""
    models = _package("torchvision.models")
    _check_known("torchvision", model, models.list_models)
    with _failures_named(f"torchvision:{model}"):
        weights = models.get_model_weights(model).DEFAULT
        module = models.get_model(model, weights=weights if pretrained else None)
        preset = weights.transforms()
        side = preset.crop_size[0] if isinstance(preset.crop_size, Sequence) else preset.crop_size
        return Source(
            module,
            name=model,
            input_shape=(3, int(side), int(side)),
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            class_names=weights.meta.get("categories"),
            framing=Framing(
                (int(side), int(side)),
                resize=int(preset.resize_size[0]),
                interpolation=preset.interpolation.value,
            ),
        )


def _timm(model: str, pretrained: bool) -> Source:
    """Input size and normalisation are those of the model's pretrained configuration."""
    timm = _package("timm")
    _check_known("timm", model, timm.list_models)
    with _failures_named(f"timm:{model}"):
        module = timm.create_model(model, pretrained=pretrained)
        config = timm.data.resolve_model_data_config(module)
        channels, height, width = config["input_size"]
        return Source(
            module,
            name=model,
            input_shape=(channels, height, width),
            mean=tuple(config["mean"]),
            std=tuple(config["std"]),
            framing=Framing(
                (height, width),
                channels,
                # timm rounds down.
                resize=int(min(height, width) / config.get("crop_pct", 0.875)),
                interpolation=config.get("interpolation", "bilinear"),
                squash=config.get("crop_mode") == "squash",
            ),
        )


def _hugging_face(model: str, pretrained: bool) -> Source:
    """Input size and normalisation are those of the image processor, class names the model's."""
    hub = _package("transformers")
    with _failures_named(f"hf:{model}"):
        config = hub.AutoConfig.from_pretrained(model)
        kind = hub.AutoModelForImageClassification
        module = kind.from_pretrained(model) if pretrained else kind.from_config(config)
        processor = hub.AutoImageProcessor.from_pretrained(model)
        framing = _processed(processor, int(getattr(config, "num_channels", 3)))
        names = getattr(config, "id2label", None)
        normalises = getattr(processor, "do_normalize", True)
        return Source(
            module,
            name=Path(model).name,
            input_shape=None if framing.size is None else (framing.channels, *framing.size),
            mean=tuple(processor.image_mean) if normalises else None,
            std=tuple(processor.image_std) if normalises else None,
            class_names=None if names is None else [names[k] for k in sorted(names)],
            framing=framing,
        )


def _processed(processor: Any, channels: int) -> Framing:
    """What one of Hugging Face's image processors does: resize, perhaps crop."""
    size: dict[str, int] = dict(processor.size)
    short = int(size.get("shortest_edge", 0))
    height, width = int(size.get("height", short)), int(size.get("width", short))
    method = Image.Resampling(int(getattr(processor, "resample", Image.Resampling.BILINEAR)))
    interpolation: Any = method.name.lower()
    if getattr(processor, "do_center_crop", False):
        cut: dict[str, int] = dict(processor.crop_size)
        frame = int(cut["height"]), int(cut["width"])
        return Framing(frame, channels, max(short or min(height, width), min(frame)), interpolation)
    # ConvNeXt's resizes to size / crop_pct and crops, as timm does.
    share = getattr(processor, "crop_pct", None) if short else None
    if share:
        return Framing((short, short), channels, int(short / share), interpolation)
    return Framing((height, width), channels, None, interpolation, squash=not short)


def _robustbench(model: str, pretrained: bool) -> Source:
    """NAME, or DATASET/THREAT/NAME where several have the name; normalisation is in the module."""
    zoo = _package("robustbench.model_zoo").model_dicts
    *place, name = model.split("/")
    named = [(d, t) for d, threats in zoo.items() for t, kinds in threats.items() if name in kinds]
    found = [(d, t) for d, t in named if place in ([], [d.value], [d.value, t.value])]
    if not named:
        known = sorted({n for threats in zoo.values() for kinds in threats.values() for n in kinds})
        raise InputError(
            f"robustbench has no network {name!r}.{closest(name, known)} It lists its "
            f"{len(known)} networks in robustbench.model_zoo.model_dicts."
        )
    if len(found) != 1:
        there = ", ".join(f"'robustbench:{d.value}/{t.value}/{name}'" for d, t in named)
        raise InputError(f"network 'robustbench:{model}': give one of {there}.")
    dataset, threat = found[0]
    with _failures_named(f"robustbench:{model}"), _no_code_of_files():
        if pretrained:
            folder = cache_dir() / "robustbench"
            load = _package("robustbench.utils").load_model
            module = load(name, folder, dataset, threat)
        else:
            module = zoo[dataset][threat][name]["model"]()
    imagenet = dataset.value == "imagenet"
    names = {"cifar10": CIFAR10_NAMES, "imagenet": [n for _, n in imagenet_classes()]}
    side = 224 if imagenet else 32
    return Source(module, name, (3, side, side), class_names=names.get(dataset.value))


@contextmanager
def _no_code_of_files() -> Iterator[None]:
    """Whoever reads a checkpoint with torch.load gets tensors only, with older releases too."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before
