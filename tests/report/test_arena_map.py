"""The arena map shows every allocation where the plan has it, and survives any layer name."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from qutec.planner import Plan, plan_program
from qutec.report.arena_map import arena_svg, arena_text
from tests.planner.programs import add, dense, lookup, program, random_program

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["conv1", "conv2", "residual", "head"]


@pytest.fixture
def plan() -> Plan:
    sizes = {"x": 64, "a": 512, "b": 512, "c": 512, "y": 8}
    calls = [
        dense("x", "a", 64, 512),
        dense("a", "b", 512, 512),
        add("a", "b", "c", 512),
        dense("c", "y", 512, 8),
    ]
    return plan_program(program(calls, sizes), [0, 256, 0, 0])


def boxes(svg: str) -> dict[str, tuple[ElementTree.Element, str]]:
    """The rectangle and the tooltip of each allocation by its name."""
    found = {}
    for rect in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        title = rect.findtext(f"{SVG}title")
        if title and rect.get("class", "").startswith("box"):
            found[title.split(":")[0]] = (rect, title)
    return found


def test_boxes_are_to_scale_and_at_their_offsets(plan: Plan) -> None:
    found = boxes(arena_svg(plan, NAMES))
    assert found.keys() == {a.name for a in plan.allocations}
    a, b = found["a"][0], found["b"][0]
    unit = float(a.get("height", "0")) / 512
    for allocation in plan.allocations:
        rect, title = found[allocation.name]
        bottom = float(rect.get("y", "0")) + float(rect.get("height", "0"))
        base = float(a.get("y", "0")) + float(a.get("height", "0")) + plan.offsets["a"] * unit
        assert (base - bottom) / unit == pytest.approx(allocation.offset, abs=1)
        assert f"{allocation.bytes} bytes at {allocation.offset}" in title
    assert float(b.get("height", "0")) == pytest.approx(512 * unit, abs=0.02)


def test_live_allocations_do_not_cover_each_other() -> None:
    net = random_program(4, 30, (100, 220, 364, 512), reach=5)
    plan = plan_program(net, [0] * 30)
    rects = [
        tuple(float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
        for rect, _ in boxes(arena_svg(plan, [c.name for c in net.calls])).values()
    ]
    assert len(rects) == 31
    for i, (x, y, w, h) in enumerate(rects):
        for other_x, other_y, other_w, other_h in rects[:i]:
            wide = min(x + w, other_x + other_w) - max(x, other_x)
            high = min(y + h, other_y + other_h) - max(y, other_y)
            assert min(wide, high) < 0.05


def test_in_place_write_continues_in_the_middle_of_its_column() -> None:
    net = program([lookup("x", "h", 64), dense("h", "y", 64, 8)], {"x": 64, "h": 64, "y": 8})
    found = boxes(arena_svg(plan_program(net, [0, 0]), ["table", "head"]))
    x, h = found["x"][0], found["h"][0]
    assert float(x.get("x", "0")) + float(x.get("width", "0")) == pytest.approx(
        float(h.get("x", "0")), abs=0.02
    )


def test_kinds_are_told_apart(plan: Plan) -> None:
    found = boxes(arena_svg(plan, NAMES))
    kinds = {name: rect.get("class", "").split()[1] for name, (rect, _) in found.items()}
    scratch = kinds.pop("b_dense.scratch")
    assert scratch == "scratch"
    assert kinds == {"x": "input", "a": "internal", "b": "internal", "c": "internal", "y": "output"}


def test_tooltips_name_the_layers_of_a_life(plan: Plan) -> None:
    found = boxes(arena_svg(plan, NAMES))
    assert found["a"][1].endswith("call 0 (conv1) to call 2 (residual)")
    assert found["x"][1].endswith("the caller's input to call 0 (conv1)")
    assert found["y"][1].endswith("call 3 (head) to the caller's output")


@pytest.mark.parametrize(
    "name",
    [
        "</title><script>alert(1)</script>",
        "a&b\"c'd",
        "bell\x07 and \x00",
        "\ud800 alone",
        "\uffff",
        "]]>",
        "层",
    ],
)
def test_any_layer_name_gives_well_formed_xml(plan: Plan, name: str) -> None:
    svg = arena_svg(plan, [name, *NAMES[1:]])
    root = ElementTree.fromstring(svg.encode())
    assert root.find(f".//{SVG}script") is None
    titles = [t.text or "" for t in root.iter(f"{SVG}title")]
    shown = re.sub("[\x00\x07\ud800\uffff]", "\ufffd", name)
    assert any(title == f"call 0: {shown}, {plan.live_bytes[0]} bytes live" for title in titles)


def test_bound_is_drawn_where_the_plan_does_not_meet_it(plan: Plan) -> None:
    above = replace(plan, arena_bytes=2 * plan.lower_bound_bytes)
    assert plan.optimal
    assert 'class="bound"' not in arena_svg(plan, NAMES)
    assert "proven smallest" in arena_svg(plan, NAMES)
    svg = arena_svg(above, NAMES)
    lines = {e.get("class"): float(e.get("y1", "0")) for e in ElementTree.fromstring(svg).iter(f"{SVG}line")}
    assert lines["bound"] > lines["size"]
    assert "gap 100.0 %" in svg


def test_program_without_calls_is_drawn() -> None:
    plan = plan_program(program([], {"x": 20}, outputs=("x",)), [])
    assert boxes(arena_svg(plan, [])).keys() == {"x"}
    assert arena_text(plan, [], 80).startswith("Arena 32 bytes")


def test_same_plan_gives_the_same_bytes(plan: Plan) -> None:
    assert arena_svg(plan, NAMES) == arena_svg(plan, NAMES)


@pytest.mark.parametrize("width", [40, 57, 80, 200])
def test_bars_are_proportional_and_within_the_width(plan: Plan, width: int) -> None:
    lines = arena_text(
        plan, ["a rather long layer name, cut on narrow terminals", *NAMES[1:]], width
    ).splitlines()
    assert max(map(len, lines)) <= width
    bars = [line.count("#") for line in lines[: len(NAMES)]]
    for bar, live in zip(bars, plan.live_bytes, strict=True):
        assert bar / max(bars) == pytest.approx(live / max(plan.live_bytes), abs=1 / max(bars))


def test_peak_is_marked_in_the_bar_chart(plan: Plan) -> None:
    marked = [
        line.split()[0] for line in arena_text(plan, NAMES, 80).splitlines() if line.endswith("<- peak")
    ]
    assert marked == ["conv2"]


def test_control_characters_do_not_reach_the_terminal(plan: Plan) -> None:
    text = arena_text(plan, ["\x1b[31mred", "two\nlines", *NAMES[2:]], 80)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 5


def test_wrong_number_of_names_is_refused(plan: Plan) -> None:
    with pytest.raises(ValueError, match="3 layer names for 4 calls"):
        arena_svg(plan, NAMES[:3])
    with pytest.raises(ValueError, match="3 layer names for 4 calls"):
        arena_text(plan, NAMES[:3], 80)
