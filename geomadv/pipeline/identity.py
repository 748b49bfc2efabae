"""What makes a result the same result, formed in one place for every experiment.

Equal identities give equal numbers: the experiment and its version, its settings, the seed, the
network (weights, precision, and what it computes), the images of every role by content, the names
of the classes, the identities of the results it starts from, recursively, and the layout of the
file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geomadv.classifier import Classifier
from geomadv.images import ImageSet
from geomadv.pipeline.experiment import Experiment
from geomadv.results.identity import BEHAVIOUR, Identity, digest, plain


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
        "schema": layout(experiment),
        "settings": plain(settings),
        "seed": seed,
        "network": _network(first),
        "networks": {net.name: _network(net) for net in beside},
        "images": {role: "" if part is None else part.sha256 for role, part in images.items()},
        "class_names": {
            role: digest({"names": part.class_names})
            for role, part in {**images, "network": first}.items()
            if part is not None
        },
        "inputs": dict(inputs),
    }


def layout(experiment: Experiment) -> dict[str, Any]:
    """Variables of an experiment's result with their dimensions and units, in JSON terms."""
    return {name: [[*dims], units] for name, (dims, _, units) in experiment.schema.items()}


def _network(net: Classifier) -> dict[str, Any]:
    dtype = str(net.dtype).removeprefix("torch.") + " (TF32)" * net.tf32
    return {"weights": net.weights_sha256, "dtype": dtype, BEHAVIOUR: list(net.behaviour)}
