"""The table of `make mutants` fits the sources: every fault can still be put in."""

from pathlib import Path

import pytest
from planted.table import TABLE

TESTS = Path(__file__).resolve().parent
ROOMS = {"linalg", "boundary", "perturbations", "claims", "curvature", "experiments", "results"}


@pytest.mark.parametrize("name", TABLE)
def test_every_fault_fits_its_file(name: str) -> None:
    tests, changes = TABLE[name]
    source = (TESTS.parent / "geomadv" / name).read_text()
    for old, new in changes.items():
        assert source.count(old) == 1, old
        compile(source.replace(old, new), name, "exec")
    assert all([*TESTS.rglob(f"test_{test}.py")] for test in tests.split())


def test_the_table_covers_the_rooms_of_mathematics_and_of_results() -> None:
    assert {name.split("/")[0] for name in TABLE} >= ROOMS | {"files"}
    assert sum(len(changes) for _, changes in TABLE.values()) >= 100
