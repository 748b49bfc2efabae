"""What a run works on: a network, its images, and the folder and manner of the computation."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from geomadv import distributed
from geomadv.classifier import Classifier
from geomadv.classifier.checks import usable_device
from geomadv.errors import InputError, LackingError, ShapeError
from geomadv.images import ImageSet, list_images, load_images
from geomadv.images.classes import numbered
from geomadv.images.folder import FolderReader
from geomadv.images.loading import has_splits
from geomadv.images.splits import Split, divided, overlap
from geomadv.networks import ZOO, list_networks, load_network
from geomadv.networks.pretrained import find_pretrained
from geomadv.networks.sources import states_shape
from geomadv.pipeline.experiment import Sample
from geomadv.pipeline.settings import MOST, check_whole

_Name = tyro.conf.arg(metavar="NAME")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The network and its images."""

    network: Annotated[str, _Name] = "digits-cnn"
    """A network of the zoo, package.module:function, torchvision:NAME, timm:NAME, hf:NAME or
    robustbench:NAME."""
    weights: Path | None = None
    """Weights for the network: safetensors, or a checkpoint of torch.save."""
    weights_key: str | None = None
    """Which part of the weight file, where several fit (EMA beside raw weights)."""
    output: str | None = None
    """Which field of what the network gives holds the scores; default: logits."""
    images: Annotated[str | None, _Name] = None
    """Data set by name, or a folder, .npz or .h5 file; default: the one the network is for."""
    test_images: Annotated[str | None, _Name] = None
    """Likewise, whose images are the split test, and those of --images the split train; default:
    the splits of --images, else two halves of them."""
    by_number: bool = False
    """Class k of the images is class k of the network, whatever their names."""
    size: tuple[int, ...] | None = None
    """Side, or height and width, of what image files become; default: what the network states."""
    grey: bool = False
    """Take image files in grey, for a network of one channel."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean that a network of your own expects to be subtracted."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation that a network of your own expects to be divided out."""
    tf32: bool = False
    """Compute in TF32 on a GPU: faster on large networks, with an error that is said."""

    @property
    def dataset(self) -> str:
        """The images as named, else those the network is for."""
        if self.images is not None:
            return self.images
        if self.network in ZOO:
            return ZOO[self.network].dataset
        raise InputError(
            f"--images: say which images network {self.network!r} is for: a data set "
            f"({', '.join(list_images())}), a folder, .npz or .h5 file. Networks that need no such "
            f"answer: {', '.join(list_networks())}."
        )

    def load(self, device: str, progress: bool = True) -> Classifier:
        """The network; the images tell the shape of one that states none."""
        net = self._load(device, progress)
        return net.with_tf32() if self.tf32 else net

    def _load(self, device: str, progress: bool) -> Classifier:
        own = (self.weights, self.weights_key, self.output)
        rest = (self.mean, self.std, device, progress)
        first, *others = self._shapes()
        try:
            return _loaded(self.network, *own, first, *rest)
        except ShapeError:
            for shape in others:
                with suppress(ShapeError):
                    return _loaded(self.network, *own, shape, *rest)
            raise

    def _shapes(self) -> list[tuple[int, int, int] | None]:
        """Shapes of an image that the network may take, the likeliest first; None: its own."""
        stated = states_shape(self.network)
        if stated and not (self.size or self.grey):
            return [None]
        if len(self.size or (1,)) > 2:
            raise InputError(f"--size {self.size}: expected a side, or height and width.")
        size = (self.size[0], self.size[-1]) if self.size else None
        found = load_images(self.dataset, split="all", limit=1, size=size, grey=self.grey)
        files = isinstance(found.source[0], FolderReader)
        if (self.size or self.grey) and not files:
            raise InputError(
                f"--size, --grey: images {self.dataset!r} are arrays of {found.shape} (channels, "
                "height, width), which are taken as they are. Leave the flags away, or give image "
                "files."
            )
        if stated and self.grey:
            raise InputError(
                f"--grey: network {self.network!r} states the channels that it takes, and gets "
                "image files so. Leave it away."
            )
        if stated:
            channels = ZOO[self.network].input_shape[0] if self.network in ZOO else 3
            return [(channels, *found.shape[1:])]
        grey = [(1, *found.shape[1:])] if files and not self.grey else []
        return [found.shape, *grey]


@functools.lru_cache(maxsize=8)
def _loaded(
    name: str,
    weights: Path | None,
    weights_key: str | None,
    output: str | None,
    shape: tuple[int, int, int] | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    device: str,
    progress: bool,
) -> Classifier:
    """One network for all analyses of a process: loading verifies checksums, which takes time."""
    with distributed.main_first():
        return load_network(
            name,
            weights=weights,
            weights_key=weights_key,
            output=output,
            input_shape=shape,
            mean=mean,
            std=std,
            device=_chosen(device),
            progress=progress,
        )


def _chosen(device: str) -> str:
    """A GPU where there is one, if the choice is left to us."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where results go, and how they are computed; nothing here changes a number."""

    results: Path = Path("results")
    """Folder of the result files; each network has its own below it."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; auto takes a GPU where there is one. Of several processes under
    torchrun each takes the GPU of its local rank."""
    batch_size: int | None = None
    """Images per pass; default: from memory. It does not change results beyond rounding."""
    memory: int | None = None
    """Bytes for what exact Hessian products keep for reuse; default: from the machine."""
    overwrite: bool = False
    """Compute anew what is named, and replace results of other settings."""
    refresh: bool = False
    """Compute anew what is stale: its network, images or inputs have changed since."""
    progress: Annotated[bool, tyro.conf.Suppress] = True
    """Show progress bars; in a log file a line a minute."""

    def __post_init__(self) -> None:
        if self.device.startswith("cuda:") and distributed.processes_here() > 1:
            raise InputError(
                f"device={self.device!r} (--device): that one GPU would be for all "
                f"{distributed.processes_here()} processes. Give cuda, of which each process of "
                "torchrun takes the GPU of its own number, and name in CUDA_VISIBLE_DEVICES those "
                "that may be used."
            )

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen of the manner of computing, on which the last digits may depend."""
        now = {name: getattr(self, name) for name in ("device", "batch_size", "memory")}
        return {name: value for name, value in now.items() if value != getattr(Place(), name)}


def sampled(images: ImageSet, sample: Sample, settings: Any, seed: int) -> ImageSet | None:
    """The images of a split that an experiment uses under its settings."""
    if sample.classes is not None:
        images = of_classes(images, getattr(settings, sample.classes))
    if sample.count is None:
        return images
    count = getattr(settings, sample.count)
    if count == 0 and sample.optional:
        return None
    every = count is None or count >= len(images)
    if every and sample.classes is None:
        return images
    # Images of some classes are mixed even where all are taken.
    return images.sample(len(images) if every else count, seed)


def of_classes(images: ImageSet, classes: tuple[int, ...]) -> ImageSet:
    """The images of some classes, in order; raises `InputError` if one of them has none."""
    if len(set(classes)) < len(classes):
        raise InputError(f"classes {classes} must be different: name each once.")
    for c in classes:
        images.of_class(c)  # says so where there are none
    return images[np.isin(images.labels.numpy(), classes)]


def check_common_class(train: ImageSet, test: ImageSet, experiment: str) -> None:
    """Raises `LackingError` where no pair of classes can be chosen: the splits share none."""
    if train.has_labels and test.has_labels and not np.isin(train.labels, test.labels).any():
        raise LackingError(
            f"{experiment} takes images of the same classes from both splits, and {train.name!r} "
            f"and {test.name!r} share no class: give a data set with several images of a class."
        )


def folder_name(network: str) -> str:
    """The name of the folder of a network's results."""
    allowed = "".join(c if c.isalnum() or c in "-._" else "-" for c in network)
    return allowed.lstrip(".") or "network"


def loaded_name(network: str) -> str:
    """The name that a network has once it is loaded as `--network` says."""
    origin, colon, name = network.partition(":")
    if not colon or origin == "hf":
        return Path(name or origin).name
    return name if origin in ("torchvision", "timm") else f"{origin}.{name}"


@dataclass
class Study:
    """One network on its images: what experiments are run on.

    Attributes:
        net: the network.
        split: gives all images of a split.
        place: where results go and how.
        dataset: name of the images, for networks beside.
        beside: loads a network of the zoo, to be compared with.
        flags: of the command line that chooses network and images; None: from Python.
        seed: of every random choice, where given.
        given: experiment -> the settings that the user gave, nested as its dataclass.
        say: where a line about the progress goes.
    """

    net: Classifier
    split: Callable[[Split], ImageSet]
    place: Place
    dataset: str
    beside: Callable[[str], Classifier]
    flags: Mapping[str, Any] | None = None
    seed: int | None = None
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    say: Callable[[str], None] = print
    _common: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.seed = None if self.seed is None else int(self.seed)
        # Taken anew: since an earlier study its module may have been made to compute otherwise.
        vars(self.net).pop("behaviour", None)

    @property
    def folder(self) -> Path:
        """The folder of this network's results."""
        return self.place.results / folder_name(str(self.net.name))

    def path(self, experiment: str) -> Path:
        """The result file of an experiment."""
        return self.folder / f"{experiment}.h5"

    def all_beside(self, kind: str = "") -> tuple[Classifier, ...]:
        """All other networks of the zoo for the same data that are at hand or trained here.

        kind: a part of their names.
        """
        nets = []
        for name, spec in ZOO.items():
            if kind in name and name != self.net.name and spec.dataset == self.dataset:
                if spec.weights and find_pretrained(spec.weights) is None:
                    self.say(f"without {name}: its weights are not at hand; --networks fetches it")
                    continue
                try:
                    nets.append(self.beside(name))
                except InputError as error:
                    self.say(f"without {name}: {error}")
        return tuple(nets)

    def common(self, train: ImageSet, test: ImageSet) -> int:
        """How many test images are train images, too; each pair is compared once."""
        pair = train.sha256, test.sha256
        if pair not in self._common:
            self._common[pair] = overlap(train, test)
        return self._common[pair]

    @property
    def published(self) -> bool:
        """Whether both splits are those of a data set by name, as its publishers divided it."""
        return self.dataset in list_images() and not (self.flags or {}).get("test_images")


def _check_manner(place: Place, seed: int | None) -> None:
    """Raises an `InputError` for a device that is not there, or numbers out of bounds."""
    if place.device != "auto":
        usable_device(place.device)
    check_whole("seed", seed, 0)
    check_whole("batch_size", place.batch_size, 1, MOST)
    check_whole("memory", place.memory, 1)


def study(
    subject: Subject,
    place: Place,
    seed: int | None = None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
) -> Study:
    """The study of a network and images that are named."""
    _check_manner(place, seed)
    defaults = Subject()
    flags = {n: v for n, v in vars(subject).items() if v != getattr(defaults, n) or n == "network"}
    net = subject.load(place.device, place.progress)
    return Study(
        net,
        _split_loader(subject, net),
        place,
        subject.dataset,
        _loader_beside(net, place),
        flags,
        seed,
        given or {},
    )


def study_of(
    net: Classifier | str,
    images: ImageSet | str | os.PathLike[str] | Mapping[str, ImageSet] | None,
    place: Place,
    seed: int | None = None,
    given: Mapping[str, Mapping[str, Any]] | None = None,
) -> Study:
    """The study of objects: what `ga.run` works on."""
    _check_manner(place, seed)
    if not isinstance(net, str | Classifier):
        raise InputError(
            f"net: found a {type(net).__name__}, expected a Classifier or a name. Wrap a module: "
            "geomadv.Classifier(module, input_shape=(C, H, W), mean=..., std=..., name=...)."
        )
    name = net if isinstance(net, str) else net.name
    if isinstance(images, os.PathLike):
        images = os.fspath(images)
    if images is None or isinstance(images, str):
        subject = Subject(network=name, images=images)
        if isinstance(net, str):
            return study(subject, place, seed, given)
        split, dataset = _split_loader(subject, net), subject.dataset
        loaded = net
    else:
        loaded = (
            load_network(net, device=_chosen(place.device), progress=place.progress)
            if isinstance(net, str)
            else net
        )
        split, dataset = _splits(images, loaded), ""

    return Study(
        loaded, split, place, dataset, _loader_beside(loaded, place), None, seed, given or {}
    )


def _loader_beside(net: Classifier, place: Place) -> Callable[[str], Classifier]:
    """Loads a network for the images of the first one, on its device and in its precision."""

    def load(name: str) -> Classifier:
        own = None if states_shape(name) else net.input_shape
        rest = (own, None, None, str(net.device), place.progress)
        found = _loaded(name, None, None, None, *rest)
        return found.with_tf32() if net.tf32 else found

    return load


def _split_loader(subject: Subject, net: Classifier) -> Callable[[Split], ImageSet]:
    """Images as the network takes them, with its class numbers."""

    def load(split: Split) -> ImageSet:
        beside = subject.test_images if split == "test" else None
        name = beside or subject.dataset
        whole = subject.test_images is not None and not has_splits(name)
        images = load_images(name, split="all" if whole else split, size=net.framing)
        if subject.by_number:
            return images
        if beside and (train := loaded("train")).has_labels:
            return numbered(images, train.class_names, f"image set {train.name!r}")
        return _as_network(images, net)

    loaded = functools.cache(load)
    return loaded


def _as_network(images: ImageSet, net: Classifier) -> ImageSet:
    return numbered(images, net.class_names, f"network {net.name!r}")


def _splits(
    images: ImageSet | Mapping[str, ImageSet], net: Classifier
) -> Callable[[Split], ImageSet]:
    """The splits given; a single set is divided once, the same for every experiment."""
    for part in images.values() if isinstance(images, Mapping) else [images]:
        if not isinstance(part, ImageSet):
            raise InputError(
                f"images: found a {type(part).__name__}, expected an ImageSet, a name, or "
                "{'train': ..., 'test': ...}. Wrap arrays: "
                "geomadv.ImageSet(pixels, labels, name=...), pixels (N, C, H, W)."
            )
    splits = images if isinstance(images, Mapping) else divided(images)
    if set(splits) != {"train", "test"}:
        raise InputError(
            f"images: found the splits {sorted(splits)}, expected 'train' and 'test': give "
            "{'train': ..., 'test': ...}, or one ImageSet, which is divided in two."
        )
    return functools.cache(lambda which: _as_network(splits[which].afresh(), net))
