"""The wheel alone, from an empty folder: the command, figures, and `ga.run`."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import geomadv as ga

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which the wheel, and nothing else of the repository, is installed."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*build, str(REPOSITORY)], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
    return target


def test_the_wheel_brings_command_figures_and_python(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def python(*words):
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    paper = ("--only", "normal_svd", "--boundary.count", "40")
    out = python("-m", "geomadv", "paper", "--network", "digits-cnn", *paper)
    assert "normal_spectrum.pdf" in out
    assert "report.html" in out
    folder = tmp_path / "results" / "digits-cnn"
    assert (folder / "figures" / "normal_spectrum.png").stat().st_size > 5000
    code = f"""
import geomadv as ga
from geomadv.cli import main
assert main(["figures", {str(folder)!r}]) == 0
assert main(["show", {str(folder / "normal_svd.h5")!r}]) == 0
print(ga.__file__, dict(ga.run("normal_svd").sizes))
"""
    (folder / "figures" / "normal_spectrum.png").unlink()
    out = python("-c", code)
    assert (folder / "figures" / "normal_spectrum.png").stat().st_size > 5000
    assert "geomadv run normal_svd" in out
    assert str(installed) in out.splitlines()[-1]


def test_what_is_built_twice_is_the_same_and_the_source_holds_its_tests(tmp_path):
    for name in ("one", "two"):
        build = [sys.executable, "-m", "hatchling", "build", "--directory", str(tmp_path / name)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run(build, cwd=REPOSITORY, check=True, env=environment, capture_output=True)
    made = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert [name.split("-")[-1] for name in made] == ["any.whl", f"{ga.__version__}.tar.gz"]
    for name in made:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with tarfile.open(tmp_path / "one" / made[1]) as source:
        held = {name.partition("/")[2] for name in source.getnames()}
    assert {Path(__file__).relative_to(REPOSITORY).as_posix(), "docs/explore.ipynb"} <= held
    assert {"Makefile", "requirements.lock", "README.md", "tests/conftest.py"} <= held
