"""How time and memory grow with points N, pixels D, directions k and processes.

Every row is measured in processes of its own and added to a CSV file at once; the same command goes
on where it was stopped. Exponents are slopes of least squares in logarithms, with standard error.
"""

from __future__ import annotations

import csv
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from scipy.stats import linregress
from threadpoolctl import threadpool_limits
from torch import nn

import geomadv as ga
from geomadv import distributed
from geomadv.plotting.figure import heading, legend, panels, save_figure
from geomadv.plotting.style import PAGE, style
from geomadv.results import SharedKeep, Store

# What takes less is repeated, and the median taken.
_SHORTEST = 0.2
# A process that is forked need not import torch again.
_FORK = multiprocessing.get_context("fork")
# MiB below which what the allocator holds back says nothing.
_NOISE = 4.0
# Images in a part.
_PART = 16


@dataclass(frozen=True)
class Row:
    """One measurement: what, along which axis, at which size."""

    work: str
    axis: str
    N: int
    D: int
    k: int
    processes: int = 1


@dataclass(frozen=True)
class Cost:
    """What it took: CPU seconds of the main process, wall seconds, MiB beyond the idle process."""

    cpu: float
    wall: float
    memory: float


def network(dimension: int) -> ga.Classifier:
    """A smooth network of one convolution, whose passes take a time proportional to D."""
    side = round(dimension**0.5)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 5, padding=2), nn.Softplus(), nn.AdaptiveAvgPool2d(4)]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    return ga.Classifier(module, (1, side, side), name="one convolution")


def images(row: Row) -> ga.ImageSet:
    """As many noisy images."""
    side = round(row.D**0.5)
    generator = np.random.default_rng(0)
    pixels = generator.random((row.N, 1, side, side), dtype=np.float32)
    return ga.ImageSet(pixels, np.zeros(row.N, dtype=int))


def boundary(row: Row) -> Callable[[], object]:
    """Boundary points of N images on disk, in parts that processes divide."""
    net, starts = network(row.D), images(row)

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "boundary.h5", {}) if distributed.is_main() else None
            with store or nullcontext():
                keep = SharedKeep(store, lambda _: None)
                ga.experiments.boundary(net, starts, keep=keep, chunk_size=_PART)

    return run


def svd(row: Row) -> Callable[[], object]:
    """K leading directions of N normals."""
    generator = np.random.default_rng(0)
    normals = generator.standard_normal((row.N, row.D), dtype=np.float32)
    normals *= np.arange(1, row.D + 1, dtype=np.float32) ** -0.5
    return partial(ga.normal_svd, normals, rank=row.k)


def product(row: Row) -> Callable[[], object]:
    """The mean Hessian of N points times k vectors."""
    points = ga.boundary_points(net := network(row.D), images(row).images)
    operator = ga.mean_hessian(net, points)
    vectors = np.random.default_rng(1).standard_normal((row.D, row.k)).astype(np.float32)
    return lambda: operator.matmat(vectors)


def eigenpairs(row: Row) -> Callable[[], object]:
    """K principal curvatures per end of the mean Hessian of N points, set-up included."""
    points = ga.boundary_points(net := network(row.D), images(row).images)
    return lambda: ga.principal_curvatures(ga.mean_hessian(net, points), k=row.k)


WORK = {f.__name__: f for f in (boundary, svd, product, eigenpairs)}

# work -> the size that the axes start from, and along each axis the factors of it.
_SIZES: dict[str, tuple[Row, dict[str, tuple[int, ...]]]] = {
    "boundary": (
        Row("boundary", "", 128, 1024, 0),
        {"N": (1, 2, 4, 8), "D": (1, 4, 16), "processes": (1, 2, 4, 8, 16)},
    ),
    "svd": (
        Row("svd", "", 640, 4096, 25),
        {"N": (1, 2, 3, 4), "D": (1, 2, 4), "k": (1, 2, 4, 8)},
    ),
    "product": (
        Row("product", "", 128, 576, 4),
        {"N": (1, 2, 4, 8), "D": (1, 4, 9), "k": (1, 2, 4, 8)},
    ),
    "eigenpairs": (
        Row("eigenpairs", "", 64, 576, 4),
        {"N": (1, 2, 4, 8), "D": (1, 4, 9), "k": (1, 2, 4, 8)},
    ),
}


def rows(larger: int) -> Iterator[Row]:
    """All rows; the sizes at the start of every axis times `larger` in N."""
    for base, axes in _SIZES.values():
        start = replace(base, N=base.N * larger)
        for axis, factors in axes.items():
            for factor in factors:
                row = replace(start, axis=axis, **{axis: factor * getattr(start, axis)})
                if row.processes <= (os.cpu_count() or 1):
                    yield row


def cost_of(row: Row) -> Cost:
    """Measures a row in this process, together with others where there are any."""
    job = WORK[row.work](row)
    WORK[row.work](replace(row, N=row.k + 16, D=256))()  # loads the libraries
    before = _resident()
    times: list[tuple[float, float]] = []
    while not times or sum(wall for _, wall in times) < _SHORTEST:
        distributed.barrier()
        started = time.process_time(), time.perf_counter()
        job()
        times.append((time.process_time() - started[0], time.perf_counter() - started[1]))
        times = distributed.from_main(times)  # all repeat as often as the main one
    cpu, wall = (median(each) for each in zip(*times, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return Cost(cpu, wall, max(distributed.gather(peak - before)))


def _resident() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measured(row: Row) -> Cost:
    """The cost of a row, in processes of its own, of one thread each."""
    ours, theirs = _FORK.Pipe()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        _FORK.Process(target=_process, args=(row, rank, port, theirs))
        for rank in range(row.processes)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        if process.exitcode != 0:
            sys.exit(f"{row}: a process ended with {process.exitcode}")
    cost: Cost = ours.recv()
    return cost


def _process(row: Row, rank: int, port: int, answer: Connection) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(row.processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with threadpool_limits(1):
        distributed.start()
        cost = cost_of(row)
        if rank == 0:
            answer.send(cost)
        distributed.stop()


def known(file: Path) -> dict[Row, Cost]:
    """Rows that have been measured."""
    if not file.exists():
        return {}
    with file.open() as lines:
        return {
            Row(
                *((f.type == "str" and cells[f.name]) or int(cells[f.name]) for f in fields(Row))
            ): Cost(*(float(cells[f.name]) for f in fields(Cost)))
            for cells in csv.DictReader(lines)
        }


@dataclass(frozen=True)
class Curve:
    """One kind of work along one axis."""

    work: str
    axis: str
    sizes: np.ndarray
    time: np.ndarray
    memory: np.ndarray

    def fit(self, costs: np.ndarray) -> tuple[float, float, np.ndarray]:
        """Slope in logarithms, its standard error, and the fitted costs; NaN where none is told."""
        usable = np.isfinite(costs)
        if usable.sum() < 2:
            return np.nan, np.nan, np.full(len(costs), np.nan)
        x, y = np.log(self.sizes), np.log(costs)
        found = linregress(x[usable], y[usable])
        fitted = np.exp(found.intercept + found.slope * x)
        return found.slope, found.stderr if usable.sum() > 2 else np.nan, fitted


def curves(found: dict[Row, Cost]) -> list[Curve]:
    """Wall seconds along processes, which work at the same time; else CPU seconds."""
    made = []
    for (work, axis), group in groupby(found.items(), lambda item: (item[0].work, item[0].axis)):
        own = list(group)
        seconds = [c.wall if axis == "processes" else c.cpu for _, c in own]
        sizes = [getattr(row, axis) for row, _ in own]
        memory = [c.memory if c.memory > _NOISE else np.nan for _, c in own]
        if len(own) > 1:
            made.append(Curve(work, axis, *map(np.array, (sizes, seconds, memory))))
    return made


def table(found: list[Curve]) -> str:
    """Exponents as a table of Markdown."""
    lines = ["| work | along | from | to | time | memory |", "|---|---|---|---|---|---|"]
    for curve in found:
        ends = f"{curve.sizes[0]} | {curve.sizes[-1]}"
        told = [_told(*curve.fit(costs)[:2]) for costs in (curve.time, curve.memory)]
        lines.append(f"| {curve.work} | {curve.axis} | {ends} | {told[0]} | {told[1]} |")
    return "\n".join(lines)


def _told(slope: float, error: float) -> str:
    if np.isnan(slope):
        return f"below {_NOISE:g} MiB"
    return f"{slope:.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")


# Words and ticks.
_AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "N": ("points N", (64, 256, 1024)),
    "D": ("pixels D", (1024, 4096, 16384)),
    "k": ("directions k", (4, 16, 64, 200)),
    "processes": ("processes", (1, 2, 4, 8, 16)),
}


def drawn(found: list[Curve]) -> Figure:
    """Time above memory, an axis a column, a kind of work a colour, with its fitted power."""
    with style():
        grid = panels(None, PAGE, 3.6, 2, len(_AXES), sharex="col", sharey="row")
        for j, (axis, (words, ticks)) in enumerate(_AXES.items()):
            own = [curve for curve in found if curve.axis == axis]
            for i, what in enumerate(("time", "memory")):
                axes = grid[i * len(_AXES) + j]
                axes.set(xscale="log", yscale="log")
                for curve in own:
                    _curve(axes, curve, getattr(curve, what), f"C{[*WORK].index(curve.work)}")
            largest = max((int(curve.sizes[-1]) for curve in own), default=1)
            axes.set_xlabel(words)
            axes.set_xticks([tick for tick in ticks if tick <= largest])
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_locator(NullLocator())
        grid[0].set_ylabel("seconds")
        grid[len(_AXES)].set_ylabel("MiB")
        first = grid[0].get_lines()
        legend(grid[0], len(WORK), [line for line in first if line.get_label()[0] != "_"])
        return heading(grid[0], "points: measured; lines: fitted powers, exponents beside them")


def _curve(axes: Axes, curve: Curve, costs: np.ndarray, colour: str) -> None:
    slope, _, fitted = curve.fit(costs)
    axes.plot(curve.sizes, costs, "o", color=colour, markersize=3, label=curve.work)
    axes.plot(curve.sizes, fitted, color=colour, linewidth=0.8)
    if np.isnan(slope):
        return
    axes.annotate(
        f"{slope:.2f}",
        (curve.sizes[-1], fitted[-1]),
        xytext=(2, 0),
        textcoords="offset points",
        fontsize=6,
        color=colour,
        va="center",
    )


def main(file: Path = Path("scaling.csv"), larger: int = 1) -> None:
    """Measures what the file lacks, prints the exponents and draws <file>.png beside it.

    Args:
        file: CSV of all rows; those in it are not measured again.
        larger: factor of all N; 1 takes less than five minutes of CPU time.
    """
    found = known(file)
    for wanted in rows(larger):
        if wanted not in found:
            found[wanted] = measured(wanted)
            _add(file, wanted, found[wanted])
    made = curves({wanted: found[wanted] for wanted in rows(larger)})
    print(table(made))
    save_figure(drawn(made), file.parent, file.stem)


def _add(file: Path, row: Row, cost: Cost) -> None:
    cells = asdict(row) | asdict(cost)
    new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, [*cells])
        if new:
            writer.writeheader()
        writer.writerow(cells)


if __name__ == "__main__":
    tyro.cli(main)
