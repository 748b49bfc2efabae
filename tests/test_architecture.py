"""The house: which room may import which, written in one table, and no circle of modules.

Data flow from left to right (CONTRIBUTING.md); an import against the flow fails here.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "geomadv"

# Words and small tools that every room may use.
GROUND = {"doors", "errors", "keep", "labels", "progress", "framing"}

# Room -> the rooms on its left that it imports.
ARROWS: dict[str, set[str]] = {
    "doors": set(),
    "errors": set(),
    "keep": set(),
    "labels": set(),
    "progress": set(),
    "framing": set(),
    "distributed": set(),
    "files": set(),
    "linalg": set(),
    "last_layer": {"linalg"},
    "classifier": set(),
    "images": {"files"},
    "networks": {"files", "classifier", "images"},
    "perturbations": {"linalg", "classifier"},
    "boundary": {"linalg", "classifier", "perturbations"},
    "curvature": {"linalg", "classifier", "boundary", "distributed"},
    "experiments": {
        *("linalg", "last_layer", "classifier", "images", "perturbations", "boundary"),
        *("curvature", "distributed"),
    },
    "results": {"files", "distributed"},
    "plotting": {"files", "linalg", "experiments"},
    "claims": {"linalg", "experiments"},
    # It alone knows them all, and its definitions are written in the public names.
    "pipeline": {
        *("", "classifier", "images", "networks", "linalg", "experiments", "plotting"),
        *("claims", "results", "files", "distributed"),
    },
    "cli": {"pipeline", "distributed"},
    "__main__": {"cli"},
}


def name_of(file: Path) -> str:
    parts = [*file.relative_to(PACKAGE.parent).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules of the package that are imported, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("geomadv"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("geomadv"):
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in MODULES else str(node.module)


def without_type_checking(tree: ast.Module) -> ast.Module:
    """The module as it runs: what only type checkers see is left out."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.Module(body=body, type_ignores=[])


def test_the_table_names_every_room():
    assert {room(module) for module in MODULES} - {""} == set(ARROWS)


@pytest.mark.parametrize("where", ARROWS)
def test_no_import_against_the_flow(where):
    allowed = ARROWS[where] | GROUND | {where}
    for module, file in MODULES.items():
        if room(module) == where:
            found = {room(name) for name in imported(ast.parse(file.read_text()))}
            assert found <= allowed, f"{module} imports {sorted(found - allowed)}"


def test_the_arrows_themselves_have_no_circle():
    graph = {
        name: arrows | (GROUND - {name} if arrows else set()) for name, arrows in ARROWS.items()
    }
    list(TopologicalSorter(graph).static_order())


def test_no_circle_of_modules():
    graph = {
        module: {
            name
            for name in imported(without_type_checking(ast.parse(file.read_text())))
            # A package's own modules are imported by its __init__, which they do not name.
            if name in MODULES and not module.startswith(f"{name}.")
        }
        - {module}
        for module, file in MODULES.items()
    }
    list(TopologicalSorter(graph).static_order())
