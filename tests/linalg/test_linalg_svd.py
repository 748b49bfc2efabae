"""Streamed SVD: planted spectra, then agreement with float64 LAPACK, then memory."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geomadv.errors import InputError
from geomadv.linalg import Subspace, baseline_spectrum, normal_svd

METHODS = ["exact", "covariance", "gram", "randomized"]


def orthonormal(n: int, k: int, generator: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(generator.standard_normal((n, k)))[0]


def planted(n: int, d: int, values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A float64 matrix with the given singular values, and its right singular vectors."""
    generator = np.random.default_rng(seed)
    right = orthonormal(d, len(values), generator)
    return orthonormal(n, len(values), generator) * values @ right.T, right


def normals(n: int, d: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    """Unit rows whose spectrum decays slowly, as that of real normals does."""
    generator = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.7
    rows = (generator.standard_normal((n, d)) * scale) @ orthonormal(d, d, generator)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(dtype)


def largest_sine(first: torch.Tensor, second: np.ndarray) -> float:
    angles = Subspace(first.double()).principal_angles(Subspace(second))
    return float(angles[-1].sin())


# Closed forms


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(90, 40), (40, 90)])
def test_planted_values_and_vectors_are_found(method, shape):
    values = 0.8 ** np.arange(20)
    rows, right = planted(*shape, values)
    svd = normal_svd(rows, rank=5, method=method)
    assert (svd.method, svd.rows, svd.skipped) == (method, shape[0], 0)
    # eps s_1^2 / s for values from a Gram matrix; vectors: eps s_1^2 over the gaps of s^2, > 0.05.
    np.testing.assert_allclose(svd.singular_values, values[:5], rtol=1e-14 / 0.8**8)
    overlap = np.abs(np.sum(svd.directions.numpy() * right[:, :5], axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-13)
    tops = svd.directions.numpy()[np.abs(svd.directions.numpy()).argmax(axis=0), range(5)]
    assert np.all(tops > 0)
    np.testing.assert_allclose(svd.energy, np.sum(values**2), rtol=1e-13)
    assert np.abs(svd.singular_values.numpy() - values[:5]).max() <= svd.error_bound


def test_the_mean_is_not_subtracted():
    svd = normal_svd(np.tile([[0.6, 0.8, 0.0]], (10, 1)), rank=1)
    np.testing.assert_allclose(svd.singular_values, [10**0.5], rtol=1e-14)
    np.testing.assert_allclose(svd.directions[:, 0], [0.6, 0.8, 0.0], atol=1e-15)


@pytest.mark.parametrize("method", ["exact", "covariance", "gram"])
def test_derived_dimensions_of_equal_values(method):
    rows, _ = planted(30, 20, np.full(8, 2.0))
    svd = normal_svd(rows, rank=8, method=method)
    # Twelve values of rounding noise, s^2 ~ eps, add 12 eps log(1 / eps) to the entropy.
    assert svd.effective_rank == pytest.approx(8, rel=1e-11)
    assert svd.participation_ratio == pytest.approx(8, rel=1e-13)
    assert svd.energy_dimensions((0.5 - 1e-9, 0.9, 0.99)) == {0.5 - 1e-9: 4, 0.9: 8, 0.99: 8}
    assert svd.spectrum.shape == (20,)


def test_directions_that_hold_a_share_exactly_are_enough():
    """Of four equal values, two hold a half: sums of whole numbers have no rounding."""
    svd = normal_svd(np.eye(4), rank=4)
    shares = {0.25: 1, 0.5: 2, 0.5 + 1e-9: 3, 0.75: 3, 1.0: 4}
    assert svd.energy_dimensions(tuple(shares)) == shares


def test_all_directions_hold_all_of_the_energy_whatever_rounding_says():
    """The energy is a sum over the rows, the spectrum one of eigenvalues: equal to rounding."""
    for seed in range(20):
        rows = np.random.default_rng(seed).standard_normal((12, 5))
        assert normal_svd(rows, rank=5).energy_dimensions([1.0]) == {1.0: 5}


@pytest.mark.filterwarnings("ignore:normal_svd skipped")
@pytest.mark.parametrize("shape", [(5, 9), (9, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_fewer_directions_are_as_many_as_there_are(method, shape):
    rows = np.random.default_rng(0).standard_normal(shape)
    rows[1] = np.nan
    svd = normal_svd(rows, rank=100, method=method, fewer=True)
    assert svd.directions.shape == (shape[1], 4)
    exact = np.linalg.svd(np.delete(rows, 1, axis=0), compute_uv=False)
    np.testing.assert_allclose(svd.singular_values, exact, rtol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_rank_deficient_rows_still_give_orthonormal_directions(method):
    rows, right = planted(30, 50, np.array([3.0, 2.0, 1.0]))
    rows = rows.astype(np.float32)
    svd = normal_svd(rows, rank=6, method=method)
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False)[:6]
    directions = svd.directions.double().numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(6), atol=1e-5)
    # Zero values are known to sqrt(eps) s_1 at best once squared; eps = 1.2e-7 here.
    np.testing.assert_allclose(svd.singular_values, [3, 2, 1, 0, 0, 0], atol=2e-3)
    assert np.abs(svd.singular_values.numpy() - values).max() <= svd.error_bound
    assert largest_sine(svd.directions[:, :3], right) < 1e-5


# Against NumPy in float64


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(900, 300), (300, 900)])
def test_all_methods_agree_with_float64_lapack(method, shape):
    rows = normals(*shape)
    _, values, right = np.linalg.svd(rows.astype(np.float64), full_matrices=False)
    svd = normal_svd(torch.from_numpy(rows), rank=60, method=method)
    error = np.abs(svd.singular_values.numpy() - values[:60])
    # The figures the project promises for 10,000 x 3,072 normals.
    assert np.max(error / values[:60]) < 1e-6
    assert largest_sine(svd.directions, right[:60].T) < 1e-4
    assert error.max() <= svd.error_bound < 1e-3
    assert svd.directions.dtype == torch.float32
    assert svd.singular_values.dtype == torch.float64
    # Rows have unit norm to float32 rounding, 6e-8 each, averaged.
    assert svd.energy == pytest.approx(shape[0], rel=1e-7)
    if svd.spectrum is not None:
        # Squared values carry eps s_1^2 sqrt(n) at most.
        noise = np.finfo(np.float32).eps * values[0] ** 2 * 300**0.5
        np.testing.assert_allclose(svd.spectrum**2, values**2, atol=noise)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 1000),
    st.sampled_from(METHODS),
    st.booleans(),
)
def test_any_shape_agrees_within_the_bound(n, d, seed, method, single):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    rows = rows.astype(np.float32) if single else rows
    values = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    rank = 1 + seed % min(n, d)
    svd = normal_svd(rows, rank=rank, method=method)
    assert svd.singular_values.shape == (rank,)
    assert svd.directions.shape == (d, rank)
    # LAPACK's own error in the reference: eps s_1 sqrt(n d) at most.
    reference = 2e-16 * values[0] * (n * d) ** 0.5
    assert np.abs(svd.singular_values.numpy() - values[:rank]).max() <= svd.error_bound + reference


def test_float32_products_do_not_accumulate_in_float32():
    # 40,000 equal rows: a float32 sum of 1/7^2 stagnates at a relative error near 1e-4.
    rows = np.full((40_000, 3), 1 / 7, dtype=np.float32)
    svd = normal_svd(rows, rank=1, method="covariance")
    expected = (40_000 * 3) ** 0.5 * float(np.float32(1 / 7))
    np.testing.assert_allclose(svd.singular_values, [expected], rtol=1e-6)


# Files


LAYOUTS = {"contiguous": None, "rows": (7, 300), "columns": (200, 9), "tiles": (32, 32)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_streamed_file_equals_memory(tmp_path, layout, method):
    rows = normals(200, 300, seed=2)
    rows[17] = np.nan
    rows[160, 250] = np.nan
    with h5py.File(tmp_path / "normals.h5", "w") as file:
        dataset = file.create_dataset("normals", data=rows, chunks=LAYOUTS[layout])
        # Room for a few blocks of some rows or columns each; "exact" needs the whole matrix.
        memory = 1 << 30 if method == "exact" else 400_000
        with pytest.warns(UserWarning, match="skipped 2 of 200"):
            streamed = normal_svd(dataset, rank=20, method=method, memory=memory)
    clean = np.delete(rows, [17, 160], axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # With so little memory the Krylov space is too small to be accurate, in memory as well.
        same = "randomized" if method == "randomized" else "exact"
        expected = normal_svd(clean, rank=20, method=same, memory=memory)
    assert (streamed.rows, streamed.skipped) == (198, 2)
    np.testing.assert_allclose(streamed.singular_values, expected.singular_values, rtol=1e-6)
    assert largest_sine(streamed.directions, expected.directions.double().numpy()) < 1e-4
    if streamed.spectrum is not None:
        assert streamed.spectrum.shape == (198,)


MEMORY_SCRIPT = """
import resource, sys, h5py
from geomadv.linalg import normal_svd
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with h5py.File(sys.argv[1]) as file:
    svd = normal_svd(file["normals"], rank=10, method=sys.argv[2], memory=40 << 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize("chunks", [None, (10, 100_000)])
def test_a_file_larger_than_the_memory_is_never_read_whole(tmp_path, chunks):
    path = tmp_path / "wide.h5"
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("normals", (500, 100_000), np.float32, chunks=chunks)
        for start in range(0, 500, 100):
            dataset[start : start + 100] = generator.standard_normal((100, 100_000), np.float32)
    output = subprocess.run(
        [sys.executable, "-c", MEMORY_SCRIPT, str(path), "gram"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    # The file has 191 MiB. The budget, 40 MiB, plus the directions and LAPACK's workspace in
    # their QR (4 x 100,000 x 10 float64, 31 MiB) and code loaded on first use, some 20 MiB.
    assert float(output.stdout) < 120


def test_no_thread_stays_behind():
    before = threading.active_count()
    normal_svd(normals(600, 600), rank=5, method="gram")
    assert threading.active_count() == before


# Choice of method


def test_auto_takes_the_smaller_side_and_randomises_only_without_memory():
    assert normal_svd(normals(60, 40), rank=3).method == "exact"
    tall, wide = normals(700, 600), normals(600, 700)
    assert normal_svd(tall, rank=3).method == "covariance"
    assert normal_svd(wide, rank=3).method == "gram"
    svd = normal_svd(wide, rank=3, memory=4_000_000)
    assert svd.method == "randomized"
    assert svd.spectrum is None
    for name in ("effective_rank", "participation_ratio"):
        with pytest.raises(InputError, match=f"{name}: needs all"):
            getattr(svd, name)
    with pytest.raises(InputError, match="of the 3 known"):
        svd.energy_dimensions()


def test_the_same_seed_gives_the_same_result():
    rows = normals(100, 80)
    first = normal_svd(rows, rank=4, method="randomized", seed=5)
    second = normal_svd(rows, rank=4, method="randomized", seed=5)
    assert torch.equal(first.directions, second.directions)


def test_the_rows_are_not_changed():
    rows = normals(50, 80)
    copy = rows.copy()
    for method in METHODS:
        normal_svd(rows, rank=4, method=method)
    np.testing.assert_array_equal(rows, copy)


# Bad input


@pytest.mark.parametrize("method", METHODS)
def test_bad_rows_are_refused(method):
    rows = normals(20, 10)
    with pytest.raises(InputError, match=r"1 to 10.*20 rows.*found 11"):
        normal_svd(rows, rank=11, method=method)
    with pytest.raises(InputError, match="found 0"):
        normal_svd(rows, rank=0, method=method)
    with pytest.raises(InputError, match="all 20 rows contain NaN"):
        normal_svd(np.full_like(rows, np.nan), rank=1, method=method)
    bad = rows.copy()
    bad[3:, 2] = np.nan
    with pytest.raises(InputError, match=r"1 to 3.*3 rows"):
        normal_svd(bad, rank=4, method=method)
    bad[0, 0] = np.inf
    with pytest.raises(InputError, match="infinite"):
        normal_svd(bad, rank=1, method=method)


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"shape \(N, D\).*found \(5,\)"):
        normal_svd(np.ones(5), rank=1)
    with pytest.raises(InputError, match="floating-point"):
        normal_svd(np.ones((5, 5), dtype=int), rank=1)
    with pytest.raises(InputError, match="method: expected one of"):
        normal_svd(np.ones((5, 5)), rank=1, method="fast")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("a", data=normals(200, 100))
        with pytest.raises(InputError, match="reads the whole dataset"):
            normal_svd(dataset, rank=2, method="exact", memory=10_000)
    with pytest.raises(InputError, match="draws: expected at least 1"):
        baseline_spectrum(4, 4, draws=0)


# Random baseline


@pytest.mark.parametrize(("n", "d"), [(400, 100), (100, 400), (150, 150)])
def test_baseline_fills_the_marchenko_pastur_interval(n, d):
    spectra = baseline_spectrum(n, d, draws=5, seed=1)
    assert spectra.shape == (5, min(n, d))
    assert np.all(np.diff(spectra, axis=1) <= 0)
    # Trace of the Gram matrix of unit rows: N, to float32 rounding.
    np.testing.assert_allclose((spectra**2).sum(axis=1), n, rtol=1e-6)
    # The largest eigenvalue fluctuates about its edge on the Tracy-Widom scale (Johnstone, Annals
    # of Statistics 29, 2001), sigma = (sqrt n + sqrt d)(1/sqrt n + 1/sqrt d)^(1/3) / d for s^2;
    # its law lies in [-6, 4] at these draws. Unit norms instead of Gaussian ones: of lower order.
    edge = (1 + (n / d) ** 0.5) ** 2
    sigma = (n**0.5 + d**0.5) * (n**-0.5 + d**-0.5) ** (1 / 3) / d
    assert np.all(np.abs(spectra[:, 0] ** 2 - edge) < 6 * sigma)
    if n != d:
        low = (1 - (n / d) ** 0.5) ** 2
        scale = abs(n**0.5 - d**0.5) * abs(n**-0.5 - d**-0.5) ** (1 / 3) / d
        assert np.all(np.abs(spectra[:, -1] ** 2 - low) < 6 * scale)
    # Draws differ, but little.
    assert 0 < spectra[:, 0].std() < 3 * sigma


def test_baseline_is_reproducible_and_streams_agree():
    np.testing.assert_array_equal(baseline_spectrum(30, 20, 2, 7), baseline_spectrum(30, 20, 2, 7))
    first, second = baseline_spectrum(30, 20, draws=2, seed=7)
    assert not np.allclose(first, second)
