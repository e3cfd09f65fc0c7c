"""Writes the tables of the docs from the results: python -m benchmarks.render.

What stands between `<!-- benchmark:NAME -->` and `<!-- /benchmark -->` is replaced.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curves import picture as curves
from benchmarks.plot import picture as bars
from benchmarks.systems import SYSTEMS

_ROOT = Path(__file__).parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"
_DOCS = _ROOT / "docs"
_MARKED = re.compile(r"(<!-- benchmark:(\w+) -->\n).*?(<!-- /benchmark -->)", re.DOTALL)
_HEADLINE_LATENCY_S = 1.0
#: Nobody would run them: they say how far there is to go.
_FOR_ENGINEERS = ("bare-own", "limit")

Found = Mapping[str, Any]


def main() -> None:
    if found := _read("short.json"):
        (_DOCS / "benchmarks.svg").write_text(bars(headline(found), note=machine(found)))
        _fill(_DOCS / "benchmarks.md", found)
        _fill(_ROOT / "README.md", found)
    if found := _read("full.json"):
        drawn = curves(found["throughput"], note=machine(found))
        (_DOCS / "benchmarks-full.svg").write_text(drawn)
        _fill(_DOCS / "benchmarks-full.md", found)


def _read(name: str) -> Found | None:
    path = _RESULTS / name
    return json.loads(path.read_text()) if path.exists() else None


def _fill(page: Path, found: Found) -> None:
    page.write_text(rendered(page.read_text(), found))


def rendered(page: str, found: Found) -> str:
    """Return the page with every marked place written anew."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{_TABLES[match[2]](found)}\n{match[3]}"

    return _MARKED.sub(fill, page)


def headline(found: Found) -> list[Found]:
    """Return the best run of each system at a latency of one second."""
    best: dict[str, Found] = {}
    for row in sorted(found["throughput"], key=_rate):
        if row["latency_s"] == _HEADLINE_LATENCY_S and row["cpu_ms"]:
            best[row["system"]] = row
    return [best[name] for name in SYSTEMS if name in best]


def machine(found: Found) -> str:
    """Return in a line what the figures were measured on."""
    at = found["conditions"]
    changed = " with changes" if at["changed"] else ""
    return (
        f"{at['cores']} cores of {at['processor']}, {at['memory_gb']} GB, Python {at['python']}"
        f"{_loop_of(at)}; commit {at['commit']}{changed}, {at['at'][:10]};"
        f" load before the start {at['load_before'][0]}"
    )


def _loop_of(conditions: Found) -> str:
    loop = conditions.get("event_loop")
    return f" (event loop of {loop})" if loop else ""


def throughput_table(found: Found) -> str:
    return _table(
        (
            "system",
            "latency",
            "in flight",
            "turns/s",
            "CPU ms a turn",
            "of the limit's",
            "memory (PSS)",
        ),
        [
            (
                SYSTEMS[row["system"]].title,
                f"{row['latency_s']:g} s",
                f"{row['in_flight']:,}",
                _spread(row["turns_per_s"], "{:,.0f}") + (" +" if row["ran_dry"] else ""),
                _spread(row["cpu_ms"].get("all"), "{:.2f}"),
                _times_the_limit(row, found["throughput"]),
                f"{row['pss_mb']:,.0f} MB",
            )
            for row in found["throughput"]
        ],
    )


def _times_the_limit(row: Found, rows: Sequence[Found]) -> str:
    """Return how many times the CPU of the limit program a turn takes, at the same latency."""
    costs = [
        one["cpu_ms"]["all"]["median"]
        for one in rows
        if one["system"] == "limit" and one["latency_s"] == row["latency_s"] and one["cpu_ms"]
    ]
    if not costs or not row["cpu_ms"]:
        return ""
    return f"{row['cpu_ms']['all']['median'] / min(costs):.1f} ×"


def memory_table(found: Found) -> str:
    return _table(
        ("a further call in flight holds", "calls at the provider", "memory (PSS)", "kB a call"),
        [
            (
                f"{SYSTEMS[row['system']].title}, {'TLS' if row['tls'] else 'not encrypted'}",
                " … ".join(f"{calls:,}" for calls in row["calls"]),
                " … ".join(f"{mb:,.0f}" for mb in row["pss_mb"]) + " MB",
                f"{row['each_kb']:.0f}",
            )
            for row in found.get("memory", ())
        ],
    )


def parts_table(found: Found) -> str:
    return _table(
        ("system", "in flight", "worker", "Postgres", "Redis", "all"),
        [
            (
                SYSTEMS[row["system"]].title,
                f"{row['in_flight']:,}",
                *(f"{row['cpu_ms'][part]['median']:.2f}" for part in row["cpu_ms"]),
            )
            for row in headline(found)
        ],
    )


def short_table(found: Found) -> str:
    rows = [row for row in headline(found) if row["system"] not in _FOR_ENGINEERS]
    return _table(
        ("provider answers after 1 s", "in flight", "turns/s", "CPU ms a turn", "memory"),
        [
            (
                SYSTEMS[row["system"]].title,
                f"{row['in_flight']:,}",
                f"{_rate(row):,.0f}",
                f"{row['cpu_ms']['all']['median']:.1f}",
                f"{row['pss_mb']:,.0f} MB",
            )
            for row in rows
        ],
    )


def waiting_table(found: Found) -> str:
    waiting = found["waiting"]
    rows = [
        (
            SYSTEMS[row["system"]].title,
            f"{row['sends_per_s']:g}/s",
            f"{row['latency_s']:g} s",
            *(f"{row[name]:,.0f} ms" for name in ("p50_ms", "p95_ms", "p99_ms")),
        )
        for row in waiting["paced"]
    ]
    idle = waiting["idle"]
    lone = ("Turnmill, one idle turn, send to `result()`", "1", "0 s (mock)")
    rows.append((*lone, f"{idle['p50_ms']} ms", f"{idle['p95_ms']} ms", ""))
    return _table(("send to stored", "sends", "provider", "p50", "p95", "p99"), rows)


def client_table(found: Found) -> str:
    titles = {
        "send_ms": ("`send`, median", "{:.2f} ms"),
        "send_many_per_s": ("`send_many`, turns accepted", "{:,.0f} /s"),
        "create_ms": ("`sessions.create`, median", "{:.2f} ms"),
        "import_ms": ("`import turnmill` beyond SQLAlchemy", "{:.0f} ms"),
        "help_ms": ("`turnmill --help`", "{:.0f} ms"),
    }
    rows = [(title, _spread(found["client"][key], shape)) for key, (title, shape) in titles.items()]
    return _table(("what an application pays", "median [least … most]"), rows)


def growth_table(found: Found) -> str:
    growth = found["growth"]
    rows = [
        (f"{row['stored_turns']:,} stored turns", _claim_and_settle(row))
        for row in growth.get("stored", ())
    ]
    rows += [
        (f"sessions of {row['messages']:,} messages", _claim_and_settle(row))
        for row in growth.get("lengths", ())
    ]
    rows += [
        (
            f"{row['queued']:,} turns queued, {row['queue']}",
            f"a tick of the dispatcher: {row['tick_ms']} ms"
            f" (one that fills an empty queue: {row['filling_tick_ms']:.0f} ms)",
        )
        for row in growth.get("queues", ())
    ]
    rows += [
        (
            f"{row['processes']} worker processes, {row['in_flight']:,} in flight",
            f"{_spread(row['turns_per_s'], '{:,.0f}')} turns/s",
        )
        for row in growth.get("processes", ())
    ]
    return _table(("with", "cost"), rows)


def conditions_line(found: Found) -> str:
    provider = found["provider"]
    rate = provider["requests_per_s"]["median"]
    return (
        f"Measured on {machine(found)}. The stand-in for the provider (in {provider['kind']})"
        f" alone answers {rate:,.0f} requests a second. Form: {found['form']}."
    )


_TABLES: Mapping[str, Callable[[Found], str]] = {
    "short": short_table,
    "throughput": throughput_table,
    "parts": parts_table,
    "memory": memory_table,
    "waiting": waiting_table,
    "client": client_table,
    "growth": growth_table,
    "conditions": conditions_line,
}


def _rate(row: Found) -> float:
    return float(row["turns_per_s"]["median"])


def _claim_and_settle(row: Found) -> str:
    read = row.get("history_ms", 0)
    apart = f", reading the history apart {read} ms" if read >= 0.01 else ""
    return (
        f"claim {row['claim_ms']} ms, settle {row['settle_ms']} ms a turn, in groups of 50{apart}"
    )


def _spread(spread: Found | None, shape: str) -> str:
    if spread is None:
        return ""
    middle, least, most = (shape.format(spread[name]) for name in ("median", "least", "most"))
    return f"{middle} [{least} … {most}]"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    main()
