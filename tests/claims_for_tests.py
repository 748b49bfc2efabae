"""Made-up results whose answers are known.

Of every claim one that has the property, one that has not, and ones that have it only for a weaker
formula.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from geomadv import experiments

N = 240
# Fixed ranks of the images: the first p N of them are hit at a rate p, in a random order.
RANK = np.random.default_rng(0).permutation(N) / N


def hits(rates: Any) -> np.ndarray:
    """(..., N) bool, a share of the images as given (...)."""
    return np.asarray(rates)[..., None] > RANK


def curves(positive: Sequence[float], flat: float, random: float) -> xr.Dataset:
    """Symmetry of score curves, of two directions per class; flat and random ones alike."""
    rows = [positive, [flat] * 2, [random] * 2]
    noise = 0.02 * np.random.default_rng(1).standard_normal((3, 3, 2, N))
    values = np.broadcast_to(np.array(rows)[:, :, None], (3, 3, 2, N)) + noise
    dims = ("class", "family", "direction", "sample")
    return xr.Dataset({"symmetry": (dims, values)}, {"family": ["positive", "flat", "random"]})


def sweep(enter: dict[str, Any], leave: dict[str, Any], inside: float = 0.0) -> xr.Dataset:
    """Shares that enter and leave the class at the ends (below, above), by family.

    (direction, end) or (end,), the same of both directions. inside: of the scales between.
    """
    families, source = ["positive", "negative", "flat", "random"], np.arange(N) % 3
    prediction = np.empty((3, 4, 2, 5, N), int)
    for c in range(3):
        for f, family in enumerate(families):
            for share, own in ((enter[family], False), (leave[family], True)):
                ends = np.broadcast_to(share, (2, 2))
                scales = np.stack([ends[:, 0], *[np.full(2, inside)] * 3, ends[:, 1]], axis=1)
                moved = np.where(own, (c + 1) % 3, c)
                member = (source == c) == own
                chosen = np.where(hits(scales), moved, source)
                prediction[c, f][..., member] = chosen[..., member]
                prediction[c, f, :, 2] = source
    dims = ("class", "family", "direction", "scale", "sample")
    return xr.Dataset(
        {
            "prediction": (dims, prediction),
            "source": ("sample", source),
            "target": ("class", range(3)),
            "family_name": ("family", ["", "", "smallest curvature", "random"]),
        },
        coords={"family": families, "scale": [-2.0, -1, 0, 1, 2]},
    )


def crossed(enter: Any = 0.1, leave: Any = 0.1, flat: float = 0.1, random: float = 0.1) -> Any:
    """A sweep with these shares along positive, negative, flat and random directions."""
    enters = {"positive": enter, "negative": 0.0, "flat": flat, "random": random}
    leaves = {"positive": 0.0, "negative": leave, "flat": flat, "random": random}
    return sweep(enters, leaves)


SIZES = np.array([0, 2, 4, 8, 10, 20, 30, 40])


def projected(plain: float = 1.0, draws: int = 1, **accuracies: Sequence[float]) -> xr.Dataset:
    """Accuracies of test images at SIZES of 40 dimensions by family; train images are all right."""
    # Half of one class, a fifth of the rarest.
    label = np.array([0, 1, 2, 0, 1, 0, 2, 0, 1, 0])[np.arange(2 * N) % 10]
    train = np.arange(2 * N) < N
    test = np.stack([hits(rates) for rates in accuracies.values()])
    right = np.concatenate([np.ones_like(test), test], axis=2)
    whole = np.where(train, True, np.append(RANK, RANK) < plain)
    size = np.broadcast_to(SIZES.astype(float), test.shape[:2])
    families = list(accuracies)
    return xr.Dataset(
        {
            "prediction": (("family", "d", "sample"), np.where(right, label, 3)),
            "clean_prediction": ("sample", np.where(whole, label, 3)),
            "label": ("sample", label),
            "sample_split": ("sample", np.where(train, 0, 1)),
            "constant_accuracy": ("split", [0.5, 0.5]),
            "subspace_dimension": (("family", "d"), size),
            "draws": ("family", [draws] * len(families)),
            "description": ("family", [f"{name} ones" for name in families]),
            "image_dimension": 40,
        },
        coords={"split": ["train", "test"], "family": families, "d": np.arange(len(SIZES))},
    )


# Accuracies at SIZES: quickly, evenly, and late.
QUICK = (0.3, 0.6, 0.9, 0.97, 1, 1, 1, 1)
EARLY = (0.3, 0.6, 0.7, 0.8, 0.8, 0.8, 0.9, 1)
EVEN = (0.3, 0.35, 0.4, 0.5, 0.55, 0.7, 0.9, 1)
FAINT = (0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.8)
LATE = (0.3, 0.3, 0.3, 0.3, 0.3, 0.35, 0.4, 1)


def accuracy(
    positive: Sequence[float] = EVEN,
    negative: Sequence[float] = EVEN,
    flat: Sequence[float] = EVEN,
    random: Sequence[float] = EVEN,
) -> xr.Dataset:
    return projected(positive=positive, negative=negative, flat=flat, random=random)


def twin(
    hi: Sequence[float] = EVEN, lo: Sequence[float] = EVEN, random: Sequence[float] = EVEN
) -> xr.Dataset:
    return projected(perturbation_hi=hi, perturbation_lo=lo, random=random)


def fractions(both: Sequence[float], positive: Sequence[float] = (0, 0.1, 0.2, 1)) -> xr.Dataset:
    """Shares of the squared norm of DeepFool at 0, 1/8, 1/4 and all dimensions; FGSM has all."""
    share = np.sqrt([0, 1 / 8, 1 / 4, 1])
    rows = np.sqrt(np.array([both, positive]))[..., None] * np.ones(N)
    rows = np.clip(rows + 0.01 * (RANK - 0.5), 0, 1)
    fraction = np.stack([rows, np.ones_like(rows)])
    return xr.Dataset(
        {
            "fraction": (("kind", "family", "d", "sample"), fraction),
            "random_fraction": (("family", "d"), [share, share]),
        },
        coords={"kind": ["DeepFool", "FGSM"], "family": ["both", "positive"]},
    )


def confined(hi: float, lo: float, random: float, beyond: float = 1.0) -> xr.Dataset:
    """Norms at d = 2, 4, 8 of 16 dimensions; beyond: at 16, where nothing is compared."""
    spread = np.exp(0.2 * np.random.default_rng(2).standard_normal((3, 4, N)))
    norm = np.array([[v, v, v, beyond] for v in (hi, lo, random)])[..., None] * spread
    converged = np.ones(norm.shape, bool)
    converged[1:, 0, : N // 2 + 1] = False  # at d = 2 the others are easy ones
    norm[1:, 0] = 1e-3
    size = np.array([[2, 4, 7, 16], [2, 4, 8, 16], [2, 4, 8, 16]])
    norm[0, 2] = 1e3  # at d = 8 the subspaces differ in size
    return xr.Dataset(
        {
            "norm": (("family", "d", "sample"), norm),
            "converged": (("family", "d", "sample"), converged),
            "subspace_dimension": (("family", "d"), size),
            "mean_image": (("channel", "row", "column"), np.zeros((1, 4, 4))),
        },
        coords={"family": ["hi", "lo", "random"], "d": [2, 4, 8, 16]},
    )


def resampled(
    fooled: Any, noise: Any, norm: float = 0.02, changed: Sequence[float] = (0, 1, 1)
) -> xr.Dataset:
    """Rates (d_low, factor) at the image's own size and two smaller ones, factors 1, 4 and 10."""
    clean = np.zeros((3, N), int)
    return xr.Dataset(
        {
            "perturbed_label": (("d_low", "factor", "sample"), hits(fooled).astype(int)),
            "noise_label": (("d_low", "factor", "sample"), hits(noise).astype(int)),
            "clean_label": (("d_low", "sample"), clean),
            "converged": ("sample", np.ones(N, bool)),
            "norm": ("sample", np.full(N, norm)),
            "image_norm": ("sample", np.ones(N)),
            "resampled_norm": (
                ("d_low", "sample"),
                norm * (1 - 0.1 * np.array(changed))[:, None] * np.ones(N),
            ),
        },
        coords={"d_low": [8, 6, 4], "factor": [1.0, 4.0, 10.0]},
    )


def universal(sample: float, held_out: float, few: float = 0.5, random: float = 0.1) -> xr.Dataset:
    """Rates of the sample sets of 300 and 2,000 images; ten images are too few."""

    def rows(rates: Sequence[float]) -> np.ndarray:
        return np.repeat(np.array(rates)[:, None], 2, axis=1)

    return xr.Dataset(
        {
            "fooling_rate": (("size", "repeat"), rows([1.0, 1.0, sample])),
            "held_out_fooling_rate": (("size", "repeat"), rows([0.1, few, held_out])),
            "label": (("repeat", "held_out_sample"), hits([held_out] * 2).astype(int)),
            "prediction": ("held_out_sample", np.zeros(N, int)),
            "random_fooling_rate": ("draw", random + 0.01 * np.linspace(-1, 1, 10)),
        },
        coords={"size": [10, 300, 2000]},
    )


def compared(universal: Sequence[float], random: Sequence[float]) -> xr.Dataset:
    """Rates at norms 1, 2, 4 and 8; DeepFool of one image fools all."""
    rates = np.array([universal, random, [1.0] * 4])
    share = np.clip(hits(rates) * 1.0, 0, 1)
    draws = rates[..., None] + 0.01 * np.linspace(-1, 1, 10)
    return xr.Dataset(
        {
            "fooled_share": (("kind", "norm", "held_out_sample"), share),
            "fooling_rate": (("kind", "norm", "draw"), draws),
            "mean_image_norm": 20.0,
        },
        coords={"kind": ["universal", "random", "DeepFool, one image"], "norm": [1.0, 2, 4, 8]},
    )


def transferred(rates: Any, random: Any = (0.1, 0.1)) -> xr.Dataset:
    """Rates (made for, network) of two networks."""
    draws = np.asarray(random)[:, None] + 0.01 * np.linspace(-1, 1, 10)
    return xr.Dataset(
        {
            "label": (("made_for", "network", "sample"), hits(rates).astype(int)),
            "prediction": (("network", "sample"), np.zeros((2, N), int)),
            "random_fooling_rate": (("network", "draw"), draws),
        }
    )


@cache
def received(labels: int) -> xr.Dataset:
    """400 images of 100 classes that are all fooled into so many classes, a tenth unchanged."""
    source = np.arange(400) % 100
    goal = np.random.default_rng(4).integers(0, labels, 400)
    label = np.where(np.arange(400) % 10 == 0, source, goal)
    return experiments.label_graph(source, label, [str(c) for c in range(100)])


@cache
def normals(dimension: int) -> xr.Dataset:
    """Normals in a random subspace of so many of 64 dimensions."""
    generator = np.random.default_rng(5)
    basis = np.linalg.qr(generator.standard_normal((64, dimension)))[0]
    rows = generator.standard_normal((200, dimension)) @ basis.T
    return experiments.normal_spectrum(rows / np.linalg.norm(rows, axis=1)[:, None], (1, 8, 8), 5)


def fooling(inside: Sequence[Sequence[float]], energy: Sequence[float]) -> xr.Dataset:
    """Rates (m, norm) inside the subspaces of 1, 5 and 20 dimensions, at norms 1, 2 and 4."""
    uniform = np.array([0.05, 0.1, 0.2])
    spread = 0.01 * np.linspace(-1, 1, 10)
    return xr.Dataset(
        {
            "fooling_rate": (("m", "norm", "draw"), np.asarray(inside)[..., None] + spread),
            "uniform_fooling_rate": (("norm", "draw"), uniform[:, None] + spread),
            "fooled_share": (("m", "norm", "sample"), hits(inside) * 1.0),
            "uniform_fooled_share": (("norm", "sample"), hits(uniform) * 1.0),
            "energy_share": ("m", list(energy)),
            "mean_image_norm": 20.0,
        },
        coords={"m": [1, 5, 20], "norm": [1.0, 2, 4]},
    )


def tilted(
    angle: Sequence[float], norm: Sequence[float], error: Sequence[float], order: int = 1
) -> xr.Dataset:
    """Angles (degree), mean adversarial norms and test errors at four C, ascending."""
    label = np.where(np.arange(N) % 2 == 0, 3, 7)
    side = np.where(label == 7, 1.0, -1.0)
    # What is misclassified is far from the boundary: it has no adversarial norm.
    distance = np.where(hits(error), -9.0, np.array(norm)[:, None]) * side
    ds = xr.Dataset(
        {
            "angle": ("C", np.radians(angle)),
            "test_distance": (("C", "test"), distance),
            "test_label": ("test", label),
        },
        coords={"C": 10.0 ** np.arange(-2, 2)},
        attrs={"pair": np.array([3, 7])},
    )
    return ds.isel(C=slice(None, None, order))


def layer(
    hidden: float = 0.5,
    noise: float = 0.5,
    dimension: int = 5,
    cosine: Sequence[float] = (0.5, 0.9999),
    collided: Sequence[float] = (0.0, 0.0, 1.0),
    random: Sequence[float] = (0.0, 0.0, 0.0),
    **exact: Any,
) -> xr.Dataset:
    """A last layer of 10 features; collisions at 1 %, 10 % and 20 % of the images' norm."""
    drawn = np.stack([np.linspace(0.4, 0.6, 10), np.linspace(0.8, 0.9, 10)], axis=1)
    known = {"bound": 5, "change": 3e-13, "unbounded": [True] * 3} | exact
    samples = np.ones(N + 1)
    return xr.Dataset(
        {
            # The last image did not converge.
            "hidden_share": ("sample", np.append(np.full(N, hidden), 1 - hidden)),
            "noise_hidden_share": ("sample", np.append(np.full(N, noise), 1 - noise)),
            "perturbation_converged": ("sample", np.arange(N + 1) < N),
            "adversarial_dimension": dimension,
            "adversarial_direction": (("adversarial", "feature"), np.zeros((dimension, 10))),
            "parallel_cosine": ("relation", list(cosine)),
            "random_parallel_cosine": (("draw", "relation"), drawn),
            "collision": (("epsilon", "pair"), hits(collided)),
            "noise_collision": (("epsilon", "pair"), hits(random)),
            "mean_image_norm": 10.0,
            "published_bound": known["bound"],
            "softmax_change": (
                ("displacement", "sample"),
                np.array([[1e-13], [known["change"]]]) * samples,
            ),
            "rounding_bound": (("displacement", "sample"), np.full((2, N + 1), 1e-12)),
            "region_unbounded": ("class", known["unbounded"]),
        },
        coords={"epsilon": [0.1, 1.0, 2.0]},
    )
