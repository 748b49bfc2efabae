"""The wheel alone, from an empty folder: the command, figures, and `ga.run`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
