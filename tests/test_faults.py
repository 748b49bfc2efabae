"""Damaged and hostile files: refused by name or read, and cheap. `make faults` does far more."""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults import kills, study
from faults.bombs import BOMBS
from faults.harness import FREE_BYTES, MULTIPLE, attempt
from faults.subjects import SUBJECTS, prepared
from PIL import Image

from geomadv.framing import Framing
from geomadv.images import folder
from geomadv.images.formats import read_idx

# Whose reading takes a second, or needs a process of its own.
SLOW = ("hdf5-texts", "result-unsealed", "settings")


OF_STUDIES = [n for n, s in SUBJECTS.items() if getattr(s.make, "func", s.make) is study.make]


@pytest.mark.parametrize("name", [n for n in SUBJECTS if n not in OF_STUDIES])
def test_damage_is_refused_or_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEOMADV_CACHE", str(tmp_path / "cache"))
    prepared(name, tmp_path / "whole")
    SUBJECTS[name].read(tmp_path / "whole")
    outcomes = {attempt(name, 7, k, tmp_path / "it") for k in range(1 if name in SLOW else 12)}
    assert outcomes <= {"read", "refused"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.mark.parametrize(("name", "count"), [("edited", 4), ("edited-figures", 1)])
def test_edits_are_refused_or_read(
    name: str, count: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "place", lambda: place)
    outcomes = {attempt(name, 7, k, tmp_path / "it") for k in range(count)}
    assert outcomes <= {"read", "refused"}


def test_a_killed_command_ends_as_an_undisturbed_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "place", lambda: place)
    kills._prepare(tmp_path)
    folder = "results/digits-cnn"
    job = kills.Job(("figures", folder, "--only", "tilting_toy"), 2, f"{folder}/figures")
    monkeypatch.setitem(kills.JOBS, "these", job)
    for where in ("whole", "killed"):
        study.make(tmp_path / where)
    met, faults = kills.series("these", tmp_path, seed=1)
    assert faults == []
    assert met <= 2
    figure = tmp_path / "killed" / folder / "figures/tilting_toy.png"
    figure.write_bytes(figure.read_bytes()[:2000])
    figure.with_name("seven.csv").write_text("7")
    found = "\n".join(kills.partial_files(tmp_path / "killed"))
    assert "tilting_toy.png" in found
    assert "seven" not in found
    found = "\n".join(kills.differences(tmp_path / "killed", tmp_path / "whole"))
    assert "tilting_toy.png: other bytes" in found
    assert "seven.csv: left over" in found


def test_how_a_killed_command_ends_is_judged() -> None:
    job, line = kills.Job((), 1, ""), "stopped; the same command continues where it was\n"
    assert kills._misdone(job, signal.SIGTERM, 143, line) == []
    assert kills._misdone(job, signal.SIGKILL, -9, "") == []
    for status, said in (
        (143, ""),
        (143, 2 * line),
        (1, line),
        (-15, ""),
        (143, f"Traceback\n{line}"),
    ):
        assert kills._misdone(job, signal.SIGTERM, status, said)


@pytest.fixture(scope="module")
def costs() -> Mapping[str, Mapping[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "faults.bombs"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", BOMBS)
def test_cost_is_bounded_by_what_is_asked_for(
    name: str, costs: Mapping[str, Mapping[str, Any]]
) -> None:
    found, refused = costs[name], BOMBS[name][-1]
    assert found["words"].startswith("refused: " if refused else "read")
    assert " is an image" not in found["words"]
    assert found["peak"] <= MULTIPLE * found["asked"] + FREE_BYTES
    assert found["s"] < 10


def test_a_plain_file_is_held_once(tmp_path: Path) -> None:
    """NumPy tells tracemalloc of its arrays."""
    import tracemalloc

    size = 64 * 2**20
    path = tmp_path / "labels"
    path.write_bytes(b"\0\0\x08\x01" + size.to_bytes(4, "big") + bytes(size))
    tracemalloc.start()
    try:
        assert len(read_idx(path)[0]) == size
        assert tracemalloc.get_traced_memory()[1] < 1.6 * size  # and two blocks of 16 MiB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(3, 400), (40, 700), (700, 33), (1, 64)])
def test_long_images_are_cropped_first(
    method: Any, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    framing, image = Framing((14, 14), interpolation=method), Image.fromarray(pixels)
    cropped = np.asarray(folder._framed(image, framing)).astype(int)
    monkeypatch.setattr(folder, "_LONG", np.inf)
    whole = np.asarray(folder._framed(image, framing)).astype(int)
    assert cropped.shape == whole.shape == (14, 14, 3)
    # The same to rounding, which may take a pixel more to a sum; nearest and box have jumps there.
    differing = np.abs(cropped - whole) > 4
    assert differing.mean() < (0.2 if method in ("nearest", "box") else 1e-9)
