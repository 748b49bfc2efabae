"""The network and images of a run in a few lines: sizes, accuracy, and networks beside."""

from __future__ import annotations

import math
from collections.abc import Iterable

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.images.splits import SPLITS
from geomadv.networks import accuracy
from geomadv.pipeline.computing import Say
from geomadv.pipeline.provenance import network_words
from geomadv.pipeline.study import Study

# Images of each split that the accuracy is taken on: 95 % intervals of some 6 % at most.
_LOOKED_AT = 250


def network_lines(net: Classifier) -> str:
    """The network, and what was adapted of it."""
    return _with_note(f"network   {net.name}: {network_words(net)}", net.note)


def _with_note(line: str, note: str) -> str:
    return f"{line}\n          {note}" if note else line


def split_lines(study: Study) -> list[str]:
    """A line per split: how many images of which size, their classes, and the accuracy on them."""
    lines = []
    for split in SPLITS:
        images = study.split(split)
        shape = " x ".join(map(str, images.shape))
        line = f"{split:9} {images.name}: {len(images):,} images {shape}"
        lines.append(_with_note(line + _labels(study.net, images)[0], images.note))
    return lines


def _labels(net: Classifier, images: ImageSet) -> tuple[str, bool]:
    """Classes of the images and how often the network is right; whether it does not know them.

    A warning stands near chance. Few images leave it open whether the network knows them.
    """
    if not images.has_labels:
        return ", no labels: experiments that need them refuse", False
    known = len(set(images.labels.tolist()))
    some = images.sample(min(_LOOKED_AT, len(images)))
    try:
        share = accuracy(net, some)
    except InputError as error:
        return f", {known} classes. NOT USABLE: {error}", True
    words = f", {known} classes, accuracy {100 * share:.1f} % of {len(some)}"
    chance, halfway = 1 / net.num_classes, (1 + 1 / net.num_classes) / 2
    if share == 1 or share > chance + _three_errors(chance, len(some)):
        return words, False
    told = (
        f"{words}. NEAR CHANCE ({100 * chance:.1f} %): check mean and std, the size of the images, "
        "and whether their classes are numbered as the network's."
    )
    return told, share + _three_errors(share, len(some)) < halfway


def _three_errors(share: float, images: int) -> float:
    """Three standard errors of a share; above guessing a network that knows nothing hardly gets."""
    return 3 * math.sqrt(share * (1 - share) / images)


def card(study: Study) -> str:
    """The first lines of every run: network and images."""
    return "\n".join([network_lines(study.net), *split_lines(study)])


def check_beside(study: Study, networks: Iterable[Classifier], say: Say) -> None:
    """Says how often networks beside the first are right.

    Raises:
        InputError: that of one is near chance: it does not know the images, or cannot take them.
    """
    for net in networks:
        images = study.split("test")
        words, unknown = _labels(net, images)
        line = f"{net.name} on {images.name}{words}"
        if unknown:
            raise InputError(
                f"network beside {study.net.name}: {line} A network of your own gets no weights "
                "beside another: let its function load them."
            )
        say(_with_note(f"beside    {line}", net.note))
