"""The boundary function: which classes it compares, and its sign."""

import torch

from geomadv.classifier.boundary_function import BoundaryFunction

SCORES = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])


def found(boundary: BoundaryFunction) -> tuple[list[float], list[int], list[int]]:
    margin = boundary(SCORES)
    return margin.value.tolist(), margin.near.tolist(), margin.far.tolist()


def test_out_of_the_source_class():
    assert found(BoundaryFunction(torch.tensor([0, 1]))) == ([-1, -1], [0, 1], [2, 2])
    # A source that is no longer on top.
    assert found(BoundaryFunction(torch.tensor([1, 0]))) == ([2, 5], [1, 0], [0, 1])


def test_a_pair_whatever_the_third_does():
    pair = BoundaryFunction.of(torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert found(pair) == ([-2, -5], [0, 1], [1, 0])


def test_into_a_region_the_best_of_the_others_counts():
    region = BoundaryFunction.of(torch.tensor([1, 2]), torch.tensor([2, 1]), region=True)
    assert found(region) == ([-1, 1], [0, 2], [2, 1])


def test_rows_are_taken_by_index_and_mask():
    pair = BoundaryFunction(torch.arange(4), torch.arange(4).flip(0), "pair")
    assert pair[torch.tensor([2, 0])].source.tolist() == [2, 0]
    assert len(pair[torch.tensor([True, False, True, True])]) == 3
    assert BoundaryFunction(torch.arange(4))[1:].target is None
