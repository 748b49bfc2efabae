"""Every experiment of the table in one of several processes: forked by test_pipeline_edges."""

from pathlib import Path

from small_runs import small_runner

from geomadv import distributed
from geomadv.pipeline import EXPERIMENTS
from geomadv.results import shared


def run_what_is_missing(folder: Path) -> None:
    """Runs what is missing in the folder, the same in every process."""
    distributed.start()
    second, by_itself, parts = distributed.rank() == 1, shared.by_itself, [0]

    def noting():
        parts[0] += 1
        return by_itself()

    shared.by_itself = noting
    runner = small_runner(folder)
    runner.say = print if distributed.is_main() else runner.say
    for experiment in EXPERIMENTS:
        before = parts[0]
        runner.run(experiment.name)
        if second and parts[0] > before:
            print(f"shared {experiment.name}", flush=True)
    distributed.stop()
