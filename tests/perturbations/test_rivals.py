"""Which rivals a DeepFool step looks at, in closed form: one image with three rivals."""

import math

import pytest
import torch
from torch import Tensor

from geomadv.perturbations.rivals import Rivals

IMAGE = torch.tensor([0])
GAPS = (2.4, 1.0, 2.6)


def measured(rivals: Rivals, norms: dict[int, float], distance: float = 1.0) -> Tensor:
    """Looks at some rivals, all at one distance; the images to which that is nearer than before."""
    slot = torch.tensor([*norms])
    norm = torch.tensor([*norms.values()], dtype=torch.float64)
    far = torch.full_like(norm, distance)
    return rivals.measured(IMAGE, torch.zeros_like(slot), slot, norm, far)[0]


def second_step(
    norms: tuple[float, ...] = (1, 1, 1),
    *,
    gaps: tuple[float, ...] = GAPS,
    step: int = 1,
    prune: bool = True,
) -> Rivals:
    """All have been looked at once, with these norms, and a new step begins."""
    rivals = Rivals(torch.tensor([[1, 2, 3]]), torch.zeros(1, dtype=torch.float64), prune)
    assert rivals.wanted.all()
    measured(rivals, dict(enumerate(norms)))
    assert rivals.reconsider(IMAGE).numel() == 0
    rivals.begin(IMAGE, torch.tensor([gaps], dtype=torch.float64), step)
    return rivals


def wanted(rivals: Rivals) -> list[int]:
    return rivals.wanted[0].nonzero().flatten().tolist()


def test_the_likely_nearest_comes_first_then_who_may_be_nearer():
    rivals = second_step()
    assert wanted(rivals) == [1]
    measured(rivals, {1: 1.0})
    assert rivals.reconsider(IMAGE).tolist() == [0]
    assert wanted(rivals) == [0]  # within 2.5 times the nearest
    measured(rivals, {0: 1.0}, 2.4)
    assert rivals.reconsider(IMAGE).tolist() == []


def test_distances_are_predicted_from_scores_and_slopes():
    assert wanted(second_step((2, 1, 2), gaps=(1.4, 1, 3))) == [0]


@pytest.mark.parametrize(("largest", "every"), [(2.4, False), (2.6, True)])
def test_norms_that_spread_are_no_guide(largest, every):
    assert (len(wanted(second_step((1, 1, largest)))) == 3) == every


@pytest.mark.parametrize(
    ("norm", "every"),
    [(1.4, False), (1 / 1.4, False), (1.6, True), (1 / 1.6, True), (math.nan, True)],
)
def test_norms_that_move_or_are_no_numbers_are_no_guide(norm, every):
    rivals = second_step(gaps=(9, 1, 9))
    measured(rivals, {1: norm})
    rivals.reconsider(IMAGE)
    assert wanted(rivals) == ([0, 2] if every else [])


@pytest.mark.parametrize(
    ("step", "prune", "every"), [(3, True, False), (4, True, True), (1, False, True)]
)
def test_long_walks_and_those_that_skip_nothing_look_at_all(step, prune, every):
    assert (len(wanted(second_step(step=step, prune=prune))) == 3) == every


def test_only_who_is_nearer_than_all_before_is_chosen():
    rivals = second_step()
    assert measured(rivals, {1: 1.0}, 1.0).tolist() == [0]
    assert measured(rivals, {0: 1.0}, 1.5).tolist() == []
    assert measured(rivals, {2: 1.0}, 0.5).tolist() == [0]
    assert float(rivals.nearest) == 0.5
