"""Reads damaged files one after the other in a process of its own, and says what came of each."""

import faulthandler
import json
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from faults.subjects import SUBJECTS, prepared

from geomadv.errors import InputError

SECONDS = 30
FREE_BYTES = 200_000_000
MULTIPLE = 3


def peak_since(start: int | None = None) -> int:
    """Bytes of memory in use; with what an earlier call gave, how many more were in use at most."""
    kind = "VmHWM" if start is not None else "VmRSS"
    if not Path("/proc/self/clear_refs").exists():  # of Linux
        return 0
    if start is None:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]
    return 1024 * int(status) - (start or 0)


def usual(name: str, folder: Path) -> tuple[float, int]:
    """Seconds and bytes that an undamaged file takes; nothing of what only reads."""
    if not SUBJECTS[name].works:
        return 0.0, 0
    prepared(name, folder)
    before, started = peak_since(), time.perf_counter()
    SUBJECTS[name].read(folder)
    return time.perf_counter() - started, peak_since(before)


def attempt(name: str, seed: int, number: int, folder: Path, memory: int = 0) -> str:
    """Damages a file and reads it: "read", "refused", or what went wrong.

    memory: bytes that it may take beside the bound.
    """
    draw = random.Random(f"{name} {seed} {number}")
    SUBJECTS[name].damage(draw.choice(sorted(prepared(name, folder))), draw)
    before, decoded = peak_since(), 0
    try:
        decoded = SUBJECTS[name].read(folder)
        outcome = "read"
    except InputError:
        outcome = "refused"
    except BaseException:
        outcome = "TRACEBACK " + json.dumps(traceback.format_exc()[-1500:])
    peak = peak_since(before) - MULTIPLE * decoded - memory
    return f"MEMORY {peak / 1e6:.0f} MB ({outcome})" if peak > FREE_BYTES else outcome


def counted(name: str, seed: int, count: int) -> tuple[Counter[str], list[str]]:
    """How the attempts ended, and what went wrong; a process that ends early is begun again."""
    found, faults, first = Counter[str](), [], 0
    while first < count:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "faults.harness", name, str(seed), str(first)]
            done = subprocess.run(
                [*command, str(count), f"{folder}/it"],
                capture_output=True,
                text=True,
                check=False,
                cwd=Path(__file__).parent.parent,
            )
        lines = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
        ended = [line for line in lines if not line.endswith(" begins")]
        for line in ended:
            word = line.split()[1]
            found[word] += 1
            if word.isupper():
                faults.append(f"{name} {line}")
        last = lines[-1] if lines else f"{first} begins"
        first = int(last.split()[0]) + 1
        if last.endswith(" begins"):
            word = "HANG" if "Timeout" in done.stderr else "CRASH"
            found[word] += 1
            faults.append(f"{name} {last} {word} {json.dumps(done.stderr[-1500:])}")
    return found, faults


def _main(name: str, seed: int, first: int, count: int, folder: Path) -> None:
    seconds, memory = usual(name, folder)
    for number in range(first, count):
        faulthandler.dump_traceback_later(SECONDS + 3 * seconds, exit=True)
        print(number, "begins", file=sys.__stdout__, flush=True)
        found = attempt(name, seed, number, folder, memory)
        print(number, found, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    word, *numbers, place = sys.argv[1:]
    _main(word, *map(int, numbers), Path(place))
