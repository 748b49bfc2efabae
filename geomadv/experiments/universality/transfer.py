"""Whether the universal perturbation of one network fools another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from geomadv.classifier import Classifier
from geomadv.errors import InputError, LackingError, check_counts
from geomadv.experiments.universality.universal import random_perturbations
from geomadv.labels import Schema, described
from geomadv.perturbations.balls import ball_norm, check_ball
from geomadv.perturbations.fooling import check_perturbation, clean_labels, is_fooled, labels_under
from geomadv.progress import tqdm

_MADE, _NETWORK = ("made_for",), ("network",)

SCHEMA: Schema = {
    "made_for": (_MADE, "network the perturbation was made for", "1"),
    "network": (_NETWORK, "network that is to be fooled", "1"),
    "fooling_rate": ((*_MADE, *_NETWORK), "fooling rate on held-out images", "1"),
    "random_fooling_rate": ((*_NETWORK, "draw"), "fooling rate of random perturbations", "1"),
    "norm": (_MADE, "p-norm of the perturbation", "image units"),
    "label": ((*_MADE, *_NETWORK, "sample"), "class under the perturbation", "1"),
    "prediction": ((*_NETWORK, "sample"), "class predicted at the clean image", "1"),
}


def transfer(
    nets: Sequence[Classifier],
    perturbations: Sequence[Any],
    held_out: Any,
    p: float = 2,
    draws: int = 10,
    seed: int = 0,
    *,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fooling rates of every network's perturbation on every network.

    "Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017), table 2. A fooled
    image is one whose label changes by the same network's own judgement.

    Args:
        nets: at least two networks for the same images and the same classes.
        perturbations: one (C, H, W) for each network, made for it.
        held_out: images (N, C, H, W) that took no part in making them.
        p: order of the norm, 2 or math.inf, for `norm` and the random perturbations.
        draws: random perturbations, of the largest norm among the perturbations.
        seed: of the random perturbations.
        batch_size: images per pass; default from memory, for each network.
        progress: show a progress bar.

    Returns:
        Dataset over made_for, network, draw and sample: `fooling_rate` (made_for, network);
        `random_fooling_rate` (network, draw); `norm` (made_for); `label`
        (made_for, network, sample), -1 where scores are not finite (not fooled), and `prediction`
        (network, sample).

    Raises:
        InputError: fewer than two networks, networks with different classes, shapes or bounds, or
            of the same name, perturbations of another number or shape.
    """
    _check(nets, perturbations, draws)
    # The radius here is a place holder: only the order p is the caller's.
    check_ball(1.0, p)
    deltas = [
        check_perturbation(net, delta, f"the perturbation for {net.name!r}")
        for net, delta in zip(nets, perturbations, strict=True)
    ]
    norms = [ball_norm(delta, p) for delta in deltas]
    if min(norms) == 0:
        raise InputError(
            f"perturbations: the one for {nets[int(np.argmin(norms))].name!r} is zero, so that "
            "nothing transfers: DeepFool moved none of its images. Give more images, a larger "
            "radius, or a network that predicts more than one class."
        )
    noise = random_perturbations(nets[0], draws, max(norms), p, seed)
    prediction, label, random = [], [], []
    total = len(nets) * (len(nets) + draws)
    with tqdm(total=total, desc="transfer", unit="perturbation", disable=not progress) as bar:
        for net in nets:
            x = net.check_images(held_out)
            size = net.batch_size(batch_size)
            clean = clean_labels(net, x, size)
            under = []
            for v in [*deltas, *noise]:
                under.append(labels_under(net, x, v.to(x), size).cpu())
                bar.update()
            prediction.append(clean.cpu())
            label.append(torch.stack(under[: len(nets)]))
            fooled = is_fooled(torch.stack(under[len(nets) :]), clean.cpu())
            random.append(fooled.double().mean(1))
    labels, predictions = torch.stack(label, 1), torch.stack(prediction)
    names = [net.name for net in nets]
    values = {
        "fooling_rate": is_fooled(labels, predictions).double().mean(2),
        "random_fooling_rate": torch.stack(random),
        "norm": norms,
        "label": labels,
        "prediction": predictions,
        "made_for": names,
        "network": names,
    }
    return described(SCHEMA, values, {"p": f"{p:g}"})


def _check(nets: Sequence[Classifier], perturbations: Sequence[Any], draws: int) -> None:
    check_networks(nets)
    if len(perturbations) != len(nets):
        raise InputError(
            f"perturbations: expected one for each of the {len(nets)} networks, found "
            f"{len(perturbations)}."
        )
    check_counts(draws=draws)


def check_networks(nets: Sequence[Classifier]) -> None:
    """There are two networks at least, for the same images and classes.

    Raises:
        InputError: there are fewer, or they do not fit each other.
    """
    if len(nets) < 2:
        raise LackingError(
            f"nets: transfer needs at least two networks for the same images, found {len(nets)}. "
            "Name others (--transfer.networks), or go without it: nothing else needs it."
        )
    check_same_task(nets)


def check_same_task(nets: Sequence[Classifier]) -> None:
    """The networks take the same images and know the same classes.

    Raises:
        InputError: they do not, or two have the same name.
    """
    first = nets[0]
    for net in nets[1:]:
        for what, here, there in (
            ("images of shape", net.input_shape, first.input_shape),
            ("pixels in the bounds", net.bounds, first.bounds),
            ("classes:", net.class_names, first.class_names),
        ):
            if here != there:
                raise InputError(
                    f"network {net.name!r} has {what} {here}, but {first.name!r} has {there}. "
                    "Compare networks for the same data set."
                )
    names = [net.name for net in nets]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InputError(
            f"several networks are called {sorted(repeated)[0]!r}: give each a name of its own."
        )
