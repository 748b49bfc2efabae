"""What a result file says about how it came about, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geomadv import results
from geomadv.images import ImageSet
from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.settings import differing
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
) -> dict[str, Any]:
    """Root attributes of a result file; the first images are the data set that figures name."""
    net, first = study.net, next((part for part in images.values() if part is not None), None)
    named = {role: part.name for role, part in images.items() if part is not None}
    return results.provenance(
        identity,
        command=command(study, experiment, asked),
        config=asked.config,
        network=net.name,
        weights_sha256=net.weights_sha256,
        images=named,
        inputs=identity["inputs"],
        dataset="" if first is None else first.name,
        dataset_sha256="" if first is None else first.sha256,
        device=str(net.device),
        dtype=str(net.dtype).removeprefix("torch."),
    )


def command(study: Study, experiment: Experiment, asked: Asked) -> str:
    """What makes this one result again: a command line, or a call where objects were given."""
    changed = differing(asked.raw, experiment.settings())
    if study.flags is None:
        given = "".join(f", {name}={value!r}" for name, value in changed.items())
        return f"ga.run({experiment.name!r}, net, images, seed={asked.seed}{given})"
    words = ["geomadv", "run", experiment.name]
    for name, value in study.flags.items():
        words += [_flag(name), *_values(value)]
    words += ["--seed", str(asked.seed)]
    for name, value in _flat(changed):
        words += [_flag(f"{experiment.name}.{name}"), *_values(value)]
    return shlex.join(words)


def _flag(name: str) -> str:
    return f"--{name}".replace("_", "-")


def _values(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def _flat(changed: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Nested settings under dotted names."""
    flat: list[tuple[str, Any]] = []
    for name, value in changed.items():
        if isinstance(value, Mapping):
            flat += [(f"{name}.{inner}", v) for inner, v in _flat(value)]
        else:
            flat.append((name, value))
    return flat
