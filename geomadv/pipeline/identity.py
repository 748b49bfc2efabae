"""What makes a result the same result, formed in one place for every experiment.

Equal identities give equal numbers: the experiment and its version, its settings, the seed, the
network (weights, and what it computes), the images of every role by content, the identities of the
results it starts from, recursively, and the layout of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from geomadv.classifier import Classifier
from geomadv.images import ImageSet
from geomadv.pipeline.experiment import Experiment
from geomadv.results.identity import plain

Identity = dict[str, Any]

# What a difference is called in messages, by the first words of its place.
_WORDS = {
    "experiment": "the experiment",
    "version": "what the experiment computes",
    "schema": "the layout of the result",
    "settings": "the settings",
    "seed": "the seed",
    "network": "the network",
    "networks": "the networks beside it",
    "images": "the images",
    "inputs": "the results it starts from",
}


def identity(
    experiment: Experiment,
    settings: Any,
    seed: int,
    networks: tuple[Classifier, ...],
    images: Mapping[str, ImageSet | None],
    inputs: Mapping[str, str],
) -> Identity:
    """The identity of a result, in JSON terms.

    Args:
        experiment: what is computed.
        settings: complete, with what depends on the network filled in.
        seed: of every random choice.
        networks: the network first, then those beside it.
        images: role -> images.
        inputs: name of an earlier result -> its `digest`.
    """
    first, *beside = networks
    return {
        "experiment": experiment.name,
        "version": experiment.version,
        "schema": {name: [[*dims], units] for name, (dims, _, units) in experiment.schema.items()},
        "settings": plain(settings),
        "seed": seed,
        "network": _network(first),
        "networks": {net.name: _network(net) for net in beside},
        "images": {role: "" if part is None else part.sha256 for role, part in images.items()},
        "inputs": dict(inputs),
    }


def _network(net: Classifier) -> dict[str, Any]:
    return {"weights": net.weights_sha256, "behaviour": list(net.behaviour)}


def digest(identity: Mapping[str, Any]) -> str:
    """Checksum of an identity, which stands for it in the identities of what starts from it.

    The behaviour of networks has rounding and is left out: each result compares it by itself.
    """
    exact = _without_behaviour(identity)
    return hashlib.sha256(json.dumps(exact, sort_keys=True).encode()).hexdigest()


def _without_behaviour(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_behaviour(v) for k, v in value.items() if k != "behaviour"}
    return value


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, in words that a user knows; empty if nothing does."""
    found = []
    for place, words in _WORDS.items():
        before, after = old.get(place), new.get(place)
        if not same(before, after):
            found.append(words + _which(before, after))
    return found


def _which(before: Any, after: Any) -> str:
    """The names under which two mappings differ, in brackets."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return "" if isinstance(after, str | None) else f" ({before} -> {after})"
    names = [k for k in {**before, **after} if not same(before.get(k), after.get(k))]
    return f" ({', '.join(names)})"


def same(before: Any, after: Any) -> bool:
    """Whether two parts of identities agree; of the behaviour of networks up to rounding."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        keys = {*before, *after}
        return all(
            _alike(before.get(k), after.get(k))
            if k == "behaviour"
            else same(before.get(k), after.get(k))
            for k in keys
        )
    return bool(before == after)


def _alike(before: Any, after: Any) -> bool:
    """Whether a network's scores on its probe images repeat, on whatever machine.

    Another batch size or processor changes scores by some 1e-6 of their range, another function
    by a good part of it.
    """
    if not (isinstance(before, list) and isinstance(after, list) and len(before) == len(after)):
        return False
    old, new = np.array(before, dtype=float), np.array(after, dtype=float)
    return bool(np.all(np.abs(old - new) <= 1e-4 * np.abs(old).max(initial=0.0)))
