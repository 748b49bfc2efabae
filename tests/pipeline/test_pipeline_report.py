"""The report: what stands in it, that it is whole and the same each time, that names are text."""

import json
import re
import shlex
import shutil
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import REPOSITORY
from small_runs import small_runner

import geomadv as ga
from geomadv.claims import CLAIMS, Verdict
from geomadv.errors import InputError
from geomadv.pipeline import EXPERIMENTS, Drawing
from geomadv.pipeline.commands import report_
from geomadv.pipeline.findings import QUESTIONS, findings, quantity
from geomadv.pipeline.finished import finished
from geomadv.pipeline.origin import command_again, commands_of, is_quick, report_again
from geomadv.pipeline.references import bibtex
from geomadv.pipeline.report import linked, report

RUN = ("train", "boundary", "normal_svd")
HOSTILE = "</script><script>alert('1')</script>&\"x"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    runner = small_runner(tmp_path_factory.mktemp("results"))
    for name in RUN:
        runner.run(name)
    report(runner.study.folder)
    return runner.study.folder


class Parsed(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self._open = [], "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self._open = tag
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open not in ("script", "style"):
            self.text += data

    def all(self, attribute):
        return [attrs[attribute] for _, attrs in self.elements if attribute in attrs]


def plain(text):
    return " ".join(text.split())


def test_a_page_holds_what_there_is_and_says_what_is_missing(folder):
    page = Parsed(folder / "report.html")
    text = plain(page.text)
    there = [e for e in EXPERIMENTS if e.name in RUN]
    for experiment in there:
        ds = ga.load(folder / f"{experiment.name}.h5")
        assert plain(experiment.tell(ds)) in text
        assert ds.attrs["command"].splitlines()[-1] in text
        assert all(plain(drawing.caption) in text for drawing in experiment.figures.values())
    for experiment in EXPERIMENTS:
        if experiment.in_paper and experiment not in there:
            assert f"{experiment.name}: missing" in text
            assert f"geomadv run {experiment.name} --network digits-cnn --seed 0" in text
    assert all(claim.sentence in text and claim.formula in text for claim in CLAIMS)
    assert all(question.words in text for question in QUESTIONS)
    assert "piecewise linear" in text or "smooth" in text
    assert "@software{geomadv" in text
    assert "normal SVD" in text
    assert "jetley" not in text  # none of its experiments was run


def test_every_link_leads_somewhere_and_nothing_is_loaded(folder):
    page = Parsed(folder / "report.html")
    ids, targets = page.all("id"), page.all("href")
    assert len(ids) == len({*ids})
    inner = {target[1:] for target in targets if target.startswith("#")}
    assert inner <= {*ids}
    files = {unquote(target) for target in targets if not target.startswith("#")}
    assert {name for name in files if "/" not in name} == {f"{name}.h5" for name in RUN}
    assert {name for name in files if "/" in name} >= {"figures/normal_spectrum.pdf"}
    assert all((folder / name).exists() for name in files)
    assert all(address.startswith("data:image/webp;base64,") for address in page.all("src"))
    assert not {"link", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert all(attrs.get("alt") for tag, attrs in page.elements if tag == "img")


def test_the_same_results_give_the_same_page(folder):
    before = (folder / "report.html").read_bytes()
    page = report(folder)
    assert page.path.read_bytes() == before
    assert "srcdoc=" in page._repr_html_()


def copied(folder, target, **attrs):
    """The results with other attributes, in another folder."""
    for name in RUN:
        ga.save(ga.load(folder / f"{name}.h5").assign_attrs(attrs), target / f"{name}.h5")
    shutil.copytree(folder / "figures", target / "figures", copy_function=shutil.copyfile)
    return target


def test_names_are_text_wherever_they_come_from(folder, tmp_path):
    ds = ga.load(folder / "boundary.h5")
    words = {"network": HOSTILE, "network_told": HOSTILE, "dataset": f"{HOSTILE}-test"}
    hostile = copied(folder, tmp_path / "a & <b>", **words, command=f"geomadv run x {HOSTILE!r}")
    usual = len([t for t, _ in Parsed(folder / "report.html").elements if t == "script"])
    page = Parsed(report(folder, [hostile]).path)
    assert HOSTILE in page.text
    assert len([tag for tag, _ in page.elements if tag == "script"]) == usual
    assert not [attrs for _, attrs in page.elements if any(a.startswith("on") for a in attrs)]
    links = {unquote(target) for target in page.all("href") if not target.startswith("#")}
    assert all((folder / link).exists() for link in links)
    assert len([link for link in links if link.endswith(".h5")]) == 2 * len(RUN)
    assert ds.attrs["network"] in page.text
    report(folder)


def test_networks_stand_side_by_side(folder, tmp_path, capsys):
    other = copied(folder, folder.parent / "other", network="other")
    report_([str(folder), "--compare", "other"])
    page = Parsed(folder / "report.html")
    assert "digits-cnn beside other" in plain(page.text)
    assert page.text.count("missing") > 2
    shown = [attrs["alt"] for tag, attrs in page.elements if tag == "img"]
    assert len([words for words in shown if "of other" in words]) == 2
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    with pytest.raises(InputError, match="name each network's once"):
        report(folder, [folder])
    with pytest.raises(InputError, match="run `geomadv paper`"):
        report(folder, [tmp_path])
    shutil.rmtree(other)
    report(folder)


def test_an_experiment_of_ones_own_has_its_caption(folder):
    @dataclass(frozen=True, kw_only=True)
    class Mine:
        """Counts something of mine."""

        size: int = 3
        """How much of it."""

    def draw(ds):
        return f"<title>{ds.sizes['sample']}</title>"

    own = replace(
        next(e for e in EXPERIMENTS if e.name == "train"),
        name="mine",
        settings=Mine,
        figures={"my_page": Drawing(draw, "See < how > it is & was.")},
        tell=lambda ds: "mine told",
    )
    ga.save(ga.load(folder / "train.h5").assign_attrs(config='{"size": 5}'), folder / "mine.h5")
    text = plain(Parsed(report(folder, also=[own]).path).text)
    for words in ("mine told", "See < how > it is & was.", "How much of it.", "Counts something"):
        assert words in text
    assert "mine told" not in Parsed(report(folder).path).text
    (folder / "mine.h5").unlink()


def test_a_refused_disk_leaves_the_old_page(folder, monkeypatch):
    before = (folder / "report.html").read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(InputError, match=r"report\.html \(No space left"):
        report(folder)
    assert (folder / "report.html").read_bytes() == before
    assert not [*folder.glob("*.tmp")]


def told(one, command):
    """The same results, of which the first says another command."""
    return replace(one, results={"train": one.results["train"].assign_attrs(command=command)})


def test_the_command_again_keeps_network_and_images_alone(folder):
    (one,) = finished([folder])
    usual = replace(one, folder=Path("results/digits-cnn"))
    assert command_again(usual) == "geomadv paper --network digits-cnn --seed 0"
    line = (
        "geomadv run train --network m:f --images 'my images' --mean 0.1 --seed 3 "
        "--device cuda:1 --batch-size 7 --memory 10 --train.count 5 --train.no-x --also a:b"
    )
    assert command_again(told(usual, f"geomadv run x\n{line}"), "curvature") == (
        "geomadv run curvature --network m:f --images 'my images' --mean 0.1 --seed 3 --also a:b"
    )
    called = told(usual, "ga.run('train', net, images)")
    assert command_again(called, "universal") == "ga.run('universal', net, images)"
    other = told(usual, "python analysis/train.py")
    assert command_again(other, "universal", "transfer") == (
        "geomadv run universal transfer --network digits-cnn"
    )


@pytest.mark.parametrize(
    ("place", "named"),
    [("quick/net", "quick"), ("my results/a/net", "'my results/a'"), ("net", "."), ("/a/n", "/a")],
)
def test_commands_write_into_the_folder_that_the_results_lie_in(folder, place, named):
    (one,) = finished([folder])
    there = replace(one, folder=Path(place))
    assert command_again(there) == f"geomadv paper --network digits-cnn --seed 0 --results {named}"
    lines = commands_of(there, "normal_svd").splitlines()
    assert [line.split()[2] for line in lines] == ["boundary", "normal_svd"]
    assert all(line.endswith(f" --results {named}") for line in lines)
    called = told(there, "ga.run('train', net, images)")
    assert command_again(called, "a") == (
        f"ga.run('a', net, images, results={str(Path(place).parent)!r})"
    )
    assert report_again([there, one]).startswith(f"geomadv report {shlex.quote(place)} --compare ")


@pytest.mark.parametrize("dimension", [64, 150_528])
def test_commands_of_small_counts_say_quick(folder, dimension):
    (one,) = finished([folder])
    small = {e.name: e.quick_settings(dimension) for e in EXPERIMENTS}
    config = {name: json.dumps({**one.config(name), **small[name]}) for name in one.results}
    quick = replace(
        one, results={n: ds.assign_attrs(config=config[n]) for n, ds in one.results.items()}
    )
    assert not is_quick(one)
    assert is_quick(quick)
    assert "--quick" in command_again(quick, "curvature").split()
    mixed = replace(quick, results={**quick.results, "train": one.results["train"]})
    assert "--quick" not in command_again(mixed)


def test_a_page_of_all_figures_weighs_six_megabytes_at_most(folder):
    """Text and settings of all experiments take 0.6 MB, and so 5.4 MB are left for figures."""
    path = report(folder).path
    pictures = Parsed(path).all("src")
    each = 5.4e6 / sum(len(e.figures) for e in EXPERIMENTS)
    assert pictures
    assert path.stat().st_size <= 0.6e6 + len(pictures) * each


# Words


@pytest.mark.parametrize("name", [n for e in EXPERIMENTS for n in e.figures])
def test_every_figure_has_a_caption(name):
    (caption,) = [e.figures[name].caption for e in EXPERIMENTS if name in e.figures]
    assert len(caption) > 60
    assert caption.endswith(".")


CLAIM = {claim.name: claim for claim in CLAIMS}
TOLD = {told.claim: told for question in QUESTIONS for told in question.answers}


def verdicts(**answers):
    """All claims, not measured but for those given."""
    unmeasured = {name: Verdict(c, "not measured", note=f"no {name}") for name, c in CLAIM.items()}
    return unmeasured | {
        name: Verdict(CLAIM[name], answer, 0.25, 0.5, 0.5, 0.4, 0.6, "9 images")
        for name, answer in answers.items()
    }


@pytest.mark.parametrize("name", TOLD)
def test_each_claim_of_a_finding_says_its_numbers_and_its_answer(name):
    experiment = next(e for e in EXPERIMENTS if e.name == CLAIM[name].experiment)
    assert TOLD[name].figure in experiment.figures
    meanings = set()
    for answer in ("holds", "does not hold", "undecided"):
        (found,) = [f for f in findings(verdicts(**{name: answer})) if f.told.claim == name]
        effect, null = (quantity(number, TOLD[name].unit) for number in (0.25, 0.5))
        assert effect in found.sentence
        assert null in found.sentence
        assert found.verdict.answer == answer
        meanings.add(found.meaning)
    assert len(meanings) == 3


@pytest.mark.parametrize("name", TOLD)
def test_what_a_claim_that_fails_means_names_its_threshold(name):
    """Just short of it most contrasts are large: "no more than chance" would be wrong."""
    claim = CLAIM[name]
    points = f"{100 * abs(claim.threshold):.0f} percentage points"
    asked = {0.5: "half", 2.0: "twice"}[claim.threshold] if claim.contrast == "over" else points
    assert asked in TOLD[name].fails


def test_the_first_measured_claim_answers_a_question():
    for place, question in enumerate(QUESTIONS):
        *_, last = question.answers
        found = findings(verdicts(**{last.claim: "holds"}))
        assert found[place].told is last
        others = [f for i, f in enumerate(found) if i != place]
        assert all(f.sentence == f"Not measured: no {f.told.claim}." for f in others)
        assert not any(f.meaning for f in others)


def test_a_bound_is_told_as_one():
    name = "universal_norm"
    made = verdicts(**{name: "holds"})[name]
    bound = replace(made, note="stale: y; at most 0.5: x", bound="at most")
    sentence = findings(verdicts() | {name: bound})[1].sentence
    assert "0.5 image units or more" in sentence
    assert "0.25 image units;" in sentence


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(0.5, "share", "50 %"), (0.0224, "share", "2.2 %"), (0, "share", "0 %"),
     (1 / 3, " m", "0.333 m"), (float("nan"), "share", "–")],
)  # fmt: skip
def test_quantities(value, unit, words):
    assert quantity(value, unit) == words


def test_words_of_the_glossary_link_to_it_once():
    text = str(linked("Boundary normals & <normals>: S_hi, S_lo or confinedly confined"))
    assert re.sub("<a[^>]*>|</a>", "", text) == (
        "Boundary normals &amp; &lt;normals&gt;: S_hi, S_lo or confinedly confined"
    )
    assert re.findall('href="#([^"]*)"', text) == [
        "term-boundary-normal-normal", "term-s_hi-s_lo", "term-confined",
    ]  # fmt: skip


def test_every_paper_of_a_claim_and_of_the_citation_file_is_cited():
    entries = bibtex(e.name for e in EXPERIMENTS)
    cited = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    for title in re.findall('title: "(.*)"', cited):
        assert title.removeprefix("geomadv: ") in re.sub("[{}]", "", entries)
    for claim in CLAIMS:
        author = claim.paper.split()[0]
        assert author in bibtex([claim.experiment]), claim.paper
    assert bibtex([]).count("@") == 2


# Colours


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, two):
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_the_contrast_of_aa(scheme):
    page = (REPOSITORY / "geomadv/pipeline/report.html").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{([^}]*--page[^}]*)\}", page)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#\w{6})", dark))
    surfaces = {name: colours.pop(name) for name in ("page", "panel")}
    badge = colours.pop("badge")
    assert colours.pop("line")  # holds no text
    for name, colour in colours.items():
        # Answers are grounds of badges, all others are texts.
        others = [badge] if name.replace("-", " ") in ANSWERS else surfaces.values()
        assert min(contrast(colour, other) for other in others) >= 4.5, name


ANSWERS = ("holds", "does not hold", "undecided", "not measured")


def test_the_folder_must_be_one_of_results(tmp_path):
    assert ga.report.__wrapped__ is report
    with pytest.raises(InputError, match="found no results"):
        ga.report(tmp_path)
    with pytest.raises(InputError, match="compare is of type str"):
        ga.report(tmp_path, "other")
