"""Runs every analysis of a network in order, reusing finished results, then draws all figures."""

import importlib
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from common import Flags, load_network, main, result_path

import geomadv as ga

FIGURES = Path(__file__).resolve().parent.parent / "figures" / "all.py"

# In the order in which they need each other; each is a script of this folder and its flags.
STEPS = {
    "train": "Train",
    "boundary": "Boundary",
    "normal_svd": "NormalSvd",
    "random_subspace_fooling": "RandomSubspaceFooling",
    "curvature": "Curvature",
    "score_curves": "ScoreCurves",
    "direction_sweep": "DirectionSweep",
    "subspace_accuracy": "SubspaceAccuracy",
    "first_order_twin": "FirstOrderTwin",
    "confined_deepfool": "ConfinedDeepfool",
    "resampling": "Resampling",
    "universal": "Universal",
    "norm_fractions": "NormFractions",
    "norm_comparison": "NormComparison",
    "transfer": "Transfer",
    "finetuning": "Finetuning",
    "categories": "Categories",
    "tilting_plane": "TiltingPlane",
    "tilting_toy": "TiltingToy",
    "normal_tilt": "NormalTilt",
    "softmax_directions": "SoftmaxDirections",
    "claims": "Claims",
}
# Without these, nothing else makes sense.
ESSENTIAL = ("train", "boundary")

# Pixels up to which the default curvature of all classes takes a minute or two on a CPU.
SMALL = 256


@dataclass(kw_only=True)
class Paper(Flags):
    """Flags of this script; the single analyses have more, run them first to change theirs."""

    only: tuple[str, ...] = ()
    """These analyses alone; default: all."""
    preset: Literal["auto", "default", "paper"] = "auto"
    """Of the curvature; auto: default for images of up to 256 pixels, else the paper's numbers,
    which take a fifth of the time."""


def run(flags: Paper) -> None:
    """All analyses with their default settings, then all figures."""
    unknown = [name for name in flags.only if name not in STEPS]
    if unknown:
        raise ga.InputError(
            f"--only: {', '.join(unknown)} is no analysis; there are {', '.join(STEPS)}."
        )
    net = load_network(flags)
    common = {field.name: getattr(flags, field.name) for field in fields(Flags)}
    failed = []
    for name in flags.only or STEPS:
        started = time.perf_counter()
        print(f"\n== {name}", flush=True)
        try:
            _step(name, common | _changes(name, flags, net))
        except ga.InputError as error:
            if name in ESSENTIAL:
                raise
            failed.append(name)
            print(f"error: {error}", file=sys.stderr)
        print(f"({time.perf_counter() - started:.0f} s)")
    folder = result_path(flags, net, "train").parent
    print("\n== figures", flush=True)
    subprocess.run([sys.executable, str(FIGURES), str(folder)], check=True)
    print(f"\nresults: {folder}\nfigures: {folder / 'figures'}")
    if failed:
        raise ga.InputError(f"these analyses failed, see their messages above: {', '.join(failed)}")


def _step(name: str, settings: dict[str, Any]) -> None:
    script = importlib.import_module(name)
    script.run(getattr(script, STEPS[name])(**settings))


def _changes(name: str, flags: Paper, net: ga.Classifier) -> dict[str, Any]:
    """Settings of one analysis that are not its defaults."""
    if name != "curvature":
        return {}
    auto = "default" if net.dimension <= SMALL else "paper"
    return {"preset": auto if flags.preset == "auto" else flags.preset}


if __name__ == "__main__":
    main(Paper, run)
