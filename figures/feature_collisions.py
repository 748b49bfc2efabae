"""Success of feature collisions against the radius, with example images."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "softmax_directions"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "feature_collisions", ga.plotting.feature_collisions)


if __name__ == "__main__":
    main(draw_figure)
