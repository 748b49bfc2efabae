"""Where the results of a folder come from, as a page tells it: subject, settings, commands."""

from __future__ import annotations

import ast
import inspect
import json
import math
import shlex
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from geomadv.pipeline.experiment import Experiment
from geomadv.pipeline.finished import Finished
from geomadv.pipeline.settings import flat, merged
from geomadv.pipeline.study import Place
from geomadv.pipeline.table import EXPERIMENTS
from geomadv.results.identity import plain

Rows = list[tuple[str, str]]

# Flags that are about the machine.
_MANNER = ("--device", "--batch-size", "--memory")


def card(one: Finished) -> Rows:
    """Network and data in rows of a name and what is known: what `geomadv check` shows of them."""
    first = next(iter(one.results.values()))
    told = _attribute(one, "network_told")
    rows = [("network", f"{first.attrs['network']}{': ' * bool(told)}{told}")]
    rows += [("weights", f"SHA-256 {_attribute(one, 'weights_sha256')}")]
    rows += [(f"images, {name}", words) for name, words in _images(one).items()]
    classes = next((ds["class"] for ds in one.results.values() if "class" in ds.coords), None)
    if classes is not None:
        rows.append(("classes", _few([str(c) for c in classes.to_numpy()])))
    headlines = {e.name: e.tell for e in EXPERIMENTS}
    for name, words in (("train", "accuracy"), ("boundary", "boundary points")):
        if name in one.results:
            line = headlines[name](one.results[name])
            rows.append((words, line.removeprefix("accuracy ")))
    return rows + _made(one)


def _made(one: Finished) -> Rows:
    """On what the results were computed, by which programs; each once."""
    layouts = {
        "computed on": "{device}, {dtype}",
        "versions": "geomadv {geomadv_version}, torch {torch_version}",
        "seed": "{seed}",
    }
    found = [defaultdict(str, ds.attrs) for ds in one.results.values()]
    return [
        (word, "; ".join(dict.fromkeys(layout.format_map(attrs) for attrs in found)))
        for word, layout in layouts.items()
    ]


def _attribute(one: Finished, name: str) -> str:
    """The first value of a root attribute that results have; "" without."""
    return next((str(v) for ds in one.results.values() if (v := ds.attrs.get(name))), "")


def _images(one: Finished) -> dict[str, str]:
    """Name of the images -> the experiments that took them."""
    takers: dict[str, dict[str, None]] = {}
    for name, ds in one.results.items():
        for images in json.loads(str(ds.attrs.get("images", "{}"))).values():
            takers.setdefault(str(images), {})[name] = None
    return {images: f"taken by {_few([*names])}" for images, names in takers.items()}


def _few(words: Sequence[str]) -> str:
    rest = f" and {len(words) - 20} more" if len(words) > 20 else ""
    return ", ".join(words[:20]) + rest


def origin(one: Finished, experiment: str) -> Rows:
    """When and from what a result was made."""
    attrs = one.results[experiment].attrs
    rows = [
        ("made", f"{attrs.get('created', '')} by geomadv {attrs.get('geomadv_version', '')}"),
        ("on", f"{attrs.get('device', '')}, {attrs.get('dtype', '')}, seed {attrs.get('seed')}"),
    ]
    seconds = float(attrs.get("wall_time_s", math.nan))
    if math.isfinite(seconds):
        rows.append(("in", f"{seconds:.1f} s"))
    checksums = one.identities[experiment].get("images", {})
    for role, name in json.loads(str(attrs.get("images", "{}"))).items():
        rows.append((f"images: {role}", f"{name}, SHA-256 {checksums.get(role, '')}"))
    started = one.identities[experiment].get("inputs", {})
    rows += [(f"starts from {name}", f"identity {digest}") for name, digest in started.items()]
    return rows


def settings_table(
    experiment: Experiment, holders: Sequence[Finished]
) -> list[tuple[str, list[str], str]]:
    """An experiment's settings: name, value of each network, and what it means.

    Those of nested settings have names with dots, as their flags have.
    """
    values = [
        {
            name: "default" if value is None else json.dumps(value)
            for name, value in flat(one.config(experiment.name)).items()
        }
        for one in holders
    ]
    meanings = _meanings(experiment.settings)
    names = dict.fromkeys(name for found in values for name in found)
    return [
        (name, [found.get(name, "–") for found in values], meanings.get(name, ""))
        for name in names
        if name != "seed"
    ]


def _meanings(settings: type) -> dict[str, str]:
    """The text below each field of a dataclass, which its flag shows as help."""
    found: dict[str, str] = {}
    for kind in reversed(settings.__mro__[:-1]):
        try:
            (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        except (OSError, TypeError, ValueError):  # made at run time: there is no text
            continue
        lines = getattr(body, "body", [])
        for field, below in pairwise(lines):
            if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                text = getattr(below.value, "value", "")
                found[ast.unparse(field.target)] = " ".join(str(text).split())
    return found


def command_again(one: Finished, *experiments: str) -> str:
    """The command that makes results of this network: of these experiments, or all of a paper.

    Network, images and seed are as in the command of a result that is there; the network's name
    alone where that says none. It writes into the folder that the results lie in, with the small
    counts that all of them have where they were made by `--quick`. Device, memory and batches are
    left to the machine that it is run on.
    """
    name, ds = next(iter(one.results.items()))
    line = (str(ds.attrs.get("command", "")).splitlines() or [""])[-1]
    if line.startswith("ga.run("):
        calls = [repr(experiment) for experiment in experiments] or ["..."]
        return "; ".join(_placed(f"ga.run({called}, net, images)", one) for called in calls)
    try:
        words = shlex.split(line)
    except ValueError:  # no command line of ours
        words = []
    if words[:2] != ["geomadv", "run"]:
        words = ["geomadv", "run", name, "--network", str(ds.attrs["network"])]
    left = (f"--{name}.".replace("_", "-"), *_MANNER)
    flags: list[str] = []
    kept = True
    for word in words[3:]:
        if word.startswith("--"):
            kept = not word.startswith(left)
        if kept:
            flags.append(word)
    head = ["geomadv", "run", *experiments] if experiments else ["geomadv", "paper"]
    return _placed(shlex.join([*head, *flags, *["--quick"] * is_quick(one)]), one)


def commands_of(one: Finished, experiment: str) -> str:
    """What made a result, as its file says, a line each; into the folder that it lies in."""
    lines = str(one.results[experiment].attrs.get("command", "")).splitlines()
    return "\n".join(_placed(line, one) for line in lines)


def report_again(networks: Sequence[Finished]) -> str:
    """The command that writes the page of the first network, with the others beside it."""
    first, *others = (str(one.folder) for one in networks)
    return shlex.join(["geomadv", "report", first, *["--compare"] * bool(others), *others])


def is_quick(one: Finished) -> bool:
    """Whether all results have the settings of `--quick`, as far as it changes them."""
    known = [e for e in EXPERIMENTS if e.quick and e.name in one.results]
    return bool(known) and all(
        any(_has(one.config(e.name), quick) for quick in (e.quick, merged(e.quick, e.quick_large)))
        for e in known
    )


def _has(config: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether stored settings are these, as far as these go."""
    stored = flat(config)
    return all(stored.get(name) == plain(value) for name, value in flat(settings).items())


def _placed(command: str, one: Finished) -> str:
    """A command or call that writes into the folder of these results, the usual one unnamed."""
    named = one.folder if one.folder.name not in ("", "..") else one.folder.absolute()
    folder = named.parent
    if folder == Place().results:
        return command
    if command.startswith("ga.run("):
        return f"{command.removesuffix(')')}, results={str(folder)!r})"
    return f"{command} {shlex.join(['--results', str(folder)])}"


def remedy(one: Finished, *experiments: str) -> str:
    """The command that makes what is missing, or makes anew what is stale, of the same note."""
    stale = one.notes[experiments[0]].startswith("stale")
    return command_again(one, *experiments) + " --refresh" * stale
