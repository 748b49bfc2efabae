"""Experiments as values, and the runner: what `geomadv` runs."""

from geomadv.pipeline.api import run
from geomadv.pipeline.comparing import compare
from geomadv.pipeline.comparison import Comparison
from geomadv.pipeline.experiment import Drawing, Experiment, Run, Sample
from geomadv.pipeline.figures import draw
from geomadv.pipeline.finished import results_of
from geomadv.pipeline.reproduction import Reproduction, reproduce
from geomadv.pipeline.table import EXPERIMENTS

__all__ = [
    "EXPERIMENTS",
    "Comparison",
    "Drawing",
    "Experiment",
    "Reproduction",
    "Run",
    "Sample",
    "compare",
    "draw",
    "reproduce",
    "results_of",
    "run",
]
