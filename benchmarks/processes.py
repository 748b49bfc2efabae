"""Two processes of one thread each beside one process of two threads, on the same experiments.

Times are those that the results state of themselves: without the start of the processes, and
without what an experiment starts from.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tyro

import geomadv as ga

# How fast two processes should be, as a share of one with two threads.
GOAL = 0.9


@dataclass
class Flags:
    """Settings of the benchmark."""

    networks: tuple[str, ...] = ("digits-cnn", "lenet-mnist", "resnet20-cifar10")
    """Networks to measure."""
    count: tuple[int, ...] = (1700, 2000, 500)
    """Images that boundary points start from, per network."""
    experiments: tuple[str, ...] = ("boundary", "random_subspace_fooling", "universal")
    """Experiments to measure."""
    flags: str = ""
    """Further flags of `geomadv run`."""
    repetitions: int = 3
    """Interleaved repetitions."""
    processes: int = 2
    """Processes, and threads of the one beside them."""


def run(
    flags: Flags, network: str, count: int, launch: list[str], threads: int
) -> dict[str, float]:
    """Seconds of every experiment as its result states them."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["geomadv", "run", *flags.experiments, "--network", network, "--results", folder]
        command += ["--boundary.count", str(count), "--quiet", *flags.flags.split()]
        subprocess.run(
            [sys.executable, "-m", *launch, *command],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        files = {name: next(Path(folder).rglob(f"{name}.h5")) for name in flags.experiments}
        return {name: float(ga.load(file).attrs["wall_time_s"]) for name, file in files.items()}


def main(flags: Flags) -> None:
    """Prints one line per network and experiment."""
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={flags.processes}", "-m"]
    print(
        f"{'':18}{'experiment':26}one process s  {flags.processes} processes s  share (goal {GOAL})"
    )
    for network, count in zip(flags.networks, flags.count, strict=True):
        one, several = [], []
        for _ in range(flags.repetitions):
            one.append(run(flags, network, count, [], flags.processes))
            several.append(run(flags, network, count, launch, 1))
        for name in flags.experiments:
            share = median(a[name] / b[name] for a, b in zip(one, several, strict=True))
            seconds = [median(times[name] for times in each) for each in (one, several)]
            print(
                f"{network:18}{name:26}{seconds[0]:13.2f}{seconds[1]:15.2f}{share:8.2f}", flush=True
            )


if __name__ == "__main__":
    main(tyro.cli(Flags))
