"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent

# Files of minutes, first: the processes that share the files then end together.
LONG = ("test_pipeline_edges", "test_experiments_curvature", "test_cli", "test_wheel")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the others in their order."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@pytest.fixture(autouse=True)
def _same_draws_in_any_order() -> None:
    """Weights that a test does not seed are those of the test alone."""
    torch.manual_seed(0)


def _find_data() -> Path | None:
    """The folder of real data: GEOMADV_DATA, else the one beside the checkout's parent."""
    named = os.environ.get("GEOMADV_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data and pretrained weights; skips where there are none."""
    folder = _find_data()
    if folder is None:
        pytest.skip("real data not found: set GEOMADV_DATA to a folder with mnist/, cifar10/, ...")
    return folder


@pytest.fixture
def real_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Like data_dir, and GEOMADV_DATA points there for the time of the test."""
    monkeypatch.setenv("GEOMADV_DATA", str(data_dir))
    return data_dir
