"""Every experiment of the table on the digits, small enough for a test."""

from pathlib import Path
from typing import Any

import geomadv as ga
from geomadv.pipeline import EXPERIMENTS
from geomadv.pipeline.runner import Runner
from geomadv.pipeline.study import Place, Study

SMALL: dict[str, dict[str, Any]] = {
    "train": {"count": 40},
    "boundary": {"count": 60},
    "normal_svd": {"rank": 8, "baseline_draws": 2},
    "direction_svd": {"rank": 8, "baseline_draws": 2},
    "random_subspace_fooling": {
        "count": 40, "dimensions": [1, 4], "relative_norms": [0.4], "draws": 2,
    },
    "curvature": {"classes": ["0", "3"], "count": 20, "pairs": None, "hvp": "exact"},
    "score_curves": {"count": 30, "steps": 4, "draws": 20},
    "direction_sweep": {"count": 30, "steps": 3},
    "normal_section": {"count": 6, "steps": 3},
    "decision_plane": {"count": 2, "steps": 12},
    "subspace_accuracy": {"count": 40, "dimensions": [0, 1, 2]},
    "first_order_twin": {"count": 40, "dimensions": [0, 8, 64]},
    "confined_deepfool": {"count": 10, "dimensions": [4, 64], "draws": 2},
    "resampling": {"count": 10, "span_count": 10, "low_sizes": [6], "factors": [1, 2]},
    "universal": {"count": 30, "held_out": 40, "sizes": [10, 30], "passes": 1, "repeats": 1},
    "norm_fractions": {"count": 10},
    "norm_comparison": {"count": 20, "held_out": 30, "relative_norms": [1, 2], "draws": 2},
    "transfer": {
        "networks": ["digits-relu"], "count": 20, "held_out": 30, "passes": 1, "draws": 2,
    },
    "finetuning": {
        "count": 40, "held_out": 30, "rounds": 1, "pool": 1, "samples": 20, "epochs": 1,
        "passes": 1,
    },
    "categories": {"networks": ["digits-relu"], "count": 10, "norms": 3, "draws": 2, "passes": 1},
    "tilting_plane": {"values": 6, "examples": 2},
    "tilting_toy": {"dimensions": [2, 4], "samples": 10, "values": 3},
    "normal_tilt": {"count": 10, "beside": []},
    "softmax_directions": {"count": 20, "collisions": {"pairs": 2, "steps": 5}},
}  # fmt: skip


def small_runner(
    path: Path,
    net: ga.Classifier | None = None,
    train: ga.ImageSet | None = None,
    test: ga.ImageSet | None = None,
    given: dict[str, dict[str, Any]] | None = None,
    seed: int | None = None,
    **place: Any,
) -> Runner:
    """A runner on the digits whose results lie below the path; SMALL unless settings are given."""
    splits = {
        "train": train or ga.load_images("digits", "train"),
        "test": test or ga.load_images("digits", "test"),
    }
    study = Study(
        net or ga.load_network("digits-cnn"),
        splits.__getitem__,
        Place(results=path, progress=False, **place),
        "digits",
        ga.load_network,
        {"network": "digits-cnn"},
        seed,
        given=SMALL if given is None else given,
    )
    return Runner(study, EXPERIMENTS, say=lambda line: None)
