"""Fooling rate and accuracy over rounds of fine-tuning."""

from pathlib import Path

from drawing import draw, main

import geomadv as ga

EXPERIMENT = "finetuning"


def draw_figure(folder: Path) -> None:
    """Draws it for the network whose results lie in the folder."""
    draw(folder, EXPERIMENT, "finetuning", ga.plotting.finetuning)


if __name__ == "__main__":
    main(draw_figure)
