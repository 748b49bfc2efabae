"""A small study of the digits whose files are edited or damaged: how it is made, and what reads it.

The results are those in the cache (`prepare` puts all experiments there), else of a few.
"""

import contextlib
import io
import os
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from small_runs import SMALL, small_runner

import geomadv as ga
from geomadv.cli import main
from geomadv.errors import InputError
from geomadv.files.download import RemoteFile, _unpack
from geomadv.files.places import cache_dir
from geomadv.pipeline import EXPERIMENTS

FEW = ("train", "tilting_toy")
# Counts that take a second; of all networks and classes the first.
SETTINGS: dict[str, dict[str, Any]] = SMALL | {
    "curvature": {"classes": ["0"], "count": 10},
    "normal_section": {"count": 2, "steps": 3},
    "decision_plane": {"count": 1, "steps": 3, "second": ["runner-up"]},
    "categories": {"networks": [], "count": 4, "norms": 2, "draws": 1, "passes": 1},
    "confined_deepfool": {"count": 4, "dimensions": [4, 64], "draws": 1},
}
_FOLDER = Path("results/digits-cnn")


def place() -> Path:
    """Where the study lies."""
    return cache_dir() / "study"


def run_command(words: Sequence[str]) -> int:
    """Runs it in this process; whatever is not a status of 0 to 2 is a fault."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status: Any = main(words)
        except SystemExit as end:
            status = end.code
    if status not in (0, 1, 2) or "Traceback" in said.getvalue():
        raise AssertionError(f"{words}: status {status}: {said.getvalue()[-300:]}")
    return 0


def prepare(names: Sequence[str]) -> None:
    """Computes results of experiments, and their figures and report, for all attempts to come."""
    results = place() / "results"
    for name in names:
        small_runner(results, given=SETTINGS).run(name)
    if len(names) > len(FEW):
        run_command(["figures", str(results / _FOLDER.name)])


@cache
def _contents(at: Path) -> dict[str, bytes]:
    if not (at / _FOLDER).exists():
        prepare(FEW)
    return {str(p.relative_to(at)): p.read_bytes() for p in at.rglob("*") if p.is_file()}


def make(folder: Path, kind: str = ".h5") -> list[Path]:
    """Writes the study; gives its files of a kind."""
    for name, content in _contents(place()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return [*folder.rglob(f"*{kind}")]


def _touched(folder: Path) -> list[Path]:
    """The files that are not as they were written."""
    whole = _contents(place())
    return [
        folder / name for name, content in whole.items() if (folder / name).read_bytes() != content
    ]


def _readings(folder: Path) -> list[Callable[[], object]]:
    """All that takes one result, of one that was changed."""
    (path,) = _touched(folder) or [folder / _FOLDER / "train.h5"]
    ds = ga.load(path)
    readings: list[Callable[[], object]] = [
        partial(run_command, [word, str(path)]) for word in ("show", "verify")
    ]
    readings += [
        partial(ga.to_dataframe, ds, *name) for name in ((), *((n,) for n in ds.data_vars))
    ]
    readings += [partial(ga.export_perturbation, ds, folder / f"a.{end}") for end in ("npy", "pt")]
    return [*readings, partial(run_command, ["claims", str(path.parent)])]


def read_one(folder: Path) -> int:
    """Shows, verifies and hands over a result, and answers claims."""
    for reading in _readings(folder):
        with contextlib.suppress(InputError):
            reading()
    return 0


def read_figures(folder: Path) -> int:
    """Draws the figures of the result that was changed."""
    changed = [path.stem for path in _touched(folder)]
    names = [n for e in EXPERIMENTS if e.name in changed for n in e.figures]
    return run_command(["figures", str(folder / _FOLDER), "--only", *names]) if names else 0


def read_pages(folder: Path) -> int:
    """A report of all, and a comparison with what was never changed."""
    run_command(["report", str(folder / _FOLDER)])
    whole = place() / _FOLDER
    return run_command(["compare", str(folder / _FOLDER), str(whole), "--to", str(folder / "c")])


def run_again(folder: Path) -> int:
    """Reproduces the result that was changed, and computes what starts from it."""
    for path in _touched(folder):
        run_command(["reproduce", str(path), "--progress", "off"])
        after = [e.name for e in EXPERIMENTS if path.stem in (*e.inputs, *e.optional)]
        for name in after[:1]:
            os.chdir(folder)
            path.with_name(f"{name}.h5").unlink(missing_ok=True)
            run_command(["run", name, "--progress", "off"])
    return 0


# Downloaded archives


def pack(folder: Path, name: str) -> list[Path]:
    """Writes an archive of two files in a folder."""
    (folder / "data").mkdir()
    for k in range(2):
        (folder / f"data/{k}.bin").write_bytes(random.Random(k).randbytes(500))
    path = folder / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for file in sorted((folder / "data").iterdir()):
                zipped.write(file, f"data/{file.name}")
    else:
        with tarfile.open(path, f"w:{path.suffix[1:]}") as tar:
            tar.add(folder / "data", "data")
    shutil.rmtree(folder / "data")
    return [path]


def unpack(folder: Path, name: str) -> int:
    """Unpacks it; what is not inside the folder then is a fault."""
    (folder / "to").mkdir()
    before = {*folder.parent.iterdir()}
    _unpack(RemoteFile(f"https://x/{name}"), folder / name, folder / "to")
    if {*folder.parent.iterdir()} != before:
        raise AssertionError("unpacked outside of its folder")
    return sum(path.stat().st_size for path in (folder / "to").rglob("*"))
