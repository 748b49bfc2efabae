"""Eigensolves that are stopped go on from their checkpoint with the same numbers."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator
from test_linalg_eigen import counting, like_a_mean_hessian, planted

from geomadv.errors import InputError, UnconvergedWarning
from geomadv.linalg import checkpoint, extreme_eigenpairs


class Killed(BaseException):
    """Neither caught nor expected, as the end of a process."""


def failing(matrix: np.ndarray, after: int) -> LinearOperator:
    """Stops the solve at a product."""
    operator, widths = counting(matrix)

    def matmat(v: np.ndarray) -> np.ndarray:
        if len(widths) == after:
            raise Killed
        return operator.matmat(v)

    return LinearOperator(matrix.shape, matvec=matmat, matmat=matmat, dtype=matrix.dtype)


@pytest.mark.parametrize(("block", "after"), [(1, 0), (1, 1), (1, 30), (1, -3), (4, 8)])
@pytest.mark.parametrize("spectrum", ["hessian", "repeated"])
def test_a_killed_solve_goes_on_with_the_same_numbers(tmp_path, block, after, spectrum):
    values = like_a_mean_hessian(200)
    if spectrum == "repeated":
        values[:3] = values[0]
    matrix = planted(values)
    operator, widths = counting(matrix)
    whole = extreme_eigenpairs(operator, 8, block=block)
    assert whole.products == sum(widths)
    after = after if after >= 0 else len(widths) + after  # in the search for missed copies
    file = tmp_path / "new" / "state.npz"
    with pytest.raises(Killed):
        extreme_eigenpairs(failing(matrix, after), 8, block=block, checkpoint=file)
    assert [path.name for path in file.parent.iterdir()] == ["state.npz"]
    operator, again = counting(matrix)
    resumed = extreme_eigenpairs(operator, 8, block=block, checkpoint=file)
    np.testing.assert_allclose(resumed.values, whole.values, rtol=0, atol=1e-13)
    np.testing.assert_allclose(resumed.directions, whole.directions, rtol=0, atol=1e-9)
    # The comparison with the stored product is made and not counted, so that the solve tells what
    # an undisturbed one tells. Products of an interrupted search are repeated, others not.
    assert resumed.products == whole.products
    assert sum(again) <= sum(widths[after:]) + 1 + 5
    assert not file.exists()


def test_the_state_on_disk_is_enough_when_nothing_can_be_written_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_INTERVAL", 0.0)
    monkeypatch.setattr(checkpoint, "_SPARE", 0)
    matrix = planted(like_a_mean_hessian(200))
    file = tmp_path / "state.npz"
    copies = []

    def matmat(v: np.ndarray) -> np.ndarray:
        if file.exists():
            copies.append(file.read_bytes())
        return matrix @ v

    operator = LinearOperator(matrix.shape, matvec=matmat, matmat=matmat, dtype=matrix.dtype)
    whole = extreme_eigenpairs(operator, 8, checkpoint=file)
    for copy in copies[::10]:
        file.write_bytes(copy)
        resumed = extreme_eigenpairs(matrix, 8, checkpoint=file)
        np.testing.assert_allclose(resumed.values, whole.values, rtol=0, atol=1e-13)


@pytest.mark.filterwarnings("ignore::geomadv.errors.UnconvergedWarning")
@pytest.mark.parametrize("share", [0.5, 2.0], ids=["above", "below"])
def test_the_state_stays_where_a_residual_is_above_the_tolerance(tmp_path, share):
    matrix, file = planted(like_a_mean_hessian(100)), tmp_path / "state.npz"
    worst = float(extreme_eigenpairs(matrix, 4, max_products=28).residuals.max())
    assert 1e-3 < worst < 0.1
    found = extreme_eigenpairs(matrix, 4, max_products=28, tolerance=share * worst, checkpoint=file)
    assert file.exists() == (not found.converged.all()) == (share < 1)


def test_an_unconverged_solve_goes_on_with_more_products(tmp_path):
    matrix = planted(like_a_mean_hessian(200))
    file = tmp_path / "state.npz"
    with pytest.warns(UnconvergedWarning, match="not enough"):
        extreme_eigenpairs(matrix, 8, max_products=20, checkpoint=file)
    operator, widths = counting(matrix)
    pairs = extreme_eigenpairs(operator, 8, checkpoint=file)
    assert pairs.converged.all()
    assert sum(widths) == pairs.products - 20 + 1  # the comparison with the stored one


def test_a_checkpoint_of_another_solve_is_refused(tmp_path):
    matrix = planted(like_a_mean_hessian(200))
    file = tmp_path / "state.npz"
    with pytest.raises(Killed):
        extreme_eigenpairs(failing(matrix, 30), 8, checkpoint=file)
    with pytest.raises(InputError, match=r"k=8.*expected D=200 float64 k=7"):
        extreme_eigenpairs(matrix, 7, checkpoint=file)
    with pytest.raises(InputError, match=r"seed=0, expected.*seed=1"):
        extreme_eigenpairs(matrix, 8, seed=1, checkpoint=file)
    other = planted(like_a_mean_hessian(200), seed=5)
    with pytest.raises(InputError, match="another operator"):
        extreme_eigenpairs(other, 8, checkpoint=file)
    with pytest.raises(InputError, match="of 30 products, expected at most 25"):
        extreme_eigenpairs(matrix, 8, max_products=25, checkpoint=file)
    for content in (b"", b"broken", file.read_bytes()[:-100]):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"is damaged.*remove it"):
            extreme_eigenpairs(matrix, 8, checkpoint=file)


def test_a_checkpoint_that_cannot_be_written(tmp_path, monkeypatch):
    matrix = planted(like_a_mean_hessian(200))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="checkpoint: cannot write"):
        extreme_eigenpairs(matrix, 8, checkpoint=tmp_path / "file" / "state.npz")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.warns(UserWarning, match="not written.*No space left"):
        pairs = extreme_eigenpairs(matrix, 8, checkpoint=tmp_path / "state.npz")
    assert pairs.converged.all()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
