"""The planner beside an exhaustive search, on thousands of random networks.

    python -m benchmarks.planner_brute_force                   200 networks of each kind
    python -m benchmarks.planner_brute_force --graphs 3000     more of them
    python -m benchmarks.planner_brute_force --seed 17 --graphs 1   one that did not agree

Networks of three to five calls: branches, additions, concatenations, several outputs, exits, scratch, maps
whose calls may run row by row. For each the smallest arena is searched by trying every choice of regions,
every set of moves, every order and every offset, and the planner has to find the same and to know that it is
the smallest. What the two share is said in tests/planner/brute_force.py and comparison.py. The exit code is 1
where something did not agree.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks._tables import plain_table
from tests.planner.comparison import COMPARISONS, Comparison

__all__ = ["main"]

_OUTPUT = Path("build/benchmarks/planner_brute_force.json")


@dataclass(frozen=True)
class Row:
    """The networks of one kind of comparison."""

    decided: str
    graphs: int
    agreed: int
    not_proven: int
    """Of those that agree in bytes, how many the planner does not call proven."""
    features: dict[str, int]
    """How many networks have each, and how many of the smallest plans have moves and regions."""
    disagreed: list[int]
    """Seeds."""
    seconds: float
    """Of processor time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print and write; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare the memory planner with an exhaustive search.")
    parser.add_argument("--graphs", type=int, default=200, help="networks of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--only", default="", help="only kinds whose names begin so")
    options = parser.parse_args(arguments)
    rows = []
    for name, compare in COMPARISONS.items():
        if name.startswith(options.only):
            rows.append(_row(name, compare, range(options.seed, options.seed + options.graphs)))
            _print(rows[-1])
    _OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    _OUTPUT.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    print(_table(rows))
    return int(any(row.disagreed for row in rows))


def _row(name: str, compare: Callable[[int], Comparison], seeds: range) -> Row:
    start = time.process_time()
    found: Counter[str] = Counter()
    agreed = not_proven = 0
    disagreed = []
    for seed in seeds:
        comparison = compare(seed)
        found.update(comparison.features)
        agreed += comparison.agreed
        not_proven += comparison.planned == comparison.smallest and not comparison.proven
        if not comparison.agreed:
            disagreed.append(seed)
            print(
                f"{name}, seed {seed}: planned {comparison.planned}, smallest {comparison.smallest}, "
                f"{'proven' if comparison.proven else 'not proven'}",
                flush=True,
            )
    seconds = round(time.process_time() - start, 1)
    return Row(name, len(seeds), agreed, not_proven, dict(sorted(found.items())), disagreed, seconds)


def _print(row: Row) -> None:
    what = ", ".join(f"{count} with {feature}" for feature, count in row.features.items())
    print(f"{row.decided}: {row.agreed} of {row.graphs} agreed ({what})", flush=True)


def _table(rows: Sequence[Row]) -> str:
    heads = ["decided besides order and places", "graphs", "agreed", "s"]
    return plain_table(heads, [[r.decided, f"{r.graphs:,}", f"{r.agreed:,}", str(r.seconds)] for r in rows])


if __name__ == "__main__":
    sys.exit(main())
