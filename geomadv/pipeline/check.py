"""What a run would work on, before it runs: network, images, accuracy, settings, effort."""

from __future__ import annotations

from collections.abc import Sequence

from geomadv.pipeline.card import card
from geomadv.pipeline.plan import Planner, pace_line, words
from geomadv.pipeline.runner import Runner
from geomadv.results.identity import plain


def checked(runner: Runner, names: Sequence[str]) -> str:
    """One screen on what a run of these experiments would work on; nothing runs.

    Raises:
        InputError: settings that cannot be used, or that differ from those of existing results.
    """
    study, planner = runner.study, Planner(runner)
    effort = f"effort    {pace_line(planner.pace(study.net))}"
    lines = [card(study), f"results   {study.folder}", effort]
    runner.check(*names)
    found = planner.estimates(names)
    for name in names:
        asked = runner.asked(name)
        shown = ", ".join(f"{k} {v}" for k, v in plain(asked.settings).items())
        lines.append(f"{name} ({runner.status(name).state}): seed {asked.seed}, {shown}")
        count = sum(runner.case(name).count.values())
        passes, time, memory, disk = words(found[name])
        costs = f"{passes} passes in gradients, {time}, {memory} of memory, {disk} on disk"
        lines.append(f"          {count:,} images, {costs}")
    return "\n".join(lines)
