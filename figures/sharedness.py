"""Principal angles between curvature directions from two halves of the boundary points."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "curvature"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "sharedness", ga.plotting.sharedness)


if __name__ == "__main__":
    main(draw_figure)
