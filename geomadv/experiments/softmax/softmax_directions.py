"""Adversarial directions of the softmax layer (Zou et al., "Geometric Universality ...")."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from geomadv.classifier import Classifier
from geomadv.errors import InputError, check_counts
from geomadv.experiments.softmax.feature_collision import (
    CollisionSettings,
    feature_collisions,
    random_pairs,
)
from geomadv.experiments.softmax.last_layer import LastLayer, last_layer
from geomadv.keep import Keep, keep_nothing
from geomadv.labels import IMAGE, Schema, described
from geomadv.last_layer import (
    AdversarialSpace,
    adversarial_space,
    boundary_angles,
    class_regions,
    most_parallel,
)
from geomadv.last_layer.boundary_angles import RELATIONS
from geomadv.last_layer.regions import TESTS
from geomadv.linalg import uniform_directions
from geomadv.perturbations import deepfool
from geomadv.perturbations.balls import mean_norm

Array = NDArray[np.float64]
Values = dict[str, Any]

# Displacements of features, as multiples of their norm.
DISPLACEMENTS = tuple(10.0**k for k in range(-3, 7))

# Layers of Gaussian weights that the most parallel boundaries are compared with.
_WEIGHT_DRAWS = 10

_CLASS, _SAMPLE, _PAIR, _BIN = ("class",), ("sample",), ("pair",), ("angle_bin",)
_DISPLACED, _FOUND, _EXAMPLE = ("displacement", "sample"), ("epsilon", "pair"), ("example", *IMAGE)
_RELATIVE = "remaining share of the pair's distance in visible features"
_UNSEEN, _LARGEST = "adversarial directions", "largest change of the softmax along"
_WEIGHTS, _UNBOUNDED = "the centred last-layer weights", "class region unbounded"
_CHANGE, _DEEPFOOL = "feature change of", "the DeepFool perturbation"

SCHEMA: Schema = {
    "class": (_CLASS, "class", "1"),
    "displacement": (("displacement",), "displacement relative to the norm of the features", "1"),
    "epsilon": (("epsilon",), "radius of the ball around the start image", "image units"),
    "singular_value": (("component",), f"singular value of {_WEIGHTS}", "score/feature unit"),
    "rank_tolerance": ((), "singular value up to which it counts as zero", "score/feature unit"),
    "rank": ((), f"rank of {_WEIGHTS}", "1"),
    "adversarial_dimension": ((), f"dimension of the {_UNSEEN}", "1"),
    "published_bound": ((), "lower bound l - m of theorem 1", "1"),
    "adversarial_direction": (
        ("adversarial", "feature"),
        f"orthonormal basis of the {_UNSEEN}",
        "1",
    ),
    "softmax_change": (_DISPLACED, f"{_LARGEST} an adversarial direction", "1"),
    "control_change": (_DISPLACED, f"{_LARGEST} a uniform direction", "1"),
    "rounding_bound": (_DISPLACED, "bound on the change that is rounding in float64", "1"),
    "feature_norm": (_SAMPLE, "Euclidean norm of the features", "feature units"),
    "prediction": (_SAMPLE, "class predicted at the clean image", "1"),
    "region_empty": (_CLASS, "class region without inner points", "1"),
    "region_unbounded": (_CLASS, _UNBOUNDED, "1"),
    "region_unbounded_visible": (_CLASS, f"{_UNBOUNDED} within the visible directions", "1"),
    "region_test": (_CLASS, "what decided the visible unboundedness", "1"),
    "parallel_cosine": (("relation",), "largest |cos| between two boundaries", "1"),
    "random_parallel_cosine": (
        ("draw", "relation"),
        "largest |cos| between two boundaries of Gaussian weights",
        "1",
    ),
    "parallel_classes": (
        ("relation", "member"),
        "classes i, j and k, l of the most parallel boundaries",
        "1",
    ),
    "coincident_boundaries": ((), "pairs of classes with the same weights, left out", "1"),
    "boundary_pairs": ((), "pairs of boundaries", "1"),
    "cosines_evaluated": ((), "cosines computed; the others are bounded", "1"),
    "angle_low": (_BIN, "lower edge of the bin", "degree"),
    "angle_high": (_BIN, "upper edge of the bin", "degree"),
    "angle_count": (("relation", "angle_bin"), "pairs of boundaries by angle", "1"),
    "angle_pairs": ((), "pairs of boundaries in the histogram", "1"),
    "angle_complete": ((), "whether the histogram is over all pairs", "1"),
    "hidden_share": (_SAMPLE, f"share of DeepFool's squared feature change in {_UNSEEN}", "1"),
    "noise_hidden_share": (_SAMPLE, f"share of the squared {_CHANGE} equally long noise", "1"),
    "feature_change": (_SAMPLE, f"norm of the {_CHANGE} {_DEEPFOOL}", "feature units"),
    "perturbation_norm": (_SAMPLE, f"Euclidean norm of {_DEEPFOOL}", "image units"),
    "perturbation_converged": (_SAMPLE, "whether DeepFool changed the label", "1"),
    "mean_image_norm": ((), "mean Euclidean norm of the images", "image units"),
    "collision": (_FOUND, "features of the goal reached up to an adversarial direction", "1"),
    "noise_collision": (_FOUND, "random image on the sphere of the radius collides", "1"),
    "collision_residual": (_FOUND, _RELATIVE, "1"),
    "collision_theta": (_FOUND, f"feature distance to the goal in {_UNSEEN}", "feature units"),
    "collision_label": (_FOUND, "class predicted at the best image", "1"),
    "collision_norm": (_FOUND, "distance of the best image to the start", "image units"),
    "collision_tolerance": ((), f"largest {_RELATIVE} that counts as a collision", "1"),
    "collision_clipped": ((), "whether images were kept inside the bounds", "1"),
    "pair_start": (_PAIR, "sample that is the start", "1"),
    "pair_goal": (_PAIR, "sample that is the goal", "1"),
    "start_image": (_EXAMPLE, "image x", "image units"),
    "goal_image": (_EXAMPLE, "image x' whose features are the goal", "image units"),
    "collision_image": (("epsilon", *_EXAMPLE), "best image x* within the radius", "image units"),
}


def softmax_directions(
    net: Classifier,
    images: Any,
    collisions: CollisionSettings | None = None,
    displacements: Sequence[float] = DISPLACEMENTS,
    angle_sample: int = 2_000_000,
    seed: int = 0,
    *,
    layer: str | None = None,
    keep: Keep = keep_nothing,
    batch_size: int | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """What the last layer of a network does not see, and what that allows.

    Zou et al., "Geometric Universality of Adversarial Examples in Deep Learning": the adversarial
    directions of the last layer W g(x) + b, exactly (theorem 1); a check that real features can be
    moved along them any distance (computed in float64); which class regions are unbounded
    (theorem 2); how parallel the boundaries are (definition 2); how often an image within epsilon
    has the features of another class's image up to an adversarial direction (the conjecture); and
    how much of the feature change of a DeepFool perturbation is invisible to the last layer.

    Args:
        net: the network; its last step must be linear in some features (`last_layer`).
        images: (N, C, H, W) tensor, array or ImageSet, of at least two predicted classes.
        collisions: how to search for collisions; default: see `CollisionSettings`.
        displacements: of the features along adversarial directions, as multiples of their norm.
        angle_sample: pairs of boundaries above which the histogram is that of a sample.
        seed: of directions, pairs and samples.
        layer: dotted name of the module whose input is taken for the features; default: the last
            product with weights.
        keep: what keeps finished searches and radii; default nothing. See `Keep`.
        batch_size: images per pass; default from memory.
        progress: show progress bars.

    Returns:
        Dataset over class, feature, component, adversarial (direction), displacement, sample,
        relation, angle_bin, epsilon, pair and example; all named in `long_name`. Where there are no
        adversarial directions, `softmax_change` is NaN and `hidden_share` zero.

    Raises:
        InputError: no final linear step, fewer than three classes, unusable images or settings.
    """
    settings = collisions or CollisionSettings()
    settings.check()
    factors = np.asarray(displacements, dtype=np.float64)
    if factors.ndim != 1 or len(factors) == 0 or not (np.isfinite(factors) & (factors > 0)).all():
        raise InputError(f"displacements={list(displacements)} must be finite and positive.")
    check_counts(angle_sample=angle_sample)
    x = net.check_images(images)
    size = net.batch_size(batch_size)
    if net.num_classes < 3:
        raise InputError(
            f"network {net.name!r} has {net.num_classes} classes and so a single boundary; angles "
            "between boundaries need at least three classes. Give a network of "
            "more, or leave this experiment out (--skip)."
        )
    head = last_layer(net, x, layer, size)
    features, prediction = head.features(x, size)
    starts, goals = random_pairs(prediction, settings.pairs, seed)
    space = adversarial_space(head.weight)
    values = {
        **_space(space, head),
        **_displaced(space, head, features, factors, seed),
        **_kept(
            keep,
            regions=partial(_regions, space, head, progress),
            parallels=partial(_parallels, head, angle_sample, seed, progress),
            perturbed=partial(_perturbed, space, head, x, features, size, seed, progress),
        ),
        **_collide(space, head, x, starts, goals, settings, size, seed, keep, progress),
        "prediction": prediction,
        "displacement": factors,
        "class": list(net.class_names),
    }
    ds = described(SCHEMA, values)
    ds["region_test"].attrs |= {
        "flag_values": list(range(len(TESTS))),
        "flag_meanings": " ".join(TESTS),
    }
    for name in ("parallel_cosine", "parallel_classes", "angle_count"):
        ds[name].attrs["relation"] = ", ".join(f"{i}: {r}" for i, r in enumerate(RELATIONS))
    return ds


def _kept(keep: Keep, **parts: Callable[[], Values]) -> Values:
    def labelled(compute: Callable[[], Values]) -> xr.Dataset:
        return described(SCHEMA, compute())

    found = keep.each({part: partial(labelled, compute) for part, compute in parts.items()})
    return {str(name): v for ds in found for name, v in ds.data_vars.items()}


def _space(space: AdversarialSpace, layer: LastLayer) -> Values:
    classes, features = layer.weight.shape
    return {
        "singular_value": space.singular_values,
        "rank_tolerance": space.tolerance,
        "rank": space.rank,
        "adversarial_dimension": features - space.rank,
        "published_bound": max(features - classes, 0),
        "adversarial_direction": space.adversarial.T,
    }


def _softmax(layer: LastLayer, features: Array) -> Array:
    scores = features @ layer.weight.T + layer.bias
    scores -= scores.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def _displaced(
    space: AdversarialSpace, layer: LastLayer, features: Array, factors: Array, seed: int
) -> Values:
    """Largest change of the softmax of every feature vector, beside a bound on its rounding."""
    n, width = features.shape
    count = space.adversarial.shape[1]
    anywhere = uniform_directions(n, width, seed=seed, dtype=torch.float64).numpy()
    unseen = np.full_like(anywhere, np.nan)
    if count > 0:
        drawn = uniform_directions(n, count, seed=seed + 1, dtype=torch.float64).numpy()
        unseen = drawn @ space.adversarial.T
    before = _softmax(layer, features)
    norms = np.linalg.norm(features, axis=1)
    change, control, bound = (np.empty((len(factors), n)) for _ in range(3))
    eps, magnitudes = np.finfo(np.float64).eps, np.abs(layer.weight)
    for i, factor in enumerate(factors):
        lengths = factor * norms
        moved = features + lengths[:, None] * unseen
        change[i] = np.abs(_softmax(layer, moved) - before).max(axis=1)
        other = features + lengths[:, None] * anywhere
        control[i] = np.abs(_softmax(layer, other) - before).max(axis=1)
        # A softmax changes by at most the change of its score differences. Each score is a sum of
        # l products (error at most l eps sum |w||h|, Higham 2002, section 3.1), on both sides; the
        # directions are exact to the tolerance of the rank.
        sums = (np.abs(moved) @ magnitudes.T + np.abs(layer.bias)).max(axis=1)
        bound[i] = 2 * (width + 4) * eps * sums + 2 * lengths * space.tolerance
    return {
        "softmax_change": change,
        "control_change": control,
        "rounding_bound": bound,
        "feature_norm": norms,
    }


def _regions(space: AdversarialSpace, layer: LastLayer, progress: bool) -> Values:
    regions = class_regions(layer.weight, layer.bias, space, progress)
    return {
        "region_empty": regions.empty,
        "region_unbounded": regions.unbounded,
        "region_unbounded_visible": regions.unbounded_visible,
        "region_test": regions.test,
    }


def _parallels(layer: LastLayer, sample: int, seed: int, progress: bool) -> Values:
    centred = layer.weight - layer.weight.mean(axis=0)
    gram = centred @ centred.T
    parallel = most_parallel(gram, progress)
    draws = np.random.default_rng(seed).standard_normal((_WEIGHT_DRAWS, *layer.weight.shape))
    random = [most_parallel(w @ w.T).cosine for w in draws]
    angles = boundary_angles(gram, sample=sample, seed=seed)
    return {
        "parallel_cosine": parallel.cosine,
        "random_parallel_cosine": random,
        "parallel_classes": parallel.classes,
        "coincident_boundaries": parallel.coincident,
        "boundary_pairs": parallel.pairs,
        "cosines_evaluated": parallel.evaluated,
        "angle_low": angles.edges[:-1],
        "angle_high": angles.edges[1:],
        "angle_count": angles.counts,
        "angle_pairs": angles.pairs,
        "angle_complete": angles.complete,
    }


def _perturbed(
    space: AdversarialSpace,
    layer: LastLayer,
    x: Tensor,
    features: Array,
    size: int,
    seed: int,
    progress: bool,
) -> Values:
    """Share of the energy of the feature change that the last layer does not see."""
    found = deepfool(layer.net, x, batch_size=size, progress=progress)
    random = uniform_directions(len(x), x[0].numel(), seed=seed + 2, dtype=torch.float64)
    noise = random.to(x) * found.norm[:, None]

    def change(delta: Tensor) -> Array:
        return layer.features(x + delta.reshape_as(x), size)[0] - features

    def hidden(difference: Array) -> Array:
        total = (difference**2).sum(axis=1)
        seen = ((difference @ space.visible) ** 2).sum(axis=1)
        share: Array = np.full_like(total, np.nan)
        np.divide(np.maximum(total - seen, 0), total, out=share, where=total > 0)
        return share

    adversarial = change(found.delta)
    return {
        "hidden_share": hidden(adversarial),
        "noise_hidden_share": hidden(change(noise)),
        "feature_change": np.linalg.norm(adversarial, axis=1),
        "perturbation_norm": found.norm.double(),
        "perturbation_converged": found.converged,
    }


def _collide(
    space: AdversarialSpace,
    layer: LastLayer,
    x: Tensor,
    starts: NDArray[np.int64],
    goals: NDArray[np.int64],
    settings: CollisionSettings,
    size: int,
    seed: int,
    keep: Keep,
    progress: bool,
) -> Values:
    typical = mean_norm(x)
    radii = [share * typical for share in settings.relative_epsilons]
    visible = torch.from_numpy(space.visible)
    first, second = (x[torch.from_numpy(i).to(x.device)] for i in (starts, goals))
    found = feature_collisions(
        layer, first, second, visible, radii, settings, size, keep, progress, seed
    )
    shown = slice(settings.examples)
    return {
        "epsilon": np.asarray(radii),
        "mean_image_norm": typical,
        "collision": found.success,
        "noise_collision": found.noise,
        "collision_residual": found.residual,
        "collision_theta": found.theta,
        "collision_label": found.label,
        "collision_norm": found.norm,
        "collision_tolerance": settings.tolerance,
        "collision_clipped": settings.clip,
        "pair_start": starts,
        "pair_goal": goals,
        "start_image": first[shown],
        "goal_image": second[shown],
        "collision_image": found.examples,
    }
