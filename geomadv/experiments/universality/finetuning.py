"""Fine-tuning on universal perturbations, round after round."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional as F

from geomadv.classifier import Classifier
from geomadv.classifier.checks import check_known
from geomadv.errors import InputError, check_counts
from geomadv.experiments.universality.search import kept_searches
from geomadv.images import ImageSet
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.perturbations.balls import check_ball, check_units, mean_norm
from geomadv.perturbations.fooling import clean_labels, is_fooled, labels_under
from geomadv.perturbations.universal import check_search
from geomadv.progress import tqdm

# Images of a batch in training.
BATCH = 64

_MEMBER, _ROUND = ("round", "member"), ("round",)

SCHEMA: Schema = {
    "round": (_ROUND, "rounds of fine-tuning before", "1"),
    "fooling_rate": (_MEMBER, "held-out fooling rate of the round's perturbations", "1"),
    "first_fooling_rate": (_MEMBER, "held-out fooling rate of the first perturbations", "1"),
    "accuracy": (_ROUND, "accuracy at clean held-out images", "1"),
    "perturbation": (
        (*_ROUND, *IMAGE),
        "first universal perturbation of the round",
        "image units",
    ),
    "radius": ((), "radius of the ball", "image units"),
    "mean_image_norm": ((), "mean Euclidean norm of the images", "image units"),
}


def finetuning(
    net: Classifier,
    images: ImageSet,
    held_out: ImageSet,
    radius: float,
    p: float = 2,
    rounds: int = 5,
    pool: int = 3,
    seed: int = 0,
    *,
    samples: int = 500,
    epochs: int = 5,
    learning_rate: float = 5e-4,
    search: Mapping[str, Any] | None = None,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Fooling rate and accuracy over rounds of search and fine-tuning.

    "Universal adversarial perturbations" (Moosavi-Dezfooli et al., CVPR 2017), section 3.4. A
    round seeks a pool of perturbations against the network as it is, then trains it on images to
    which, with probability one half, one of the pool is added at a random share of its length.
    The authors: pools of 10, 5 epochs; 93.7 % fooled before, 76.2 % after the first round, 80 %
    after the second.

    Args:
        net: the network; it is not changed. A smoothed one is trained and measured smoothed.
        images: labelled training images, which fine-tuning uses all.
        held_out: labelled images for all rates.
        radius: of the p-ball, image units.
        p: 2 or math.inf.
        rounds: of fine-tuning; the last one is followed by a search.
        pool: perturbations per round.
        seed: of everything random.
        samples: images each search uses, drawn from `images`; all if there are fewer.
        epochs: over `images`, per round.
        learning_rate: of Adam, in batches of 64; normalisation layers keep their statistics.
        search: settings of `universal_perturbation`: target_rate, passes, method, block and those
            of DeepFool.
        keep: what keeps finished searches and trainings; default nothing. See `Keep`.
        batch_size: images per pass of the searches; default from memory.
        progress: show a progress bar.

    Returns:
        Dataset over round (0: before any fine-tuning), member and channel, row, column:
        `fooling_rate` (round, member) of that round's new perturbations on held-out images;
        `first_fooling_rate` (round, member) of round 0's perturbations; `accuracy` (round) at the
        clean held-out images; `perturbation` (round, channel, row, column), the first member;
        `radius` and `mean_image_norm`.

    Raises:
        InputError: images without labels or with labels that the network has not, or settings
            that cannot be used.
    """
    x, unseen = net.check_images(images), net.check_images(held_out)
    labels, truth = _labels(net, "images", images), _labels(net, "held_out", held_out)
    _check(radius, p, rounds, pool, samples, epochs, learning_rate)
    check_units("radius", radius, p, net)
    size = net.batch_size(batch_size)
    settings = {**check_search(search), "p": p, "batch_size": size}
    if next(net.module.parameters(), None) is None:
        raise InputError(
            f"network {net.name!r} has no parameters: there is nothing to train. Give one "
            "with some."
        )
    sample = x[torch.from_numpy(np.random.default_rng(seed).permutation(len(x))[:samples])]
    fresh: list[Tensor] = []
    first: list[Tensor] = []
    accuracy: list[float] = []
    pools: list[Tensor] = []
    with tqdm(total=rounds + 1, desc="fine-tuning", unit="round", disable=not progress) as bar:
        for number in range(rounds + 1):
            searches = {f"round-{number}-search-{k}": {"seed": seed + k} for k in range(pool)}
            found = kept_searches(keep, net, searches, images=sample, radius=radius, **settings)
            pools.append(torch.stack([u.delta for u in found]))
            clean = clean_labels(net, unseen, size)
            accuracy.append(float((clean == truth).double().mean()))
            for rates, deltas in ((fresh, pools[-1]), (first, pools[0])):
                fooled = [is_fooled(labels_under(net, unseen, v, size), clean) for v in deltas]
                rates.append(torch.stack(fooled).double().mean(1))
            bar.update()
            if number < rounds:
                train = partial(
                    _trained, net, x, labels, pools[-1], epochs, learning_rate, seed + number
                )
                net = _with_parameters(net, keep(f"round-{number}-training", train))
    values = {
        "fooling_rate": torch.stack(fresh),
        "first_fooling_rate": torch.stack(first),
        "accuracy": accuracy,
        "perturbation": torch.stack([deltas[0] for deltas in pools]),
        "radius": float(radius),
        "mean_image_norm": mean_norm(x),
        "round": np.arange(rounds + 1),
    }
    return described(SCHEMA, values, {"p": f"{p:g}"})


def _trained(
    net: Classifier,
    x: Tensor,
    labels: Tensor,
    deltas: Tensor,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> xr.Dataset:
    """The parameters after training on images of which every other one is perturbed."""
    # `to` copies the weights; evaluation mode keeps dropout off and the statistics as they are.
    module = net.to(fast=False).module.requires_grad_()
    optimizer = torch.optim.Adam(module.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=generator).split(BATCH):
            share = torch.rand(len(index), generator=generator, dtype=torch.float64)
            share = share * (torch.rand(len(index), generator=generator) < 0.5)
            which = torch.randint(len(deltas), (len(index),), generator=generator)
            moved = x[index] + share.to(x)[:, None, None, None] * deltas[which]
            with torch.enable_grad(), net.smoothing:
                loss = F.cross_entropy(module(moved), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    values = {name: p.detach().cpu().flatten().numpy() for name, p in module.named_parameters()}
    return xr.Dataset({name: (f"entry of {name}", value) for name, value in values.items()})


def _with_parameters(net: Classifier, trained: xr.Dataset) -> Classifier:
    """The network with other parameters; all else of it stays in training, too."""
    module = net.to(fast=False).module
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.from_numpy(trained[name].to_numpy()).reshape(p.shape))
    # The module holds the normalisation: mean and std are not given again.
    tuned = Classifier(
        module, net.input_shape, bounds=net.bounds, class_names=net.class_names, name=net.name
    )
    return tuned.computed_like(net)


def _labels(net: Classifier, name: str, images: ImageSet) -> Tensor:
    if not isinstance(images, ImageSet):
        raise InputError(
            f"{name} is a {type(images).__name__}; expected an ImageSet with labels, for training "
            "and for accuracy."
        )
    labels = images.labels.to(net.device)
    check_known(net, labels, f"{name}: label")
    return labels


def _check(
    radius: float,
    p: float,
    rounds: int,
    pool: int,
    samples: int,
    epochs: int,
    learning_rate: float,
) -> None:
    check_ball(radius, p)
    check_counts(rounds=rounds, pool=pool, samples=samples, epochs=epochs)
    if not 0 < learning_rate < float("inf"):
        raise InputError(f"learning_rate={learning_rate} must be positive and finite.")
