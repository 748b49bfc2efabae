"""Leading right singular vectors of the normal matrix as images."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "normal_svd"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "leading_directions", ga.plotting.leading_directions)


if __name__ == "__main__":
    main(draw_figure)
