"""HTML reports of profiles in a real browser: the figures that it shows are those of report.json."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import qutec
from qutec.backends.onnxruntime import profile_models
from qutec.report.profile_html import report_html
from tests.onnxruntime_backend.oracle import DIGITS, images
from tests.report.browser import find_browser


def browser() -> str:
    """A Chromium, or skip."""
    path = find_browser()
    if path is None:
        pytest.skip("no chromium is installed")
    return path


def in_browser(page: Path, folder: Path, *options: str) -> str:
    """The document after the browser has laid it out, with the network out of reach."""
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
    command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--dump-dom", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


class Document(HTMLParser):
    """Cells of every table by id, facts by term, tooltips of drawings, and addresses that are asked for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: dict[str, str] = {}
        self.tooltips: list[str] = []
        self.addresses: list[str] = []
        self._rows: list[list[str]] | None = None
        self._inside: list[str] = []
        self._term = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.addresses += [str(known[name]) for name in ("src", "href") if known.get(name)]
        if tag == "table":
            self._rows = self.tables.setdefault(str(known.get("id", "")), [])
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows is not None:
            self._rows[-1].append("")
        elif tag == "title":
            self.tooltips.append("")
        elif tag == "dt":
            self._term = ""
        elif tag == "script":
            self.addresses.append("script")
        if tag not in ("meta", "br", "line", "rect", "circle"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._inside:
            return
        if {"td", "th"} & set(self._inside) and self._rows is not None:
            self._rows[-1][-1] += data
        elif self._inside[-1] == "title":
            self.tooltips[-1] += data
        elif self._inside[-1] == "dt":
            self._term += data
        elif self._inside[-1] == "dd":
            self.facts[self._term] = self.facts.get(self._term, "") + data


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"


def part(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = qutec.compile(
        DIGITS,
        target="onnxruntime",
        data={"x": images(20), "y": [k % 10 for k in range(20)]},
        batch="1,4",
        runs=10,
        warmup=1,
    )
    return build.save(tmp_path_factory.mktemp("page") / "net")


def test_the_browser_shows_the_figures_of_report_json(saved: Path, tmp_path: Path) -> None:
    data = json.loads((saved / "report.json").read_text())
    page = Document(in_browser(saved / "report.html", tmp_path))
    assert page.addresses == []
    assert page.facts["median latency"] == f"{shown(data['latency_us']['p50'])} µs"
    assert page.facts["peak memory"] == f"{data['profile']['memory']['peak_bytes']:,} bytes"
    assert page.facts["model size"] == f"{data['profile']['model_bytes']:,} bytes"
    assert page.facts["multiply-accumulates"] == f"{data['macs']:,}"
    batches: list[dict[str, Any]] = data["profile"]["batches"]
    assert [row[0::2] for row in page.tables["batches"][1:]] == [
        [str(b["batch"]), shown(b["latency_us"]["p50"]), shown(b["latency_us"]["p99"])] for b in batches
    ]
    for b in batches:
        tail = f"-batch-{b['batch']}"
        assert page.tables[f"operators{tail}"][1:] == [
            [i["op"], "", str(i["nodes"]), shown(i["us"]), part(i["share"])] for i in b["operators"]
        ]
        assert page.tables[f"sections{tail}"][1:] == [
            [i["name"], "", str(i["nodes"]), shown(i["us"]), part(i["share"])] for i in b["sections"]
        ]
        assert page.tables[f"exits{tail}"][1:] == [
            [i["name"], shown(i["us"]), shown(i["own_us"]), part(i["accuracy"]), part(i["share"])]
            for i in b["exits"]
        ]
        assert page.tables[f"nodes{tail}"][1:] == [
            [i["name"], i["op"], i["section"], shown(i["us"]), part(i["share"])] for i in b["nodes"]
        ]
        for node in b["nodes"]:
            tooltip = f"{node['name']} ({node['op']}, {node['section']}): {shown(node['us'])} µs"
            assert any(text.startswith(tooltip) for text in page.tooltips), tooltip


@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_is_no_wider_than_the_window(saved: Path, tmp_path: Path, width: int) -> None:
    """A script that only this test adds writes down the layout."""
    text = (saved / "report.html").read_text()
    probe = tmp_path / "probe.html"
    frame = tmp_path / "frame.html"
    frame.write_text(text)
    probe.write_text(
        f'<body style="margin:0"><iframe id="f" src="frame.html" width="{width}" height="800" '
        'style="border:0"></iframe><p id="out"></p><script>f.onload = () => {'
        "const d = f.contentDocument.documentElement; const inner = f.contentDocument;"
        "const bars = [...inner.querySelectorAll('.scroll')].map(e => e.clientWidth);"
        "out.textContent = JSON.stringify([d.clientWidth, d.scrollWidth, Math.max(...bars),"
        "inner.querySelector('.timeline').getBoundingClientRect().width]); }</script>"
    )
    options = ("--allow-file-access-from-files", "--window-size=1600,1000", "--virtual-time-budget=3000")
    text = in_browser(probe, tmp_path, *options)
    found = text.partition('<p id="out">')[2].partition("</p>")[0]
    client, scroll, table, timeline = json.loads(found)
    assert client == width
    assert scroll <= width
    assert table <= width
    assert width * 0.75 < timeline <= width


def test_names_of_a_model_are_text_and_nothing_else(saved: Path, tmp_path: Path) -> None:
    build = qutec.compile(DIGITS, target="onnxruntime", runs=10, warmup=0)
    evil = "<script>alert(1)</script>&\"'\x00"
    profile = build.report.profile
    node = replace(profile.batches[0].nodes[0], name=evil, op=evil, section=evil)
    batch = replace(profile.batches[0], nodes=(node, *profile.batches[0].nodes[1:]))
    report = replace(
        build.report, model={**build.report.model, "name": evil}, profile=replace(profile, batches=(batch,))
    )
    page = tmp_path / "evil.html"
    page.write_text(report_html(report), encoding="utf-8")
    document = Document(in_browser(page, tmp_path))
    assert document.addresses == []
    assert document.tables["nodes"][1][0].startswith("<script>alert(1)</script>&\"'")


def test_several_models_are_side_by_side(tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(DIGITS.read_bytes())
    profile = profile_models([DIGITS, other], runs=10, warmup=0)
    folder = profile.save(tmp_path / "profile_of_two")
    data = json.loads((folder / "report.json").read_text())
    page = Document(in_browser(folder / "report.html", tmp_path))
    (comparison,) = data["comparisons"]
    ratio = comparison["ratio"]
    assert page.tables["models"][1][0:2] == ["digits", "1"]
    words = f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})"
    assert page.tables["models"][2][0:2] == ["other", words]
    for number, model in enumerate(data["models"]):
        assert [row[0] for row in page.tables[f"operators-{number}"][1:]] == [
            item["op"] for item in model["batches"][0]["operators"]
        ]
