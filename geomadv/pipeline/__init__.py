"""Experiments as values, and the runner: what `geomadv` runs."""

from geomadv.pipeline.api import run
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.figures import draw
from geomadv.pipeline.reproduction import Reproduction, reproduce
from geomadv.pipeline.table import EXPERIMENTS

__all__ = [
    "EXPERIMENTS",
    "Drawing",
    "Experiment",
    "Reproduction",
    "Run",
    "Sample",
    "draw",
    "reproduce",
    "run",
]
