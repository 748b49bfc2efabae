"""What a result file says about how it came about, and the command that makes it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomadv import results
from geomadv.classifier import Classifier
from geomadv.images import ImageSet
from geomadv.images.splits import SPLITS
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.settings import differing, flat
from geomadv.pipeline.study import Study
from geomadv.results.identity import Identity, plain


@dataclass(frozen=True)
class Asked:
    """How an experiment is asked for.

    Attributes:
        raw: settings as the user sees them, None where the network decides.
        settings: the same with what depends on the network filled in.
        seed: of every random choice.
    """

    raw: Any
    settings: Any
    seed: int

    @property
    def config(self) -> dict[str, Any]:
        """Settings and seed in JSON terms, as the result file keeps them."""
        return {**plain(self.raw), "seed": self.seed}


def provenance(
    study: Study,
    experiment: Experiment,
    asked: Asked,
    images: Mapping[str, ImageSet | None],
    identity: Identity,
    before: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Root attributes of a result file.

    Args:
        study: network, images, folder.
        experiment: what was computed.
        asked: its settings and seed.
        images: role -> images.
        identity: of the result.
        before: attributes of the results it starts from.
    """
    net = study.net
    dataset, dataset_sha256 = _measured_on(study, experiment, images, before)
    named = {
        role: f"{part.name} ({part.note})" if part.note else part.name
        for role, part in images.items()
        if part is not None
    }
    return results.provenance(
        identity,
        command=_lines([*(str(b["command"]) for b in before), command(study, experiment, asked)]),
        config=asked.config,
        network=net.name,
        network_told=f"{network_words(net)}. {net.note}".removesuffix(". "),
        weights_sha256=net.weights_sha256,
        images=named,
        inputs=identity["inputs"],
        dataset=dataset,
        dataset_sha256=dataset_sha256,
        device=str(net.device),
        dtype=str(net.dtype).removeprefix("torch."),
    )


def _measured_on(
    study: Study,
    experiment: Experiment,
    images: Mapping[str, ImageSet | None],
    before: Sequence[Mapping[str, Any]],
) -> tuple[str, str]:
    """Name and checksum of the images that the numbers are measured on.

    Where an experiment takes none itself, they are those of the first result that it starts from.
    """
    role, own = experiment.measured_on, {k: part for k, part in images.items() if part is not None}
    if part := own.get(role or "", next(iter(own.values()), None)):
        return part.name, part.sha256
    for first in before[:1]:
        told = json.loads(first["images"]).get(role)
        if told is None:
            return first["dataset"], first["dataset_sha256"]
        # Behind the name stands in brackets what was done to the images.
        names = [name for name in (study.split(s).name for s in SPLITS) if told.startswith(name)]
        return max(names, key=len, default=told), json.loads(first["identity"])["images"][role]
    return "", ""


def network_words(net: Classifier) -> str:
    """Size, input, classes, kind and place of a network."""
    size = sum(p.numel() for p in net.module.parameters())
    kind = "piecewise linear" if net.is_piecewise_linear else "smooth, or with kinks beside curves"
    shape = " x ".join(map(str, net.input_shape))
    return (
        f"{size:,} parameters, input {shape} in [{net.bounds[0]:g}, {net.bounds[1]:g}], "
        f"{net.num_classes} classes, {kind}, {str(net.dtype).removeprefix('torch.')} on "
        f"{net.device}"
    )


def _lines(commands: Iterable[str]) -> str:
    """All commands in order, each once: those of earlier results come again from several sides."""
    return "\n".join(dict.fromkeys(line for words in commands for line in words.splitlines()))


def command(study: Study, experiment: Experiment, asked: Asked) -> str:
    """What makes this one result again: a command line, or a call where objects were given."""
    changed = differing(asked.raw, experiment.settings())
    if study.flags is None:
        given = {**study.place.chosen, "seed": asked.seed, **changed}
        words = "".join(f", {name}={value!r}" for name, value in given.items())
        return f"ga.run({experiment.name!r}, net, images{words})"
    flags = flag_words({**study.flags, **study.place.chosen, "seed": asked.seed})
    own = words_of(experiment.name, changed)
    return shlex.join(["geomadv", "run", experiment.name, *flags, *own])


def words_of(experiment: str, changed: Mapping[str, Any]) -> list[str]:
    """The flags of an experiment's settings as words of a command line."""
    return flag_words(flat(changed, f"{experiment}."))


def flag_words(flags: Mapping[str, Any]) -> list[str]:
    """Flags with their values as words of a command line; nested names have dots between them."""
    words: list[str] = []
    for name, value in flags.items():
        path, dot, last = name.replace("_", "-").rpartition(".")
        if isinstance(value, bool):
            words.append(f"--{path}{dot}{'' if value else 'no-'}{last}")
        else:
            several = value if isinstance(value, list | tuple) else [value]
            words += [f"--{name}".replace("_", "-"), *map(str, several)]
    return words
