"""A boundary tilting perspective on adversarial examples (Tanay and Griffin, 2016).

Adversarial examples exist where a boundary is tilted against the line between two classes' means.
A linear classifier is tilted by its regularisation; a network's boundary is compared with it.
"""

import math
from functools import partial
from pathlib import Path

import tyro

import geomadv as ga


def main(
    network: str = "digits-cnn", classes: tuple[int, int] = (2, 3), results: Path = Path("results")
) -> None:
    """Runs the paper's experiments on the images of a network and prints what they answer."""
    run = partial(ga.run, net=network, results=results)

    # Section 3: the tilting plane. The angle grows as the regularisation weakens, the accuracy
    # hardly changes, the adversarial norm shrinks.
    plane = run("tilting_plane", classes=classes)
    for i in range(0, plane.sizes["C"], 6):
        at = plane.isel(C=i)
        print(
            f"C {float(at['C']):.0e}: angle {math.degrees(float(at['angle'])):.0f} degrees, test "
            f"error {100 * float(at['test_error']):.1f} %, adversarial norm "
            f"{float(at['mean_adversarial_norm']):.2f}"
        )

    # The toy problem: the angle does not depend on the dimension of the images.
    toy = run("tilting_toy")
    spread = toy["angle"].max("dimension") - toy["angle"].min("dimension")
    print(f"toy problem: angles differ by {math.degrees(float(spread.max())):.1g} degrees at most")

    # What corresponds to the tilt for a network: angles of its normals with the centroids' line.
    tilt = run("normal_tilt", classes=classes)
    for name, part in tilt.groupby("network_name"):
        print(f"{name}: median angle {math.degrees(float(part['angle'].median())):.0f} degrees")
    print(f"random directions: {math.degrees(float(tilt['random_angle'].median())):.0f} degrees")


if __name__ == "__main__":
    tyro.cli(main)
