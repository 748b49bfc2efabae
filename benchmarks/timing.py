"""Side-by-side timing: interleaved repetitions in one process, medians of ratios."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any


def interleave(
    contestants: dict[str, Callable[[], Any]],
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every repetition, A B C A B C ..., and each one's last result.

    Interleaving lets a machine whose speed drifts slow everybody down alike. On a busy one the
    clock time.process_time says more.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    results: dict[str, Any] = {}
    for _ in range(repetitions):
        for name, run in contestants.items():
            started = clock()
            results[name] = run()
            seconds[name].append(clock() - started)
    return seconds, results


def ratio(reference: list[float], other: list[float]) -> float:
    """How many times faster `other` is than `reference`: median over repetitions."""
    return median(r / o for r, o in zip(reference, other, strict=True))
