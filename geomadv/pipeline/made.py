"""What a run has made, as a table for its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geomadv.pipeline.plan import lined, span
from geomadv.pipeline.runner import Runner


def made_table(runner: Runner, told: Mapping[str, str], refused: Sequence[str]) -> str:
    """A row for each experiment: its file, seconds or "kept", headline; "" for one alone.

    Args:
        runner: that ran them, and before them what they start from.
        told: experiment -> headline of its result.
        refused: those whose result or figures were refused.
    """
    rows = [("file", "took", f"found (files in {runner.study.folder})")]
    for name in runner.table:
        seconds = runner.computed.get(name)
        if name in told or seconds is not None:
            took = "kept" if seconds is None else span(round(seconds, 1))
            words = told.get(name, "others start from it")
            rows.append((f"{name}.h5", took, words))
        elif name in refused:
            rows.append((f"{name}: none", "", "refused, see its message above"))
    if len(told) + len(refused) < 2:
        return ""
    return "\n".join(["", *(line.rstrip() for line in lined(rows, left=(0, 2)))])
