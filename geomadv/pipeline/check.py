"""What a run would work on, before it runs: network, images, accuracy, settings, effort."""

from __future__ import annotations

import math
from collections.abc import Sequence

from geomadv.classifier import Classifier
from geomadv.errors import InputError
from geomadv.images import ImageSet
from geomadv.images.splits import SPLITS
from geomadv.networks import accuracy
from geomadv.pipeline.plan import Planner, pace_line, words
from geomadv.pipeline.provenance import network_words
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Study
from geomadv.results.identity import plain

# Images of each split that the accuracy is taken on: 95 % intervals of some 6 % at most.
_LOOKED_AT = 250


def network_lines(net: Classifier) -> str:
    """The network, and what was adapted of it."""
    line = f"network   {net.name}: {network_words(net)}"
    return line + (f"\n          {net.note}" if net.note else "")


def split_lines(study: Study) -> list[str]:
    """A line per split: how many images of which size, their classes, and the accuracy on them."""
    lines = []
    for split in SPLITS:
        images = study.split(split)
        shape = " x ".join(map(str, images.shape))
        line = f"{split:9} {images.name}: {len(images):,} images {shape}"
        lines.append(line + _labels(study.net, images))
        if images.note:
            lines.append(f"          {images.note}")
    return lines


def _labels(net: Classifier, images: ImageSet) -> str:
    """Classes of the images, and how often the network is right, with a warning near chance."""
    if not images.has_labels:
        return ", no labels: experiments that need them refuse"
    known = len(set(images.labels.tolist()))
    some = images.sample(min(_LOOKED_AT, len(images)))
    try:
        share = accuracy(net, some)
    except InputError as error:
        return f", {known} classes. NOT USABLE: {error}"
    words = f", {known} classes, accuracy {100 * share:.1f} % of {len(some)}"
    # Three standard errors above guessing: what a network that knows nothing hardly reaches.
    chance = 1 / net.num_classes
    if share > chance + 3 * math.sqrt(chance * (1 - chance) / len(some)):
        return words
    return (
        f"{words}. NEAR CHANCE ({100 * chance:.1f} %): check mean and std, the size of the images, "
        "and whether their classes are numbered as the network's."
    )


def card(study: Study) -> str:
    """The first lines of every run: network and images."""
    return "\n".join([network_lines(study.net), *split_lines(study)])


def checked(runner: Runner, names: Sequence[str]) -> str:
    """One screen on what a run of these experiments would work on; nothing runs.

    Raises:
        InputError: settings that cannot be used, or that differ from those of existing results.
    """
    study, planner = runner.study, Planner(runner)
    effort = f"effort    {pace_line(planner.pace(study.net))}"
    lines = [card(study), f"results   {study.folder}", effort]
    runner.check(*names)
    found = planner.estimates(names)
    for name in names:
        asked = runner.asked(name)
        shown = ", ".join(f"{k} {v}" for k, v in plain(asked.settings).items())
        lines.append(f"{name} ({runner.status(name).state}): seed {asked.seed}, {shown}")
        count = sum(runner.case(name).count.values())
        passes, time, memory, disk = words(found[name])
        costs = f"{passes} passes in gradients, {time}, {memory} of memory, {disk} on disk"
        lines.append(f"          {count:,} images, {costs}")
    return "\n".join(lines)
