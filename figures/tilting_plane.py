"""Training images and the boundary in the tilting plane, from upright to most tilted."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "tilting_plane"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "tilting_plane", ga.plotting.tilting_plane)


if __name__ == "__main__":
    main(draw_figure)
