"""The report as a reader has it: in Chromium, on a screen, a phone, by keyboard, on paper."""

import base64

import pytest
from browser_for_tests import Page, chromium
from small_runs import small_runner
from test_pipeline_report import contrast

from geomadv.pipeline.figures import draw
from geomadv.pipeline.report import report

pytestmark = pytest.mark.skipif(
    chromium() is None, reason="NO CHROMIUM: the report is not looked at in a browser"
)

# Every text with its colour and what is behind it, in a page and in those inside it.
COLOURS = """(() => {
  const found = [], hex = (c) => "#" + c.match(/\\d+/g).slice(0, 3)
    .map((v) => Number(v).toString(16).padStart(2, "0")).join("");
  const look = (page) => {
    page.querySelectorAll("details").forEach((d) => { d.open = true; });
    for (const node of page.querySelectorAll("body *")) {
      if (node.tagName === "IFRAME") look(node.contentDocument);
      const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
      if (!own || !node.offsetParent) continue;
      let at = node, clear = (c) => c === "rgba(0, 0, 0, 0)";
      const ground = () => page.defaultView.getComputedStyle(at).backgroundColor;
      while (at.parentElement && clear(ground())) at = at.parentElement;
      const colour = page.defaultView.getComputedStyle(node).color;
      found.push([node.tagName + "." + node.className, hex(colour), hex(ground())]);
    }
  };
  look(document);
  return [...new Set(found.map(JSON.stringify))].map(JSON.parse);
})()"""

# Names what has the focus, by its place among all that can have it.
FOCUS = """(() => {
  const inside = (page) => [...page.querySelectorAll("a[href], summary, input, select, iframe")]
    .flatMap((n) => n.tagName === "IFRAME" ? inside(n.contentDocument) : [n]);
  const all = inside(document).filter((n) => n.checkVisibility());
  let at = document.activeElement;
  if (at.tagName === "IFRAME") at = at.contentDocument.activeElement;
  return [all.indexOf(at), all.length];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    runner = small_runner(tmp_path_factory.mktemp("results"))
    folder = runner.study.folder
    for name in ("train", "tilting_plane"):
        runner.run(name)
    draw(folder, only=["tilting_slider", "tilting_sweep"], say=lambda line: None)
    for slow in ("tilting_plane", "tilting_images", "tilting_space"):  # one picture is enough
        (folder / "figures" / f"{slow}.png").write_bytes(
            (folder / "figures" / "tilting_sweep.png").read_bytes()
        )
    opened = Page(report(folder).path, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_it_asks_for_nothing_and_complains_of_nothing(page):
    asked = {sent["request"]["url"] for sent in page.of("Network.requestWillBeSent")}
    outside = {address for address in asked if not address.startswith("data:")}
    assert len(outside) == 1
    assert outside.pop().endswith("report.html")
    logged = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    assert not [event for kind in logged for event in page.of(kind)]


def test_every_image_loads(page):
    sizes = page.js("[...document.images].map((i) => i.complete && i.naturalWidth)")
    assert len(sizes) >= 4
    assert all(sizes)


@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_is_wider_than_the_window(page, width):
    page.width(width)
    page.js("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.js("document.documentElement.scrollWidth") <= width
    inside = page.js(
        "(() => { const d = document.querySelector('iframe').contentDocument.documentElement;"
        " return [d.scrollWidth - d.clientWidth, d.scrollHeight - d.clientHeight]; })()"
    )
    assert inside[0] == 0
    assert inside[1] <= 4


def test_the_slider_moves(page):
    frame = "document.querySelector('iframe').contentDocument"
    told = f"{frame}.getElementById('angle').textContent"
    before = page.js(told)
    page.js(f"{frame}.getElementById('strength').focus()")
    page.press("End", 35)
    assert page.js(told) != before


def test_every_control_is_reached_by_the_keyboard(page):
    page.js("document.querySelectorAll('details').forEach((d) => { d.open = false; })")
    page.js("document.activeElement.blur(); getSelection().removeAllRanges(); scrollTo(0, 0)")
    _, count = page.js(FOCUS)
    seen = set()
    for _ in range(2 * count):
        page.press("Tab", 9)
        seen.add(page.js(FOCUS)[0])
        if len(seen - {-1}) == count:
            break
    assert seen >= {*range(count)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_aa(page, scheme):
    page.scheme(scheme)
    found = page.js(COLOURS)
    assert len(found) > 20
    dim = [(node, text, ground) for node, text, ground in found if contrast(text, ground) < 4.5]
    assert not dim
    page.scheme("light")


def test_it_prints_with_the_claims_unfolded(page):
    page.js("document.querySelectorAll('details').forEach((d) => { d.open = false; })")
    page.js("addEventListener('beforeprint', () => { window.seen = "
            "document.querySelectorAll('details.print[open]').length; })")  # fmt: skip
    pdf = base64.b64decode(page.call("Page.printToPDF")["data"])
    assert pdf.startswith(b"%PDF")
    assert page.js("window.seen") == 2
    assert page.js("document.querySelectorAll('details[open]').length") == 0


def test_a_link_into_what_is_folded_opens_it(page):
    page.js("document.querySelector('#claims ~ details').id = 'folded'; location.hash = 'folded'")
    page.js("new Promise((done) => setTimeout(done, 50))")
    assert page.js("document.getElementById('folded').open")
