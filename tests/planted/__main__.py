"""`make mutants`: puts the faults of the table in, one at a time; counts those that tests catch."""

import argparse
import functools
import gc
import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from planted.table import TABLE

REPOSITORY = Path(__file__).resolve().parents[2]
# Of the tests of one fault; an endless loop is a fault that was noticed.
SECONDS = 900
# Imported once: what every run of tests needs, but geomadv.
HEAVY = (
    "torch",
    "xarray",
    "scipy.linalg",
    "sklearn.svm",
    "h5py",
    "hypothesis",
    "matplotlib.pyplot",
)


# Pytest without what finds no fault and takes a second of every run.
BARE = (
    *("-x", "--assert=plain", "--override-ini=addopts=-q"),
    *("-pno:cacheprovider", "-pno:xdist", "-pno:unraisableexception"),
)


class QuickFirst:
    """Notes how long tests take, and takes those first that were quick when nothing was wrong."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes
        self.known = json.loads(notes.read_text()) if notes.exists() else {}
        self.seconds: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.known:
            items.sort(key=lambda item: self.known.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        if not self.known:
            self.notes.write_text(json.dumps(self.seconds))


def run(copy: Path, files: list[str], notes: Path) -> None:
    """The exit status is pytest's; in a process of its own."""
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)  # of the processes that tests start
    sys.path.insert(0, str(copy))
    with (copy.parent / "said").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    os._exit(pytest.main([*BARE, *files], plugins=[QuickFirst(notes)]))


def status(copy: Path, tests: str) -> int | None:
    """Pytest's exit status, or None where the tests did not end."""
    files = [str(next(copy.glob(f"tests/**/test_{name}.py"))) for name in tests.split()]
    notes = copy.parent / f"{tests}.json"
    process = multiprocessing.get_context("fork").Process(target=run, args=(copy, files, notes))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


@functools.cache
def check_without_fault(copy: Path, tests: str) -> None:
    """Makes sure that the tests pass, and notes how long they take."""
    if status(copy, tests) != 0:
        said = (copy.parent / "said").read_text()
        raise SystemExit(f"{said}\nthese tests fail without any fault: {tests}")


def survivors(copy: Path, name: str) -> tuple[int, list[str]]:
    """How many faults of a file were tried, and those that no test noticed."""
    tests, changes = TABLE[name]
    check_without_fault(copy, tests)
    path, found = copy / "geomadv" / name, []
    source = path.read_text()
    for old, new in changes.items():
        path.write_text(source.replace(old, new))
        caught = status(copy, tests) != 0
        print("caught  " if caught else "SURVIVED", f"{name}: {old!r} -> {new!r}", flush=True)
        found += [] if caught else [f"{name}: {old!r} -> {new!r}"]
    path.write_text(source)
    return len(changes), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="files of geomadv, or their folders")
    only = parser.parse_args().only
    for module in HEAVY:
        importlib.import_module(module)
    gc.freeze()  # Collections of the processes need not go through all of it.
    # Files of bytecode do not tell sources of the same second and size apart.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    tried, lived = 0, []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "geomadv"
        for kept in ("geomadv", "tests", "analysis", "figures", "pyproject.toml", "README.md"):
            source = REPOSITORY / kept
            make = shutil.copytree if source.is_dir() else shutil.copyfile
            copy.mkdir(exist_ok=True)
            make(source, copy / kept)
        for name in TABLE:
            if not only or any(name.startswith(start) for start in only):
                count, found = survivors(copy, name)
                tried, lived = tried + count, lived + found
    print(f"\n{tried - len(lived)} of {tried} faults caught")
    print("\n".join(lived))
    raise SystemExit(bool(lived))


if __name__ == "__main__":
    main()
