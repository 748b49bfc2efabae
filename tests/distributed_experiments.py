"""Every experiment of the table in the processes of torchrun: started by test_pipeline_edges."""

import sys
from pathlib import Path

from small_runs import small_runner

from geomadv import distributed
from geomadv.pipeline import EXPERIMENTS


def main(folder: Path) -> None:
    """Runs what is missing in the folder, the same in every process."""
    distributed.start()
    runner = small_runner(folder)
    for experiment in EXPERIMENTS:
        runner.run(experiment.name)
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
