"""Damaged and hostile files: refused by name or read, and cheap. `make faults` does far more."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.bombs import BOMBS
from faults.harness import FREE_BYTES, MULTIPLE, attempt
from faults.subjects import SUBJECTS, prepared
from PIL import Image

from geomadv.framing import Framing
from geomadv.images import folder
from geomadv.images.formats import read_idx

# Whose reading takes a second, or needs a process of its own.
SLOW = ("hdf5-texts", "result-unsealed", "settings")


@pytest.mark.parametrize("name", SUBJECTS)
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
