"""The tilting plane as one HTML file in which one moves the regularisation."""

from pathlib import Path

from drawing import main

import geomadv as ga

EXPERIMENT = "tilting_plane"


def draw_figure(folder: Path) -> None:
    """Writes it for the network whose results lie in the folder."""
    page = ga.plotting.tilting_slider(ga.load(folder / f"{EXPERIMENT}.h5"))
    path = ga.results.check_writable(folder / "figures") / "tilting_slider.html"
    path.write_text(page, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main(draw_figure)
