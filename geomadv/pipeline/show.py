"""What there is: the list of experiments with their state, and one result file at a glance."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from geomadv import results
from geomadv.errors import InputError
from geomadv.pipeline.runner import Runner
from geomadv.results.files import entries, holding


def listed(runner: Runner) -> str:
    """A line per experiment: its state, what it needs, and why a result is stale."""
    lines = [f"{runner.study.net.name}, results in {runner.study.folder}", ""]
    width = max(map(len, runner.table))
    for name, experiment in runner.table.items():
        needs = ", ".join([*experiment.inputs, *(f"({i})" for i in experiment.optional)])
        try:
            status = runner.status(name)
        except InputError as error:
            lines.append(f"{name:{width}}  refused     {error}")
            continue
        after = f"  after {needs}" if needs else ""
        lines.append(f"{name:{width}}  {status.state:10}  {experiment.summary}{after}")
        lines += [f"{'':{width}}  {'':10}  stale: {reason}" for reason in status.reasons]
    return "\n".join(lines)


def shown(path: Path) -> str:
    """Where a result comes from, its variables, and the command that makes it again."""
    with holding(path, "a look at it"):
        return _shown(path, results.load(path))


def _shown(path: Path, ds: xr.Dataset) -> str:
    attrs = ds.attrs
    named = ("experiment", "network", "dataset", "created", "geomadv_version", "torch_version")
    lines = [f"{word:16} {attrs[word]}" for word in named if attrs.get(word)]
    lines.append(f"{'device':16} {attrs.get('device')}, {attrs.get('dtype')}")
    lines.append(f"{'duration':16} {float(attrs.get('wall_time_s', 'nan')):.1f} s")
    for word in ("images", "inputs", "config"):
        if found := entries(path, attrs, word):
            lines += [f"{word}:", *(f"  {key} = {value}" for key, value in found.items())]
    checksums = entries(path, attrs, "identity").get("images", {})
    for name, value in {"weights": attrs.get("weights_sha256"), **checksums}.items():
        lines += [f"SHA-256 of {name}: {value}"] * bool(value)
    lines.append("variables:")
    for name, variable in ds.variables.items():
        sizes = ", ".join(f"{dim} {ds.sizes[dim]}" for dim in variable.dims)
        units = variable.attrs.get("units", "1")
        lines.append(
            f"  {name} ({sizes}) {variable.dtype}: {variable.attrs.get('long_name', '')}"
            f"{'' if units == '1' else f' [{units}]'}"
        )
    commands = str(attrs.get("command", "")).splitlines()
    return "\n".join([*lines, "made again by:", *(f"  {line}" for line in commands)])
