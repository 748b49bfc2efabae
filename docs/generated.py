"""Pages of the documentation that follow from the code: they are made whenever the site is built.

Experiments, commands, claims, public names and the gallery are read from the tables that the
program itself reads, so that a new experiment or command has its page without another line here.
"""

import contextlib
import functools
import importlib
import inspect
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

import geomadv as ga
from geomadv.claims import CLAIMS
from geomadv.cli import COMMANDS, main
from geomadv.pipeline import EXPERIMENTS, Experiment
from geomadv.pipeline.glossary import GLOSSARY
from geomadv.pipeline.verdicts import explained

DOCS = Path(__file__).parent
GALLERY = DOCS / "gallery"

# Rooms with public names of their own, in the order of the flow of data.
_ROOMS = {
    "experiments": "One function per experiment: network, images and settings in, a Dataset out.",
    "plotting": "One function per figure: a Dataset in, a figure out.",
    "claims": "Claims of the papers, and how results answer them.",
    "results": "Result files.",
    "pipeline": "Experiments as values, and the runner.",
    "linalg": "Subspaces, singular values and eigenpairs of operators.",
    "last_layer": "Mathematics of the softmax layer.",
}
# Words of the glossary, and the page that says more.
_MORE = {
    "adversarial direction": "concepts/linear.md#the-last-layer",
    "angle of a boundary point": "concepts/points.md",
    "boundary point": "concepts/points.md",
    "DeepFool": "concepts/points.md",
    "effective rank": "concepts/normals.md",
    "held-out images": "concepts/evidence.md#held-out-images",
    "Hessian-vector product": "concepts/curvature.md#which-hessian",
    "null": "concepts/evidence.md",
    "sharedness": "concepts/curvature.md",
    "stale": "howto/resume.md",
    "subspace": "concepts/subspaces.md#families",
    "universal perturbation": "concepts/universal.md",
}
_GALLERY = """Every figure is the one that `geomadv paper` drew, of real runs: `digits-cnn` with the
default counts, and beside it `lenet-mnist` (standard training) and `mnist-convsmall-robust-eps0.1`
(trained to be robust to ℓ∞ perturbations of 0.1), both with the small counts of `--quick`: look at
shapes there, not at digits. The two MNIST networks have different architectures, so that what
differs between them is not the training alone. `make gallery` makes this page's pictures anew."""


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown."""
    made = {
        "experiments/index.md": _experiments(),
        "commands.md": _commands(),
        "claims.md": _claims(),
        "gallery.md": _gallery(),
        "glossary.md": _glossary(),
        "explore.md": _notebook(DOCS / "explore.ipynb"),
    }
    made |= {f"reference/{room}.md": _room(room) for room in ("index", *_ROOMS)}
    return made | {f"experiments/{e.name}.md": _experiment(e) for e in EXPERIMENTS}


def navigation() -> dict[str, list[Any]]:
    """Heading of the navigation -> the generated pages below it."""
    return {
        "Experiments": [
            "experiments/index.md",
            *({e.name: f"experiments/{e.name}.md"} for e in EXPERIMENTS),
        ],
        "Python": [
            "reference/index.md",
            *({f"geomadv.{room}": f"reference/{room}.md"} for room in _ROOMS),
        ],
    }


def _notebook(path: Path) -> str:
    """The cells of a notebook as a page: text as it stands, code in blocks."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell in cells
        for text in ["".join(cell["source"])]
    ]
    here = (
        f"This page is a notebook: [{path.name}]({path.name}). Its outputs are made where it runs."
    )
    return "\n\n".join([parts[0], here, *parts[1:]]) + "\n"


# Experiments


def _experiments() -> str:
    rows = [
        f"| [`{e.name}`]({e.name}.md) | {e.summary} | "
        f"{', '.join(f'`{i}`' for i in e.inputs) or 'the images'} |"
        for e in EXPERIMENTS
    ]
    return "\n".join(
        [
            "# Experiments",
            "",
            "Each is a command, `geomadv run NAME`, a call, `ga.run(NAME, ...)`, and one result",
            "file, `results/NETWORK/NAME.h5`. What it starts from runs first where it is missing.",
            "",
            "| experiment | what it gives | starts from |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _experiment(e: Experiment) -> str:
    parts = [f"# {e.name}", e.summary, *_started(e), *_settings(e), *_variables(e)]
    if claims := [c for c in CLAIMS if c.experiment == e.name]:
        named = [f"- [{c.sentence}](../claims.md#{c.name}) ({c.paper})" for c in claims]
        parts += ["## Claims it answers", "\n".join(named)]
    if e.figures:
        parts.append("## Figures")
        parts += [_figure(name, "../") for name in e.figures]
    return "\n\n".join(parts) + "\n"


def _started(e: Experiment) -> Iterator[str]:
    yield f"```sh\ngeomadv run {e.name}\n```"
    images = [
        f"`{s.split}` images{f', as many as `{s.count}` says' if s.count else ''}"
        for s in e.images.values()
    ]
    inputs = [f"[`{i}`]({i}.md)" for i in e.inputs]
    optional = [f"[`{i}`]({i}.md) where it is there" for i in e.optional]
    if found := [*images, *inputs, *optional]:
        yield f"Starts from: {'; '.join(dict.fromkeys(found))}."
    if e.divided:
        yield f"Several processes divide its {e.divided}."


def _settings(e: Experiment) -> Iterator[str]:
    told = _sections(f"run {e.name}").get(f"{e.name.replace('_', '-')} options")
    if told is None:
        return
    yield "## Settings"
    yield f"```text\n{told}\n```"
    for settings, of in ((e.quick, ""), (e.quick_large, " of images of over 4,096 numbers")):
        if settings:
            small = ", ".join(f"`{name}` {value}" for name, value in settings.items())
            yield f"`--quick`{of}: {small}."


def _variables(e: Experiment) -> Iterator[str]:
    if not e.schema:
        return
    yield "## Result"
    rows = [
        f"| `{name}` | {', '.join(dims) or '–'} | {words} | {units} |"
        for name, (dims, words, units) in e.schema.items()
    ]
    yield "\n".join(["| variable | dimensions | what it is | units |", "|---|---|---|---|", *rows])


# Commands


@functools.cache
def _help(command: str) -> str:
    """What `geomadv COMMAND --help` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).strip()


@functools.cache
def _sections(command: str) -> dict[str, str]:
    """The help of a command by its headings; what stands above the first one is "usage"."""
    found: dict[str, list[str]] = {"usage": []}
    now = found["usage"]
    for line in _help(command).splitlines():
        if heading := re.fullmatch(r" ([a-z-]+ (?:options|arguments))", line):
            now = found.setdefault(heading[1], [])
        elif not re.fullmatch(r" *-*", line):
            now.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def _commands() -> str:
    with contextlib.redirect_stdout(io.StringIO()) as usage:
        main([])
    parts = ["# Commands", f"```text\n{usage.getvalue().strip()}\n```"]
    own = {f"{e.name.replace('_', '-')} options" for e in EXPERIMENTS}
    for name, (_, words) in COMMANDS.items():
        sections = _sections(name if name != "run" else f"run {EXPERIMENTS[0].name}")
        parts += [f"## {name}", f"{words[0].upper()}{words[1:]}."]
        shown = "\n\n".join(
            text if title == "usage" else f"{title}\n{text}"
            for title, text in sections.items()
            if title not in own
        )
        parts.append(f"```text\n{shown}\n```")
        if own & set(sections):
            parts.append("Settings of the experiments: see [their pages](experiments/index.md).")
    return "\n\n".join(parts) + "\n"


# Claims


@functools.cache
def _networks() -> dict[str, Any]:
    """The networks of the gallery: whether their counts are small, and what they answer."""
    return dict(json.loads((GALLERY / "answers.json").read_text(encoding="utf-8")))


def _called(network: str) -> str:
    return f"{network}, `--quick`" if _networks()[network]["quick"] else network


def _claims() -> str:
    answers = {_called(name): told["answers"] for name, told in _networks().items()}
    parts = [
        "# All claims",
        "Each claim of the papers as `geomadv claims --explain NAME` tells it, with the answers of "
        "the networks in the [gallery](gallery.md). How to read them: "
        "[claims, nulls, held-out images](concepts/evidence.md).",
    ]
    for claim in CLAIMS:
        lines = explained(claim.name).splitlines()
        parts.append(f"## {claim.sentence} {{ #{claim.name} }}")
        parts.append("\n".join(f"- {line}" for line in (f"name: `{claim.name}`", *lines[1:-1])))
        if told := [f"| {n} | {a[claim.name]} |" for n, a in answers.items() if claim.name in a]:
            parts.append("\n".join(["| network | answer |", "|---|---|", *told]))
    return "\n\n".join(parts) + "\n"


# Python


def _room(room: str) -> str:
    """The public names of a room; "index": those of the package itself."""
    if room == "index":
        head = [
            "# geomadv",
            "`import geomadv as ga`; the names below are `ga.NAME`. "
            "[The pieces in Python](../howto/python.md) shows them at work.",
        ]
        found = [getattr(ga, name) for name in ga.__all__ if name not in _ROOMS]
    else:
        head = [f"# geomadv.{room}", _ROOMS[room]]
        module = importlib.import_module(f"geomadv.{room}")
        found = [getattr(module, name) for name in module.__all__ if name not in ga.__all__]
    shown = [value for value in found if inspect.isroutine(value) or _is_own(value)]
    return "\n\n".join([*head, *map(_documented, shown)]) + "\n"


def _is_own(value: Any) -> bool:
    return inspect.isclass(value) and value.__module__.startswith("geomadv")


def _documented(value: Any) -> str:
    return f"::: {value.__module__}.{value.__qualname__}"


# Gallery


def _pictures(name: str) -> list[Path]:
    """The figure as the networks of the gallery have it, in their order."""
    files = [GALLERY / network / f"{name}.webp" for network in _networks()]
    return [file for file in files if file.exists()]


def _figure(name: str, up: str = "") -> str:
    """A figure of all networks of the gallery under its caption."""
    caption = (inspect.getdoc(getattr(ga.plotting, name, None)) or "").split("\n\n")[0]
    images = [
        f"![{name} of {file.parent.name}]({up}gallery/{file.parent.name}/{file.name})"
        f"{_size(file)}  \n"
        f"*{_called(file.parent.name)}*"
        for file in _pictures(name)
    ]
    return "\n\n".join([f"**`{name}`.** {' '.join(caption.split())}", *images])


def _size(file: Path) -> str:
    """A figure of one column stays narrower than the page, so that its words are no larger."""
    with Image.open(file) as image:
        return '{ width="460" }' if image.width < 800 else ""


def _glossary() -> str:
    entries = []
    for word in sorted(GLOSSARY, key=str.lower):
        more = f" [More]({_MORE[word]})" if word in _MORE else ""
        entries.append(f"{word[0].upper()}{word[1:]}\n:   {GLOSSARY[word]}{more}")
    return "# Glossary\n\n" + "\n\n".join(entries) + "\n"


def _gallery() -> str:
    parts = ["# Gallery", _GALLERY]
    for e in EXPERIMENTS:
        if shown := [name for name in e.figures if _pictures(name)]:
            parts += [f"## {e.name}", f"[{e.summary}](experiments/{e.name}.md)"]
            parts += [_figure(name) for name in shown]
    return "\n\n".join(parts) + "\n"
