"""`make kills`: stops `geomadv` on the digits at random moments, and on small disks; it goes on.

Every experiment, the figures, claims, reports, comparisons and a training are killed some times
each and then run to their end. What ends as an undisturbed run does, to the bit, with the same
files and nothing beside them, has lost nothing.
"""

import argparse
import ctypes
import importlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from faults.study import SETTINGS
from PIL import Image

from geomadv import load
from geomadv.cli import main
from geomadv.networks.cache import check_cached
from geomadv.pipeline import EXPERIMENTS
from geomadv.results.agreement import DURATION, IDENTICAL, agreements
from geomadv.results.files import check_file

_RESULTS = "results/digits-cnn"
_FEW = ("--settings", "../few.toml", "--progress", "off")
_OTHER = ("--network", "digits-relu", "--results", "other")
# Of two runs of the same question these alone differ: attributes, and what pages say of them.
_TIMES = ("created", "wall_time_s")
_TIMES_TOLD = re.compile(rb"\d{4}-\d\d-\d\dT[\d:+]+|[\d.]+ s\b")
_DISKS = [round(2**14 * 1.7**k) for k in range(12)]  # bytes: of a text, to more than is needed
_ON_DISK = ("train", "boundary", "normal_svd")
_NEW_MOUNTS = 0x20000  # CLONE_NEWNS of Linux


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Attributes:
        words: of its command line.
        kills: how many.
        makes: below the folder it runs in, what it writes.
        imports: whether it runs as a program of its own, so that kills may meet its imports.
    """

    words: tuple[str, ...]
    kills: int
    makes: str
    imports: bool = False


JOBS = {
    **{e.name: Job(("run", e.name, *_FEW), 3, f"{_RESULTS}/{e.name}.*") for e in EXPERIMENTS},
    "figures": Job(("figures",), 8, f"{_RESULTS}/figures"),
    "claims": Job(("claims",), 4, f"{_RESULTS}/claims.*"),
    "report": Job(("report",), 6, f"{_RESULTS}/report.html"),
    "other": Job(("run", "train", "boundary", *_FEW, *_OTHER), 3, "other/*"),
    "compare": Job(("compare", _RESULTS, "other/digits-relu"), 6, "compare"),
    "training": Job(
        ("check", "--network", "digits-relu", "--progress", "off"), 6, "cache/*/*relu*"
    ),
    "paper": Job(("paper", *_FEW, "--results", "paper"), 10, "paper/*"),
    "imports": Job(("run", "train", *_FEW, "--results", "imports"), 6, "imports/*", imports=True),
}


# Whether files are whole


def _ends(path: Path, end: bytes) -> None:
    if not path.read_bytes().rstrip().endswith(end):
        raise ValueError(f"does not end in {end!r}")


def _decoded(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


_WHOLE: dict[str, Callable[[Path], object]] = {
    ".h5": check_file,
    ".png": _decoded,
    ".pdf": partial(_ends, end=b"%%EOF"),
    ".html": partial(_ends, end=b"</html>"),
    ".json": lambda path: json.loads(path.read_text()),
    ".csv": lambda path: _ends(path, b""),
    ".md": lambda path: _ends(path, b""),
    ".safetensors": check_cached,
}


@cache
def _fault_of(path: Path, state: tuple[int, int, int]) -> str:
    """Why a file under a final name is not whole; "" for one that is. state: see below."""
    try:
        _WHOLE[path.suffix](path)
    except KeyError:
        return f"{path}: nobody expects it"
    except Exception as error:
        return f"{path}: {error}"
    return "" if state[0] else f"{path}: empty"


def partial_files(folder: Path) -> list[str]:
    """What is wrong with the files that carry final names."""
    found = []
    for path in _files(folder):
        if not _is_temporary(path):
            status = path.stat()
            found.append(_fault_of(path, (status.st_size, status.st_mtime_ns, status.st_ino)))
    return [*filter(None, found)]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") or any(part.endswith(".partial") for part in path.parts)


def differences(folder: Path, other: Path) -> list[str]:
    """What is otherwise in a folder than in that of an undisturbed run: files, or a bit of one."""
    names, expected = ({str(p.relative_to(at)) for p in _files(at)} for at in (folder, other))
    left = [f"{folder / name}: left over" for name in sorted(names - expected)]
    left += [f"{folder / name}: missing" for name in sorted(expected - names)]
    same = sorted(names & expected)
    return left + [line for name in same for line in _differing(folder / name, other / name)]


def _differing(path: Path, other: Path) -> list[str]:
    if path.suffix == ".safetensors":  # beside the tensors it says how long the training took
        found, expected = (check_cached(p)[0].entries for p in (path, other))
        return [f"{path}: {n}" for n in expected if not found[n].value.equal(expected[n].value)]
    if path.suffix != ".h5":
        told = (_TIMES_TOLD.sub(b"", p.read_bytes()) for p in (path, other))
        return [] if next(told) == next(told) else [f"{path}: other bytes"]
    found, expected = load(path), load(other)
    wrong = [a for a in agreements(expected, found) if a.verdict not in (IDENTICAL, DURATION)]
    texts = [n for n in expected.attrs if n not in _TIMES]
    changed = [n for n in texts if str(found.attrs.get(n)) != str(expected.attrs[n])]
    return [f"{path}: {line}" for line in (*map(str, wrong), *changed)]


# Running and killing


# What is done in the process of a command before it, which gives what is done after it.
_Around = Callable[[], Callable[[], object]]


def _nothing() -> Callable[[], object]:
    return lambda: None


def _beside(place: Path, word: str) -> Path:
    return place.with_name(f"{place.name}-{word}")


def _begin(job: Job, place: Path, around: _Around) -> int:
    """Starts a command in a place; the id of its process."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 99
    try:  # nothing of this process may run on in the new one
        os.chdir(place)
        os.environ["GEOMADV_CACHE"] = str(place / "cache")
        os.environ["TMPDIR"] = tempfile.tempdir = str(_beside(place, "temporary"))
        for number, file in ((1, os.devnull), (2, _beside(place, "log"))):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
        if job.imports:
            os.execv(sys.executable, [sys.executable, "-m", "geomadv", *job.words])
        finish = around()
        status = main(job.words)
        finish()
        sys.stderr.flush()
    except BaseException as error:
        print(f"Traceback: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def ended(
    job: Job, place: Path, kill: tuple[float, int] | None = None, around: _Around = _nothing
) -> tuple[int, str]:
    """Runs a command in a place; its status (negative: the signal that ended it) and stderr.

    kill: after how many seconds, and the signal.
    around: what is done in its process before and after it.
    """
    place.mkdir(parents=True, exist_ok=True)
    _beside(place, "temporary").mkdir(exist_ok=True)
    process, started = _begin(job, place, around), time.monotonic()
    while kill and time.monotonic() - started < kill[0]:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.002)
    else:
        if kill:
            os.kill(process, kill[1])
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status, _beside(place, "log").read_text(errors="replace")


def _misdone(job: Job, number: int, status: int, said: str) -> list[str]:
    """What is wrong with how a killed process ended."""
    wrong = ["a traceback: " + said[-1500:]] if "Traceback" in said else []
    if number == signal.SIGKILL:
        return wrong + [f"status {status}"] * (status != -number)
    if job.imports and status == -number and not said:  # before there is anything of ours
        return wrong
    told = said.splitlines().count("stopped; the same command continues where it was")
    if (status, told, len(said.splitlines())) != (128 + number, 1, 1):
        wrong.append(f"status {status} of signal {number}, and said {said[-300:]!r}")
    return wrong


def killed(job: Job, place: Path, seconds: float, draw: random.Random) -> tuple[int, list[str]]:
    """Kills a command at random moments until it has ended; how many kills met it, and faults."""
    kills, faults = 0, []
    while kills < job.kills:
        number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
        moment = draw.uniform(0.02, max(0.1, 1.5 * seconds / job.kills))
        status, said = ended(job, place, (moment, number))
        faults += partial_files(place)
        if status == 0:
            break
        kills += 1
        faults += _misdone(job, number, status, said)
    return kills, faults


# Series


def undisturbed(job: Job, place: Path) -> tuple[float, list[str]]:
    """Runs a command to its end; its seconds, and what was wrong."""
    started = time.monotonic()
    status, said = ended(job, place)
    faults = [] if status == 0 else [f"undisturbed: status {status}: {said[-1500:]}"]
    return time.monotonic() - started, faults


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def series(name: str, folder: Path, seed: int) -> tuple[int, list[str]]:
    """Runs a job undisturbed in one place and killed in another, and compares what they wrote."""
    job, draw = JOBS[name], random.Random(f"{name} {seed}")
    whole, place = folder / "whole", folder / "killed"
    _remove([*whole.glob(job.makes), *place.glob(job.makes)])
    seconds, faults = undisturbed(job, whole)
    kills = 0
    for _ in range(3):  # a command may be faster than its moment
        met, wrong = killed(replace(job, kills=job.kills - kills), place, seconds, draw)
        kills, faults = kills + met, faults + wrong
        if kills >= job.kills:
            break
        _remove([*place.glob(job.makes)])
    faults += undisturbed(job, place)[1]
    return kills, faults + _lost(place, whole)


def _lost(place: Path, whole: Path) -> list[str]:
    """What a finished command should not have left, or should have."""
    strays = [f"{path}: left over" for path in _files(_beside(place, "temporary"))]
    return partial_files(place) + differences(place, whole) + strays


# Small disks


def _small_disk(place: Path, size: int) -> Callable[[], object]:
    """Puts a disk of so many bytes where this process works, for it alone."""
    if ctypes.CDLL(None).unshare(_NEW_MOUNTS):
        raise OSError("no mounts of its own")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    os.chdir(place)
    return partial(shutil.copytree, place, _beside(place, "kept"))


def _small_files(place: Path, size: int) -> Callable[[], object]:
    """Lets no file of this process grow beyond so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    def keep() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        shutil.copytree(place, _beside(place, "kept"))

    return keep


def disks_can_be_small() -> bool:
    """Whether this process may mount disks; else files are small instead."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )


def small_disk(size: int, folder: Path) -> tuple[int, list[str]]:
    """Runs experiments on a disk of so many bytes, then where there is room: refusals, faults."""
    job = Job(("run", *_ON_DISK, *_FEW), 0, "")
    small, whole = folder / f"disk-{size}", folder / "disk-whole"
    faults = [] if whole.exists() else undisturbed(job, whole)[1]
    for path in (small, kept := _beside(small, "kept")):
        shutil.rmtree(path, ignore_errors=True)
    fill = _small_disk if disks_can_be_small() else _small_files
    status, said = ended(job, small, around=partial(fill, small, size))
    refused = status == 2 and "error: " in said and "Traceback" not in said
    if not refused and status:
        faults.append(f"status {status}: {said[-1500:]}")
    if not kept.exists():
        return refused, [*faults, "nothing kept"]
    faults += partial_files(kept)
    faults += undisturbed(job, kept)[1]
    return refused, faults + _lost(kept, whole)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(v)}' for key, v in value.items())}}}"
    return json.dumps(value)


def _prepare(folder: Path) -> None:
    """Writes the settings, and imports what every process would import again."""
    for module in ("pipeline.commands", "plotting", "experiments", "pipeline.report"):
        importlib.import_module(f"geomadv.{module}")
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"{name} = {_toml(settings)}\n" for name, settings in SETTINGS.items())
    (folder / "few.toml").write_text("".join(lines))


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[*JOBS, *map(str, _DISKS)])
    parser.add_argument("--folder", type=Path, help="keeps what is done, to go on from it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        _prepare(folder)
        done = folder / f"done-{arguments.seed}.jsonl"
        lines = [*map(json.loads, done.read_text().splitlines())] if done.exists() else []
        for name in arguments.only:
            if name in [line["name"] for line in lines]:
                continue
            work = (
                partial(small_disk, int(name))
                if name not in JOBS
                else partial(series, name, seed=arguments.seed)
            )
            kills, faults = work(folder=folder)
            lines.append({"name": name, "stops": int(kills), "faults": faults})
            print(lines[-1], flush=True)
            with done.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    stops = [
        sum(x["stops"] for x in lines if (x["name"] in JOBS) == kind) for kind in (True, False)
    ]
    faults = [fault for line in lines for fault in line["faults"]]
    where = "disks" if disks_can_be_small() else "limits of files"
    print(
        f"{stops[0]} kills, {stops[1]} refusals of {len(_DISKS)} small {where}, "
        f"{len(faults)} faults"
    )
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    _main()
