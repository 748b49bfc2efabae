"""Which label turns into which under the universal perturbation."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "label_graph"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "label_graph", ga.plotting.label_graph)


if __name__ == "__main__":
    main(draw_figure)
