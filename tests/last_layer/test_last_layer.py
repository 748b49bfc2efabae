"""Null space, regions and boundary angles of softmax layers whose geometry is known."""

from itertools import combinations

import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import linprog

from geomadv import InputError
from geomadv.last_layer import (
    adversarial_space,
    boundary_angles,
    class_regions,
    most_parallel,
)
from geomadv.last_layer.regions import TESTS

# Three scores whose maximum is class 0 inside a triangle around the origin only.
TRIANGLE = np.array([[0, 0], [1, 0], [-1, 1], [-1, -1]], dtype=float)
TRIANGLE_BIAS = np.array([0, -1, -1, -1], dtype=float)


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def regions(weight, bias):
    return class_regions(weight, bias, adversarial_space(weight))


def brute_force(weight):
    """Largest |cos| of boundaries with a shared class and of four classes, from the normals."""
    m = len(weight)
    pairs = list(combinations(range(m), 2))
    normals = np.array([weight[i] - weight[j] for i, j in pairs])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    cosines = np.abs(normals @ normals.T)
    shared = np.array([[len({*a, *b}) == 3 for b in pairs] for a in pairs])
    four = np.array([[len({*a, *b}) == 4 for b in pairs] for a in pairs])
    return cosines, shared, four


# The null space


def test_directions_of_a_constructed_layer():
    """Equal score changes count: W = [[1, 0, 1], [0, 0, 1]] has e_2 and e_3, not only e_2."""
    space = adversarial_space([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert space.rank == 1
    # Centred rows ±(1, 0, 0) / 2: singular value 1 / sqrt(2).
    np.testing.assert_allclose(space.singular_values, [np.sqrt(0.5), 0], atol=1e-14)
    np.testing.assert_allclose(np.abs(space.visible[:, 0]), [1, 0, 0], atol=1e-14)
    projector = space.adversarial @ space.adversarial.T
    np.testing.assert_allclose(projector, np.diag([0.0, 1, 1]), atol=1e-14)


@pytest.mark.parametrize(("m", "width"), [(2, 1), (3, 7), (7, 3), (10, 64), (8, 8), (8, 7)])
def test_a_generic_layer_has_one_direction_more_than_published(m, width):
    weight = gaussian(m, width, seed=m)
    space = adversarial_space(weight)
    assert space.rank == min(m - 1, width)
    assert space.adversarial.shape == (width, width - space.rank)
    basis = np.column_stack([space.visible, space.adversarial])
    # Householder SVD: orthonormal and backward stable to some tens of roundings at these sizes.
    np.testing.assert_allclose(basis.T @ basis, np.eye(width), atol=1e-13)
    moved = weight @ space.adversarial
    assert np.abs(moved - moved.mean(axis=0)).max(initial=0) < 1e-12
    theirs = null_space(weight - weight.mean(axis=0), rcond=1e-12)
    gap = space.adversarial @ space.adversarial.T - theirs @ theirs.T
    assert np.abs(gap).max() < 1e-12


def test_dependent_weights_leave_more_directions():
    weight = gaussian(6, 3, seed=1) @ gaussian(3, 20, seed=2)
    assert adversarial_space(weight).rank == 3
    assert adversarial_space(weight + 1e6).adversarial.shape == (20, 17)
    # In float32 the rows depend on each other to rounding only: far along, the softmax changes.
    assert adversarial_space(weight.astype(np.float32)).rank == 5


# Regions


def test_a_triangle_is_bounded_and_its_neighbours_are_not():
    found = regions(TRIANGLE, TRIANGLE_BIAS)
    assert found.unbounded.tolist() == [False, True, True, True]
    assert found.unbounded_visible.tolist() == [False, True, True, True]
    assert not found.empty.any()
    assert TESTS[found.test[0]] == "linear-programme"


def test_the_same_triangle_in_space_is_a_prism():
    """One more feature that nobody reads makes every region unbounded."""
    weight = np.column_stack([TRIANGLE, np.zeros(4)])
    found = regions(weight, TRIANGLE_BIAS)
    assert found.unbounded.all()
    assert found.unbounded_visible.tolist() == [False, True, True, True]


def test_a_class_below_all_others_is_empty():
    found = regions(TRIANGLE, -TRIANGLE_BIAS)  # the three others meet at 0, 1 above class 0
    assert found.empty.tolist() == [True, False, False, False]
    assert found.unbounded.tolist() == [False, True, True, True]


@pytest.mark.parametrize("below", [1e2, 1e6, 1e9, 1e12, 1e25])
def test_a_masked_class_changes_no_other_region(below):
    weight, bias = np.vstack([TRIANGLE, [0.01, 0.02]]), np.append(TRIANGLE_BIAS, -below)
    for scale in (1.0, 1e-6, 1e6):
        found, plain = regions(scale * weight, scale * bias), regions(TRIANGLE, TRIANGLE_BIAS)
        assert found.empty[:4].tolist() == plain.empty.tolist()
        assert found.unbounded[:4].tolist() == plain.unbounded.tolist()


def test_a_point_region_is_empty_and_a_twin_takes_it_all():
    assert regions(TRIANGLE, np.zeros(4)).empty.tolist() == [True, False, False, False]
    twins = np.vstack([TRIANGLE, TRIANGLE[1]])
    found = regions(twins, np.append(TRIANGLE_BIAS, -2.0))
    assert found.empty.tolist() == [False, False, False, False, True]
    assert found.unbounded.tolist() == [False, True, True, True, False]


def test_a_half_open_strip_is_unbounded():
    """Class 0 wins where |x| < 1: bounded sideways, its recession cone is the line x = 0."""
    weight = np.array([[0, 0], [1, 0], [-1, 0], [0, -1]], dtype=float)
    found = regions(weight, np.array([0.0, -1, -1, 0]))
    assert found.unbounded.all()
    assert TESTS[found.test[0]] == "linear-programme"


def test_enough_features_leave_no_bounded_region():
    """With l = m - 1: no adversarial direction, and yet every pattern of scores occurs."""
    weight = gaussian(6, 5, seed=3)
    found = regions(weight, gaussian(6, seed=4))
    assert found.unbounded.all()
    assert not found.empty.any()
    assert set(found.test) == {TESTS.index("rank")}


@pytest.mark.parametrize("seed", range(4))
def test_regions_against_their_extent_in_random_directions(seed):
    """A bounded region has a finite largest value of every linear function, and conversely."""
    weight, bias = gaussian(9, 2, seed=seed), gaussian(9, seed=seed + 100)
    found = regions(weight, bias)
    for i in range(9):
        # Four directions whose half spaces cover the plane: one of them sees infinity.
        status = {
            linprog(-c, np.delete(weight - weight[i], i, 0), np.delete(bias[i] - bias, i),
                    bounds=(None, None), method="highs").status
            for c in np.array([[1.0, 0.3], [-0.3, 1.0], [-1.0, -0.3], [0.3, -1.0]])
        }  # fmt: skip
        optimal, infeasible, unbounded = 0, 2, 3
        if found.empty[i]:
            assert status == {infeasible}
        elif found.unbounded[i]:
            assert unbounded in status
        else:
            assert status == {optimal}


# Boundary angles


def test_the_corners_of_a_simplex():
    """Equal distances: 60° with a shared corner, 90° between opposite edges."""
    found = most_parallel(np.eye(6))
    assert found.cosine[0] == pytest.approx(0.5, abs=1e-14)
    assert found.cosine[1] == pytest.approx(0.0, abs=1e-14)
    assert len(set(found.classes[1])) == 4
    assert (found.boundaries, found.coincident, found.pairs) == (15, 0, 105)
    angles = boundary_angles(np.eye(6), bins=18)
    # 6 corners with 10 pairs of edges at 60°; the other 45 at 90°. The closed last bin holds 90°.
    assert angles.counts[0].sum() == angles.counts[0][11:13].sum() == 60
    assert angles.counts[1][17] == angles.counts[1].sum() == 45
    assert angles.complete


def test_a_parallelogram_is_parallel():
    """w_3 = w_2 + w_1 - w_0: two pairs of opposite sides."""
    w = gaussian(4, 5, seed=1)
    w[3] = w[2] + w[1] - w[0]
    found = most_parallel(w @ w.T)
    assert found.cosine[1] == pytest.approx(1, abs=1e-13)
    i, j, k, l = found.classes[1]  # noqa: E741
    assert {frozenset((i, j)), frozenset((k, l))} in (
        {frozenset((0, 1)), frozenset((2, 3))},
        {frozenset((0, 2)), frozenset((1, 3))},
    )


@pytest.mark.parametrize(("m", "width"), [(5, 40), (12, 30), (25, 6), (25, 2)])
def test_maximum_and_histogram_against_all_normals(m, width):
    weight = gaussian(m, width, seed=width)
    cosines, shared, four = brute_force(weight)
    found = most_parallel(weight @ weight.T)
    # Rounding: eps times norms squared over the product of lengths, here below 1e4.
    expected = [cosines[shared].max(), cosines[four].max()]
    np.testing.assert_allclose(found.cosine, expected, atol=1e-11)
    for (i, j, k, l), cosine in zip(found.classes, found.cosine, strict=True):  # noqa: E741
        a, b = weight[i] - weight[j], weight[k] - weight[l]
        direct = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
        assert direct == pytest.approx(cosine, abs=1e-11)
    angles = boundary_angles(weight @ weight.T, bins=30)
    for relation, mask in enumerate((shared, four)):
        degrees = np.degrees(np.arccos(np.minimum(cosines[np.triu(mask)], 1)))
        # An angle within rounding of an edge may fall on either side: compare cumulated counts.
        low = [(degrees < e - 1e-5).sum() for e in angles.edges[1:]]
        high = [(degrees < e + 1e-5).sum() for e in angles.edges[1:]]
        counted = np.cumsum(angles.counts[relation])
        assert (counted >= low).all()
        assert (counted <= high).all()
        assert counted[-1] == mask.sum() // 2


def test_planted_parallel_pairs_are_found_among_many():
    """150 classes, 6e7 pairs of boundaries: one pair of four classes, and one with a shared class.

    Few of the cosines are computed.
    """
    w = gaussian(150, 400, seed=5)
    w[77] = w[31] - 1.3 * (w[120] - w[4])
    w[10] = w[20] + 0.4 * (w[20] - w[60])
    found = most_parallel(w @ w.T)
    np.testing.assert_allclose(found.cosine, 1, atol=1e-12)
    assert set(found.classes[0]) == {10, 20, 60}
    assert {frozenset(found.classes[1, :2]), frozenset(found.classes[1, 2:])} == {
        frozenset((77, 31)),
        frozenset((120, 4)),
    }
    assert found.pairs == 11175 * 11174 // 2
    assert found.evaluated < 0.1 * found.pairs


def test_coincident_classes_have_no_boundary():
    w = gaussian(5, 8, seed=6)
    w[4] = w[1]
    found = most_parallel(w @ w.T)
    alone = most_parallel(w[:4] @ w[:4].T)
    assert (found.boundaries, found.coincident) == (9, 1)
    # (i, 1) and (i, 4) are one boundary twice.
    np.testing.assert_allclose(found.cosine[0], 1, atol=1e-13)
    assert found.cosine[1] >= alone.cosine[1] - 1e-13
    assert boundary_angles(w @ w.T).pairs == 36


def test_three_classes_have_no_four():
    found = most_parallel(np.eye(3))
    assert np.isnan(found.cosine[1])
    assert (found.classes[1] == -1).all()
    assert boundary_angles(np.eye(3)).counts.sum() == 3


def test_the_gram_matrix_may_be_that_of_shifted_weights():
    w = gaussian(12, 9, seed=7)
    near, far = (most_parallel(v @ v.T) for v in (w, w + 30.0))
    # The shift costs eps (30² 9) ~ 2e-12 in every product; lengths squared are above 1.
    np.testing.assert_allclose(near.cosine, far.cosine, atol=1e-10)


def test_a_sample_of_angles_looks_like_all_of_them():
    w = gaussian(20, 10, seed=8)
    gram = w @ w.T
    full = boundary_angles(gram, bins=9)
    drawn = boundary_angles(gram, bins=9, sample=10_000, seed=1)
    assert (full.pairs, full.complete) == (190 * 189 // 2, True)
    assert (drawn.pairs, drawn.complete) == (10_000, False)
    share = full.counts / full.pairs
    error = np.abs(drawn.counts / drawn.pairs - share)
    # Six standard deviations of a binomial share in each of 18 bins, and room for empty ones.
    assert (error < 6 * np.sqrt(share / 10_000) + 1e-3).all()
    assert np.array_equal(drawn.counts, boundary_angles(gram, 9, 10_000, seed=1).counts)
    assert not np.array_equal(drawn.counts, boundary_angles(gram, 9, 10_000, seed=2).counts)


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: adversarial_space(np.ones(3)), "shape"),
        (lambda: adversarial_space(np.ones((1, 3))), "two classes"),
        (lambda: adversarial_space(np.full((3, 3), np.nan)), "9 of 9 entries"),
        (lambda: adversarial_space(np.full((3, 4), 0.1)), "same weights"),
        (lambda: regions(TRIANGLE, np.zeros(3)), "bias has shape"),
        (lambda: most_parallel(np.eye(2)), "three classes"),
        (lambda: most_parallel(np.ones((3, 4))), "shape"),
        (lambda: most_parallel(np.full((3, 3), np.inf)), "finite"),
        (lambda: most_parallel(np.ones((3, 3))), "same weights"),
        (lambda: boundary_angles(np.eye(3), bins=0), "bins=0"),
        (lambda: boundary_angles(np.eye(3), sample=0), "sample=0"),
        (lambda: boundary_angles(np.ones((3, 3))), "0 boundary"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
