"""Report pages: drawings within their frames, nothing from outside; in a browser nothing is cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

import qutec
from qutec.report.labels import CHARACTER
from tests.passes.exit_networks import Network
from tests.report.browser import Page, browser_page, find_browser

SVG = "{http://www.w3.org/2000/svg}"
PAGES = ("layer by layer", "row by row", "streamed", "shared")
WIDTHS = (360, 768, 1600)
A4_WITHOUT_MARGINS = 718

TOO_WIDE = """
[...document.body.querySelectorAll('*')]
  .filter(node => node.matches('.scroll') || !node.closest('.scroll'))
  .filter(node => node.getClientRects().length && !node.closest('title, style'))
  .filter(node => {
    const box = node.getBoundingClientRect();
    return box.right > document.documentElement.clientWidth + 1 || box.left < -1;
  })
  .map(node => node.tagName + ' ' + node.textContent.slice(0, 40))
"""
"""What reaches over the page's edge, but for the cells of tables, which scroll by themselves."""

CUT_TABLES = """
[...document.querySelectorAll('.scroll')].filter(node => node.scrollWidth > node.clientWidth + 1)
  .map(node => node.textContent.slice(0, 40))
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a residual network whose names are as long as those that converters make."""
    net = Network(3, 16, 16)
    long = "model/batch_normalization_{}/FusedBatchNormV3;model/conv2d_{}/BiasAdd/ReadVariableOp/resource"
    x = net.block(net.x, 8, name=long.format(1, 1))
    for number in range(2, 4):
        x = net.block(net.residual(x, name=long.format(number, number)), 12, stride=2)
    net.head(x, "probabilities_of_the_final_exit_of_the_network")
    folder = tmp_path_factory.mktemp("pages")
    model = folder / "a_network_with_a_name_that_is_longer_than_a_telephone_is_wide.onnx"
    model.write_bytes(net.proto().SerializeToString())
    builds = {
        "layer by layer": qutec.compile(model, calibration="random"),
        "row by row": qutec.compile(model, calibration="random", optimize="sram"),
        "streamed": qutec.compile(model, calibration="random", optimize="sram", stream_input=True),
        "shared": qutec.compile_many([model, model], names=["first", "second"], calibration="random"),
    }
    return {name: build.save(folder / name) / "report.html" for name, build in builds.items()}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium")
    with browser_page(path, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.mark.parametrize("name", PAGES)
def test_page_asks_for_nothing_from_outside(pages: dict[str, Path], name: str) -> None:
    html = pages[name].read_text()
    assert not re.findall(r"<(?:script|link|img|iframe)\b|@import|url\(|\bsrc=|\bhref=", html)
    assert set(re.findall(r"https?://[^\"' <]+", html)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("size", "hidden"), [(14.0, "narrow"), (26.0, "wide")])
def test_drawing_and_its_words_are_within_the_frame(
    pages: dict[str, Path], name: str, size: float, hidden: str
) -> None:
    drawings = re.findall(r"<svg.*?</svg>", pages[name].read_text(), re.DOTALL)
    assert drawings
    for drawing in map(ElementTree.fromstring, drawings):
        _, _, width, height = map(float, drawing.get("viewBox", "").split())
        for rect in drawing.iter(f"{SVG}rect"):
            x, y, w, h = (float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
            assert min(x, y) >= 0
            assert x + w <= width + 0.1
            assert y + h <= height + 0.1
        for text in drawing.iter(f"{SVG}text"):
            if hidden in text.get("class", "").split():
                continue
            x, words = float(text.get("x", "0")), text.text or ""
            length = len(words) * size * CHARACTER
            # A little is let go: digits and small letters are narrower than the average that is reckoned.
            left = x - length * {"end": 1.0, "middle": 0.5}.get(text.get("text-anchor", ""), 0.0)
            if "rotate" not in text.get("transform", ""):
                assert left >= -0.1 * length, words
                assert left + length <= width + 0.1 * length, words


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_page(pages: dict[str, Path], browser: Page, name: str, width: int) -> None:
    browser.show(pages[name], width)
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("name", PAGES)
def test_print_is_light_and_cuts_no_table(pages: dict[str, Path], browser: Page, name: str) -> None:
    browser.show(pages[name], A4_WITHOUT_MARGINS, "dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert browser.evaluate(ground) == "rgb(13, 17, 23)"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert browser.evaluate(ground) == "rgb(255, 255, 255)"
    assert browser.evaluate(CUT_TABLES) == []
    browser.call("Emulation.setEmulatedMedia", media="", features=[])
