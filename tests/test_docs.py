"""The documentation: links, navigation, command lines and examples; the site is `make docs`."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tyro
from conftest import REPOSITORY
from PIL import Image

from geomadv.cli import COMMANDS, main
from geomadv.pipeline import EXPERIMENTS
from geomadv.pipeline import flags as pipeline_flags

DOCS = REPOSITORY / "docs"


def loaded(name: str) -> ModuleType:
    """A module of the documentation, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generated = loaded("generated")

WRITTEN = {
    file.relative_to(DOCS).as_posix(): file.read_text(encoding="utf-8")
    for file in sorted(DOCS.rglob("*.md"))
}
MADE = generated.pages()
PAGES = WRITTEN | MADE
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")

_FENCE = re.compile(r"^```(\w*)(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
# What stands for something else in a line that explains.
_PLACEHOLDER = re.compile(r"\.\.\.|…|\b[A-Z]{4,}\b|\bmy_|\$")


def prose(text: str) -> str:
    """The text without its code."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def blocks(text: str, language: str) -> list[tuple[str | None, str]]:
    """Fenced code of a language: the file it is to be, if it says so, and the code."""
    found = [(more, code) for kind, more, code in _FENCE.findall(text) if kind == language]
    titles = [re.search(r'title="([^"]+)"', more) for more, _ in found]
    return [(t and t[1], code) for t, (_, code) in zip(titles, found, strict=True)]


def anchors(text: str) -> set[str]:
    """What a link may point to: headings as Markdown names them, and documented names."""
    found = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE):
        given = re.search(r"\{ #(\w+) \}$", heading)
        slug = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        found.add(given[1] if given else re.sub(r"[\s-]+", "-", slug))
    return found


def broken(page: str, text: str, root: Path, pages: dict[str, str]) -> list[str]:
    """Links of a page that lead nowhere."""
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        place = (root / page).parent / target if target else root / page
        path = Path(place).resolve()
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
        if name in pages:
            if anchor and anchor not in anchors(pages[name]):
                wrong.append(link)
        elif not path.exists() or anchor:
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert broken(page, PAGES[page], DOCS, PAGES) == []


def test_links_of_the_readme_lead_somewhere():
    pages = {"README.md": README} | {f"docs/{name}": text for name, text in PAGES.items()}
    assert broken("README.md", README, REPOSITORY, pages) == []


def test_a_link_that_leads_nowhere_is_found():
    pages = {"a.md": "# One thing\n[b](b.md) [c](c.md#one) [d](#one-thing) `[e](e.md)`", "c.md": ""}
    assert broken("a.md", pages["a.md"], DOCS, pages) == ["b.md", "c.md#one"]


def test_every_page_is_in_the_navigation_once():
    nav = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = re.findall(r"([\w/-]+\.md)$", nav.partition("\nmarkdown_extensions:")[0], re.MULTILINE)
    below = [entry for pages in generated.navigation().values() for entry in pages]
    listed += [path for entry in below if isinstance(entry, dict) for path in entry.values()]
    assert sorted(listed) == sorted(PAGES)
    assert not WRITTEN.keys() & MADE.keys()


def test_pictures_are_few_and_shown():
    pictures = [p for kind in ("webp", "png") for p in DOCS.rglob(f"*.{kind}")]
    assert sum(p.stat().st_size for p in pictures) < 2e6
    text = "\n".join([*PAGES.values(), README])
    assert [p.name for p in pictures if p.name not in text] == []


# Generated pages


def test_generated_pages_hold_what_the_code_holds():
    for e in EXPERIMENTS:
        page = MADE[f"experiments/{e.name}.md"]
        assert e.summary in page
        assert all(f"`{variable}`" in page for variable in e.schema)
        assert all(f"--{e.name.replace('_', '-')}." in page for _ in e.quick)
    assert all(f"\n## {name}\n" in MADE["commands.md"] for name in COMMANDS)


def test_the_gallery_is_made_from_results(tmp_path, monkeypatch):
    gallery = loaded("gallery")
    monkeypatch.setattr(gallery, "GALLERY", tmp_path / "gallery")
    claim = {"answer": "holds", "effect": 2, "null": 1, "value": 2.0, "low": None, "high": 3.0}
    claim |= {"contrast": "over", "count": "9 images"}
    told = {"claims": [{"name": n, "experiment": n, **claim} for n in ("there", "missing")]}
    for folder in ("one", "quick/two"):
        figures = tmp_path / folder / "figures"
        figures.mkdir(parents=True)
        (tmp_path / folder / "claims.json").write_text(json.dumps(told))
        (tmp_path / folder / "there.h5").touch()
        for name in ("universal", "transfer", folder[-3:]):
            Image.fromarray(np.zeros((90, 1800), np.uint8)).save(figures / f"{name}.png")
    gallery.main([str(tmp_path / folder) for folder in ("one", "quick/two")])
    made = {p.relative_to(tmp_path / "gallery").as_posix() for p in tmp_path.rglob("*.webp")}
    first = {f"one/{name}.webp" for name in ("one", "transfer", "universal")}
    assert made == first | {"two/two.webp", "two/universal.webp"}
    with Image.open(tmp_path / "gallery" / "one" / "universal.webp") as image:
        assert image.size == (1000, 50)
    answers = json.loads((tmp_path / "gallery" / "answers.json").read_text())
    assert [answers[n]["quick"] for n in ("one", "two")] == [False, True]
    assert answers["one"]["answers"] == {"there": "**holds**: 2 against 1, ratio 2, on 9 images"}


# Command lines


def commands(text: str) -> list[list[str]]:
    """Every `geomadv ...` that a page prints, in blocks and in its sentences."""
    shown = "\n".join(code for _, code in (*blocks(text, "sh"), *blocks(text, "console")))
    shown += "\n" + "\n".join(re.findall(r"^    (.*\S)$", _FENCE.sub("", text), re.MULTILINE))
    lines = shown.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(geomadv [^`]+)`", _FENCE.sub("", text))
    found = [
        re.search(r"^(?:torchrun .*-m )?geomadv (.*)", " ".join(line.split())) for line in lines
    ]
    return [shlex.split(m[1], comments=True) for m in found if m and not _PLACEHOLDER.search(m[1])]


class Parsed(Exception):
    """A command line was understood; nothing was run."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the files that pages show."""
    for text in PAGES.values():
        for language in ("python", "toml"):
            for title, code in blocks(text, language):
                if title:
                    (tmp_path / title).write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def understood(folder, monkeypatch):
    """Whether the command's own parser takes the words."""
    real, table = tyro.cli, {e.name: e for e in EXPERIMENTS}

    def stop(*positional, **named):
        real(*positional, **named)
        raise Parsed

    def named(words):
        """The experiments that the words name, and what these need: parsing them all takes long."""
        text = "\n".join([*words, *(Path(w).read_text() for w in words if w.endswith(".toml"))])
        wanted = [name for name in table if name in text.replace("-", "_")] + ["boundary"]
        for name in wanted:
            wanted += [i for i in (*table[name].inputs, *table[name].optional) if i not in wanted]
        return tuple(e for e in EXPERIMENTS if e.name in wanted)

    def run(words):
        monkeypatch.setattr(tyro, "cli", stop)
        monkeypatch.setattr(pipeline_flags, "EXPERIMENTS", named(words))
        try:
            return main(words) == 0
        except Parsed:
            return True
        except SystemExit as end:
            return end.code == 0
        finally:
            monkeypatch.undo()
            monkeypatch.chdir(folder)

    return run


WITH_COMMANDS = {n: commands(t) for n, t in {**WRITTEN, "README.md": README}.items() if commands(t)}


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_command_lines_are_understood(page, understood, capsys):
    bare = {words[0] for words in WITH_COMMANDS[page] if len(words) == 1}
    assert bare <= COMMANDS.keys()
    flagged = [words for words in WITH_COMMANDS[page] if len(words) > 1]
    wrong = [shlex.join(words) for words in flagged if not understood(words)]
    assert wrong == [], capsys.readouterr().err


def test_a_command_line_that_nobody_understands_is_found(folder, understood, capsys):
    page = "```sh\ngeomadv run boundary --boundary.cuont 3  # typing\n```\nand `geomadv chekc`."
    assert [understood(words) for words in commands(page)] == [False, False]
    assert commands("    torchrun -m geomadv list networks\n`geomadv show FILE`") == [
        ["list", "networks"]
    ]


def test_targets_of_make_exist():
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    shown = "\n".join([*WRITTEN.values(), README])
    assert set(re.findall(r"(?:`|^    )make ([a-z-]+)", shown, re.MULTILINE)) <= set(targets)


@pytest.mark.parametrize("page", ["howto/own-experiment.md"])
def test_commands_of_a_page_run_in_their_order(page, folder, capsys):
    for words in WITH_COMMANDS[page]:
        if "--overwrite" not in words:  # which takes as long as the first time
            assert main(words) == 0, capsys.readouterr().err
    assert (folder / "results" / "digits-cnn" / "figures" / "by_class.png").stat().st_size > 2000
    sys.modules.pop("by_class", None)


def test_claims_that_pages_name_exist(capsys):
    named = {w[2] for c in WITH_COMMANDS.values() for w in c if w[:2] == ["claims", "--explain"]}
    assert named
    assert all(main(["claims", "--explain", name]) == 0 for name in sorted(named))


# Examples


EXAMPLES = {n: [c for t, c in blocks(text, "python") if t is None] for n, text in WRITTEN.items()}


@pytest.mark.filterwarnings("ignore::geomadv.errors.UnconvergedWarning")
@pytest.mark.parametrize("page", [n for n, code in EXAMPLES.items() if code])
def test_examples_run_as_they_stand(page, folder):
    space: dict[str, object] = {}
    for number, code in enumerate(EXAMPLES[page]):
        exec(compile(code, f"{page}, example {number}", "exec"), space)
