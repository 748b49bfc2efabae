"""For each claim results in which it is true, false, undecided, and without room for it."""

from collections.abc import Callable

import xarray as xr
from claims_for_tests import (
    EARLY,
    FAINT,
    LATE,
    QUICK,
    accuracy,
    compared,
    confined,
    crossed,
    curves,
    fooling,
    fractions,
    layer,
    normals,
    projected,
    received,
    resampled,
    tilted,
    transferred,
    twin,
    universal,
)

# Cases in which the claim could not hold whatever the network does: the null is at the end.
NO_ROOM: dict[str, Callable[[], xr.Dataset]] = {
    "positive_symmetric": lambda: curves([0.9, 0.9], 0.9, 0.9),
    "positive_enters": lambda: crossed(enter=0.9, random=0.9),
    "negative_leaves": lambda: crossed(leave=0.9, random=0.9),
    "flat_accuracy": lambda: accuracy(flat=LATE, random=LATE),
    "leading_accuracy": lambda: twin(hi=QUICK, random=QUICK, lo=LATE),
    "trailing_accuracy": lambda: projected(
        0.8, perturbation_hi=FAINT, perturbation_lo=FAINT, random=FAINT
    ),
    "rescaled_fooling": lambda: resampled(
        [[1, 1, 1], [0.9, 0.9, 1], [0.8, 0.8, 1]], [[0, 0.8, 1]] * 3
    ),
    "collisions": lambda: layer(collided=(0.1, 0.8, 0.9), random=(0.0, 0.7, 0.7)),
}

# Claim -> results that have the property, results that have not, and some that cannot tell. Many
# lack it in one way only, which a weaker formula would not see.
CASES: dict[str, tuple[list[Callable[[], xr.Dataset]], ...]] = {
    "positive_symmetric": (
        [lambda: curves([0.9, 0.9], 0.3, 0.4), lambda: curves([0.9, 0.0], 0.3, 0.4)],
        [
            lambda: curves([0.7, 0.7], 0.7, 0.7),
            lambda: curves([0.7, 0.7], 0.7, 0.1),
            lambda: curves([0.7, 0.7], 0.1, 0.7),
            lambda: curves([0.2, 0.9], 0.2, 0.2),
        ],
    ),
    "positive_enters": (
        [lambda: crossed(enter=0.8), lambda: crossed(enter=[[0.8, 0.8], [0, 0]])],
        [
            lambda: crossed(enter=0.1, leave=0.9, flat=0.9),
            lambda: crossed(enter=[0.0, 1.0]),
            lambda: crossed(enter=[1.0, 0.0]),
            lambda: crossed(enter=0.6, random=0.6),
            lambda: crossed(enter=[[0, 0], [1, 1]]),
        ],
        # Random directions that differ much: six are too few.
        [lambda: crossed(enter=0.9, random=[[0, 0], [1, 1]])],
    ),
    "negative_leaves": (
        [lambda: crossed(leave=0.8), lambda: crossed(leave=[[0.8, 0.8], [0, 0]])],
        [
            lambda: crossed(leave=0.1, enter=0.9, flat=0.9),
            lambda: crossed(leave=[0.0, 1.0]),
            lambda: crossed(leave=[1.0, 0.0]),
            lambda: crossed(leave=0.6, random=0.6),
        ],
    ),
    "flat_inert": (
        [lambda: crossed(flat=0.05, random=0.5), lambda: crossed(0.0, 0.0, 0.05, 0.5)],
        [
            lambda: crossed(flat=0.5, random=0.5),
            lambda: crossed(enter=0.9, leave=0.9, flat=0.5, random=0.5),
            lambda: crossed(flat=0.5, random=0.1),
        ],
    ),
    "positive_dimensions": (
        [lambda: accuracy(positive=QUICK)],
        [
            accuracy,
            lambda: accuracy(negative=QUICK, flat=LATE),
            lambda: accuracy(positive=QUICK, random=QUICK, flat=LATE),
            lambda: accuracy(positive=LATE),
        ],
    ),
    "negative_dimensions": (
        [lambda: accuracy(negative=QUICK)],
        [accuracy, lambda: accuracy(positive=QUICK), lambda: accuracy(random=QUICK, flat=LATE)],
    ),
    "flat_accuracy": (
        [lambda: accuracy(flat=LATE), lambda: accuracy(flat=[*LATE[:5], 0.35, 1, 1])],
        [accuracy, lambda: accuracy(positive=QUICK, negative=QUICK), lambda: accuracy(random=LATE)],
    ),
    "curved_norm": (
        [lambda: fractions([0, 0.5, 0.8, 1])],
        [
            lambda: fractions([0, 1 / 8, 1 / 4, 1]),
            lambda: fractions([0, 0.1, 0.2, 1], positive=[0, 0.5, 0.9, 1]),
            # In root mean square far more, of the squares themselves less than twice.
            lambda: fractions([0, 0.15, 0.4, 1]),
        ],
    ),
    "leading_accuracy": (
        [lambda: twin(hi=QUICK)],
        [twin, lambda: twin(lo=QUICK), lambda: twin(hi=EARLY, random=EARLY, lo=LATE)],
    ),
    "trailing_accuracy": (
        [lambda: twin(lo=LATE)],
        [twin, lambda: twin(hi=LATE), lambda: twin(lo=LATE, random=LATE, hi=QUICK)],
    ),
    "leading_confined": (
        [lambda: confined(1, 9, 5)],
        [lambda: confined(5, 9, 5), lambda: confined(5, 1, 5), lambda: confined(4, 99, 5)],
    ),
    "leading_below_trailing": (
        [lambda: confined(1, 9, 1)],
        [lambda: confined(5, 5, 99), lambda: confined(9, 5, 99)],
    ),
    "rescaled_fooling": (
        [lambda: resampled([[1, 1, 1], [0.3, 0.9, 1], [0.2, 0.8, 1]], [[0, 0.1, 1]] * 3)],
        [
            lambda: resampled([[1, 1, 1], [0.2, 0.3, 1], [0.2, 0.3, 1]], [[0, 0.1, 1]] * 3),
            lambda: resampled([[1, 1, 1], [0.9, 0.9, 1], [0.2, 0.3, 1]], [[0, 0.1, 1]] * 3),
            lambda: resampled([[1, 1, 1], [0.9, 0.9, 1], [0.8, 0.8, 1]], [[0, 0.45, 1]] * 3),
            lambda: resampled([[1, 1, 1], [1, 0.3, 1], [1, 0.3, 1]], [[0, 0.1, 0.1]] * 3),
        ],
    ),
    "held_out_rate": (
        [lambda: universal(0.8, 0.8), lambda: universal(0.6, 0.8)],
        [lambda: universal(0.9, 0.5), lambda: universal(1.0, 0.7, few=1.0)],
    ),
    "few_images": (
        [lambda: universal(0.8, 0.8, few=0.6)],
        [lambda: universal(0.8, 0.8, few=0.15), lambda: universal(0.6, 0.6, 0.35, random=0.33)],
    ),
    "universal_norm": (
        [
            lambda: compared([0.3, 0.8, 0.9, 1.0], [0, 0.1, 0.3, 0.9]),
            lambda: compared([0.3, 0.8, 0.9, 1.0], [0, 0.1, 0.1, 0.2]),
        ],
        [
            lambda: compared([0, 0.1, 0.3, 0.9], [0, 0.1, 0.3, 0.9]),
            lambda: compared([0, 0.1, 0.3, 0.9], [0.3, 0.8, 0.9, 1.0]),
        ],
    ),
    "transfer": (
        [lambda: transferred([[0.9, 0.8], [0.8, 0.9]])],
        [
            lambda: transferred([[0.9, 0.1], [0.1, 0.9]]),
            lambda: transferred([[0.9, 0.6], [0.6, 0.9]], random=(0.5, 0.5)),
        ],
    ),
    "dominant_labels": ([lambda: received(3)], [lambda: received(100)]),
    "normals_alike": ([lambda: normals(6)], [lambda: normals(64), lambda: normals(50)]),
    "subspace_fooling": (
        [lambda: fooling([[0.1, 0.1, 0.2], [0.2, 0.5, 0.9], [0, 0.1, 0.2]], [0.2, 0.6, 0.9])],
        [
            lambda: fooling([[0.1, 0.5, 0.9], [0.1, 0.1, 0.1], [0.1, 0.5, 0.9]], [0.2, 0.6, 0.9]),
            lambda: fooling([[0.5, 0.9, 0.9], [0.5, 0.9, 0.9], [0, 0.1, 0.1]], [0.2, 0.4, 0.9]),
        ],
    ),
    "tilt_angle": (
        [
            lambda: tilted([5, 20, 50, 80], [2, 1.6, 1.2, 1], [0.3, 0.02, 0.02, 0.3]),
            lambda: tilted([5, 20, 50, 80], [2, 1.6, 1.2, 1], [0.3, 0.02, 0.02, 0.3], order=-1),
        ],
        [
            lambda: tilted([5, 20, 50, 80], [2, 1.6, 1.2, 1], [0.3, 0.02, 0.3, 0.3]),
            lambda: tilted([5, 50, 20, 80], [2, 1.6, 1.2, 1], [0.3, 0.02, 0.02, 0.3]),
        ],
    ),
    "tilt_norm": (
        [lambda: tilted([5, 20, 50, 80], [9, 2.5, 1, 0.1], [0.3, 0.02, 0.02, 0.3])],
        [
            lambda: tilted([5, 20, 50, 80], [9, 1.5, 1, 0.1], [0.3, 0.02, 0.02, 0.3]),
            lambda: tilted([5, 20, 50, 80], [9, 1, 2.5, 0.1], [0.3, 0.02, 0.02, 0.3]),
        ],
    ),
    "hidden_change": (
        [lambda: layer(hidden=0.9)],
        [
            lambda: layer(hidden=0.5),
            lambda: layer(hidden=0.9, noise=0.9),
            lambda: layer(hidden=0.9, noise=0.1, dimension=9),
        ],
    ),
    "not_parallel": (
        [lambda: layer(cosine=(0.5, 0.8)), lambda: layer(cosine=(0.5, 0.92))],
        [layer, lambda: layer(cosine=(0.9999, 0.5))],
    ),
    "collisions": (
        [lambda: layer(collided=(0.1, 0.8, 0.9)), lambda: layer(collided=(0, 0.8, 0.8))],
        [layer, lambda: layer(collided=(0.1, 0.6, 0.9), random=(0.0, 0.4, 0.7))],
    ),
    "null_space": ([layer], [lambda: layer(bound=6)]),
    "softmax_unchanged": ([layer], [lambda: layer(change=2e-12)]),
    "unbounded_regions": ([layer], [lambda: layer(unbounded=[True, False, True])]),
}
