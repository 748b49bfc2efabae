"""Adversarial directions of the last layer: null space, regions, boundaries, collisions."""

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

import geomadv as ga
from geomadv.classifier import Classifier
from geomadv.experiments import CollisionSettings
from geomadv.labels import percent
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.settings import Count
from geomadv.pipeline.work import FORWARD, GRADIENT, Case, Walk, Work

# Operations of the linear programmes of a class region, in a plan, by its rows and their rank.
_PROGRAMMES = 40.0


@dataclass(frozen=True, kw_only=True)
class SoftmaxDirections:
    """Adversarial directions of the last layer: null space, regions, boundaries, collisions."""

    count: Count = 300
    """Test images; all if there are fewer."""
    collisions: CollisionSettings = field(default_factory=CollisionSettings)
    """Search for images with the features of another class's image."""
    layer: str | None = None
    """Module whose input is taken for the features; default: the last product with weights."""
    angle_sample: int = 2_000_000
    """Pairs of boundaries above which the histogram of angles is that of a random sample."""


def softmax_directions(run: Run, s: SoftmaxDirections, images: ga.ImageSet) -> xr.Dataset:
    """What the last layer does not see, and whether images can hide there."""
    return ga.experiments.softmax_directions(
        run.net,
        images,
        s.collisions,
        angle_sample=s.angle_sample,
        seed=run.seed,
        layer=s.layer,
        keep=run.keep,
        **run.pace,
    )


def work(case: Case) -> Work:
    """Features and walks of all images, descents of all pairs, and the geometry of the classes."""
    s, n, classes = case.settings, case.count["images"], case.net.num_classes
    c, features = s.collisions, _features(case.net)
    descents = len(c.relative_epsilons) * c.steps * c.pairs
    rank = min(classes, features)
    return Work(
        {FORWARD: 3 * n + len(c.relative_epsilons) * c.pairs, Walk(): n, GRADIENT: descents},
        flops=_PROGRAMMES * classes * float(classes * rank * rank) + 20.0 * classes**2 * features,
        memory=8 * n * case.image_bytes + 64 * classes**2,
        sizes={"feature": features, "adversarial": features - rank + 1, "component": rank}
        | {"displacement": 6, "sample": n, "relation": 3, "member": 4, "angle_bin": 180}
        | {"epsilon": len(c.relative_epsilons), "pair": c.pairs, "example": c.examples},
        types={"collision": 1},
    )


def _features(net: Classifier) -> int:
    """Width of the last layer: of the last weights that give the classes."""
    weights = [p.shape for p in net.module.parameters() if p.ndim > 1]
    return next((s[1] for s in reversed(weights) if s[0] == net.num_classes), net.num_classes)


def tell(ds: xr.Dataset) -> str:
    """The five findings, a line each."""
    lines = [
        f"adversarial directions: {int(ds['adversarial_dimension'])} of {ds.sizes['feature']} "
        f"(rank {int(ds['rank'])}; published bound {int(ds['published_bound'])})"
    ]
    if ds.sizes["adversarial"] > 0:
        lines.append(
            f"largest change of the softmax, features moved by {float(ds['displacement'][-1]):.0e} "
            f"norms: {float(ds['softmax_change'][-1].max()):.1e}"
        )
    cosine = float(ds["parallel_cosine"].max())
    hidden = 100 * float(ds["hidden_share"].where(ds["perturbation_converged"]).mean())
    noise = 100 * float(ds["noise_hidden_share"].where(ds["perturbation_converged"]).mean())
    rates = ", ".join(
        f"{percent(float(e / ds['mean_image_norm']))} %: {100 * float(rate):.0f} %"
        for e, rate in zip(ds["epsilon"], ds["collision"].mean("pair"), strict=True)
    )
    return "\n".join(
        [
            *lines,
            f"unbounded regions: {int(ds['region_unbounded'].sum())} of {ds.sizes['class']}, "
            f"within the visible directions {int(ds['region_unbounded_visible'].sum())}",
            f"most parallel boundaries: |cos| {cosine:.3f}, {np.degrees(np.arccos(cosine)):.1f}°",
            f"energy of the feature change hidden: DeepFool {hidden:.0f} %, noise {noise:.0f} %",
            f"collisions by radius (of the mean image norm): {rates}",
        ]
    )


SOFTMAX = (
    Experiment(
        name="softmax_directions",
        divided="questions",
        settings=SoftmaxDirections,
        compute=softmax_directions,
        images={"images": Sample("test", "count")},
        work=work,
        quick={"count": 30, "collisions": {"pairs": 5, "steps": 10}},
        quick_large={"count": 10, "collisions": {"pairs": 2}},
        tell=tell,
        figures={
            "softmax_null_space": Drawing(
                ga.plotting.softmax_null_space,
                "Left: directions of the last layer's features that it cannot see at all "
                "(shaded). Middle: how little the softmax changes along them, against "
                "rounding. Right: the share of a perturbation's feature change that lies "
                "there, beside noise of equal norm and its share of the dimensions "
                "(dotted).",
            ),
            "softmax_boundary_angles": Drawing(
                ga.plotting.softmax_boundary_angles,
                "Angles between all pairs of the last layer's class boundaries. Dashed: the "
                "most parallel pair; none near 0° means that no two classes compete for the "
                "same direction.",
            ),
            "feature_collisions": Drawing(
                ga.plotting.feature_collisions,
                "How far an image must be changed until the last layer's features are those "
                "of another image, up to directions that the layer cannot see: share of "
                "random pairs against the radius, with examples. Dotted: the radius at "
                "which DeepFool already changes the label.",
            ),
        },
    ),
)
