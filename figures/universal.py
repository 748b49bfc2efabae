"""A universal perturbation, and fooling rates against passes and sample size."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "universal"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "universal", ga.plotting.universal)


if __name__ == "__main__":
    main(draw_figure)
