"""A report of a week that never was: seeded, with everything in it that a page can show."""

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.made_up_comparisons import experiments, trials
from turnmill.domain.analytics.report_data import (
    AlertLine,
    Anomaly,
    BehaviourLine,
    BudgetLine,
    Duration,
    Felt,
    Figures,
    Group,
    Metric,
    Point,
    Reason,
    ReportData,
    SessionLine,
    Span,
    SuggestionLine,
    TopicLine,
)
from turnmill.domain.analytics.windows import Grain

SINCE = datetime(2026, 11, 16, tzinfo=UTC)
DAY = timedelta(days=1)
MODELS = (
    ("gpt-5.2", "openai", 0.34, 0.021),
    ("claude-sonnet-5", "anthropic", 0.28, 0.017),
    ("gpt-5.2-mini", "openai", 0.22, 0.003),
    ("claude-haiku-4.5", "anthropic", 0.10, 0.004),
    ("gpt-5-nano", "openai", 0.04, 0.0006),
    ("claude-opus-4.6", "anthropic", 0.015, 0.09),
    ("llama-4-70b", "local", 0.005, 0.0),
)
_NO_FIGURES = Figures()


def made_up_report(
    *, days: int = 7, seed: int = 7, names: Sequence[str] = (), zone: str = "Europe/Berlin"
) -> ReportData:
    """Return a report; `names` take the places of those that somebody chose."""
    dice = random.Random(seed)
    since = SINCE - timedelta(hours=1)
    shape = [1.0, 1.06, 1.1, 1.02, 0.86, 0.34, 0.29]
    points, costs = [], [[] for _ in MODELS]  # type: ignore[var-annotated]
    for at in range(days):
        turns = int(2600 * shape[at % 7] * dice.uniform(0.94, 1.08))
        parts = _parts(turns, dice, dear=2.3 if at == days - 5 else 1.0)
        for which, part in enumerate(parts):
            costs[which].append(part.cost_usd)
        begins = since + at * DAY
        before = added(_parts(int(turns * dice.uniform(0.8, 1.05)), dice))
        points.append(Point(at=begins, until=begins + DAY, now=added(parts), before=before))
    now = added([one.now for one in points])
    before = added([one.before for one in points if one.before])
    named = iter(names)
    return ReportData(
        since=since,
        until=since + days * DAY,
        zone=zone,
        made_at=since + days * DAY + timedelta(hours=6, minutes=5),
        whole_until=since + days * DAY + timedelta(hours=6),
        tag="team",
        grain=Grain.DAY,
        now=now,
        before=before,
        points=points,
        models=_models(now, before, costs, named),
        lanes=_groups(("interactive", 0.83), ("bulk", 0.17), now=now, before=before),
        tiers=_groups(("default", 0.7), ("flex", 0.2), ("", 0.1), now=now, before=before),
        tags=_groups(
            (next(named, "support"), 0.5),
            (next(named, "search"), 0.3),
            ("", 0.2),
            now=now,
            before=before,
        ),
        week=_week(dice),
        durations=_durations(days, dice),
        reasons=(
            Reason(code="rate_limit_exceeded", turns=141, dead=141, sessions=96, before=40),
            Reason(code="context_length_exceeded", turns=58, dead=0, sessions=31, before=61),
            Reason(code="timeout", turns=22, dead=22, sessions=20, before=25),
            Reason(code=next(named, "content_filter"), turns=6, dead=0, sessions=6, before=0),
        ),
        anomalies=(
            Anomaly(
                metric=Metric.COST,
                at=since + 2 * DAY + timedelta(hours=14),
                until=since + 2 * DAY + timedelta(hours=16),
                value=31.2,
                expected=9.8,
            ),
            Anomaly(
                metric=Metric.FAILURES,
                at=since + 3 * DAY + timedelta(hours=9),
                until=since + 3 * DAY + timedelta(hours=10),
                value=64,
                expected=4.1,
            ),
        ),
        dearest=[
            SessionLine(
                session_id=UUID(int=(0x01A2189A << 96) + at * 7919**5),
                provider="openai",
                model=MODELS[at % 3][0],
                turns=40 - at * 5,
                cost_usd=Decimal("9.41") / (at + 1),
            )
            for at in range(5)
        ],
        slowest=[
            SessionLine(
                session_id=UUID(int=(0x01A2189B << 96) + at * 6271**5),
                provider="openai",
                model=MODELS[at % 2][0],
                turns=12 + at,
                cost_usd=Decimal("0.82"),
                longest_ms=184_000.0 / (at + 1),
            )
            for at in range(5)
        ],
        alerts=_alerts(since),
        budgets=(
            BudgetLine(
                name="",
                period="month",
                limit_usd=Decimal(600),
                spent_usd=Decimal("402.10"),
                forecast_usd=Decimal("571.40"),
                ends_at=datetime(2026, 11, 30, 23, tzinfo=UTC),
            ),
            BudgetLine(
                name=next(named, "team=search"),
                period="month",
                limit_usd=Decimal(120),
                spent_usd=Decimal("101.50"),
                forecast_usd=Decimal("143.20"),
                ends_at=datetime(2026, 11, 30, 23, tzinfo=UTC),
            ),
        ),
        feedback=Felt(
            rated=812, score=0.41, good=604, bad=148, estimated=2310, estimate=0.28, before=0.36
        ),
        topics=_topics(named),
        behaviours=_behaviours(),
        suggestions=_suggestions(named),
        saves_usd=Decimal("59.80"),
        trials=trials(named),
        experiments=experiments(),
    )


def _parts(turns: int, dice: random.Random, dear: float = 1.0) -> list[Figures]:
    found = []
    for _, _, part, usd in MODELS:
        mine = max(1, int(turns * part * dice.uniform(0.92, 1.08)))
        lost = int(mine * dice.uniform(0.006, 0.02) * (1.8 if dear > 1 else 1))
        cut = int(mine * 0.008)
        cost = Decimal(str(round(mine * usd * (dear if usd == 0.021 else 1.0), 6)))
        found.append(
            Figures(
                turns=mine,
                succeeded=mine - lost - cut,
                failed=lost // 3,
                dead=lost - lost // 3,
                cancelled=cut,
                attempts=int(mine * 1.06),
                retries=int(mine * 0.05),
                input_tokens=mine * 3100,
                output_tokens=mine * 410,
                cached_tokens=int(mine * 3100 * dice.uniform(0.5, 0.62)),
                cost_usd=cost,
                waste_usd=cost * Decimal("0.021"),
            )
        )
    return found


def added(parts: Sequence[Figures]) -> Figures:
    """Return the sum."""
    names = Figures.__dataclass_fields__
    return Figures(
        **{
            name: sum((getattr(one, name) for one in parts), getattr(_NO_FIGURES, name))
            for name in names
        }
    )


def _models(now: Figures, before: Figures, costs: object, named: object) -> list[Group]:
    assert isinstance(costs, list)
    found = []
    whole = sum(sum(one) for one in costs)
    for (name, provider, part, _), mine in zip(MODELS, costs, strict=True):
        share = sum(mine) / whole if whole else Decimal(0)
        found.append(
            Group(
                name=next(named, name),  # type: ignore[call-overload]
                of=provider,
                now=_share(now, part, share),
                before=None if provider == "local" else _share(before, part * 0.97, share),
                costs_usd=mine,
            )
        )
    return sorted(found, key=lambda one: one.now.cost_usd, reverse=True)


def _share(of: Figures, part: float, cost: Decimal) -> Figures:
    values: dict[str, Any] = {}
    for name in Figures.__dataclass_fields__:
        value = getattr(of, name)
        values[name] = value * cost if isinstance(value, Decimal) else int(value * part)
    return Figures(**values)


def _groups(*named: tuple[str, float], now: Figures, before: Figures) -> list[Group]:
    return [
        Group(
            name=name,
            now=_share(now, part, Decimal(str(part))),
            before=_share(before, part, Decimal(str(part * 0.9))),
        )
        for name, part in named
    ]


def _week(dice: random.Random) -> list[list[float]]:
    rows = []
    for day in range(7):
        busy = 1.0 if day < 5 else 0.32
        row = []
        for hour in range(24):
            shape = math.exp(-((hour - 10.5) ** 2) / 9) + 0.85 * math.exp(-((hour - 15) ** 2) / 12)
            row.append(round(max(2.0, 260 * busy * shape * dice.uniform(0.9, 1.1)), 1))
        rows.append(row)
    return rows


def _span(ms: float, dice: random.Random, count: int = 2000) -> Span:
    return Span(
        count=count,
        p50_ms=ms * dice.uniform(0.92, 1.08),
        p95_ms=ms * dice.uniform(3.2, 4.1),
        p99_ms=ms * dice.uniform(6.5, 8),
    )


def _durations(days: int, dice: random.Random) -> list[Duration]:
    points: list[Span | None] = [_span(2100, dice) for _ in range(days)]
    found = [
        Duration(of="total", now=_span(2100, dice, 14000), before=_span(2300, dice), points=points),
        Duration(of="queued", now=_span(38, dice, 14000), before=_span(36, dice)),
        Duration(of="first_token", now=_span(480, dice, 9000), before=_span(520, dice)),
        Duration(of="provider", now=_span(1980, dice, 13900), before=_span(2050, dice)),
    ]
    for (name, provider, part, _), ms in zip(
        MODELS, (2900, 2300, 900, 800, 500, 5200, 1500), strict=True
    ):
        found.append(
            Duration(
                of="provider",
                model=name,
                provider=provider,
                now=_span(ms, dice, int(14000 * part)),
                before=_span(ms * 1.05, dice),
            )
        )
    return found


def _alerts(since: datetime) -> list[AlertLine]:
    return [
        AlertLine(
            rule="failures",
            subject="openai/gpt-5.2",
            opened_at=since + 6 * DAY + timedelta(hours=21),
            closed_at=None,
            what="9.2 % of the turns of openai/gpt-5.2 come to nothing; 1.1 % is usual",
        ),
        AlertLine(
            rule="cost",
            subject="",
            opened_at=since + 2 * DAY + timedelta(hours=14, minutes=15),
            closed_at=since + 2 * DAY + timedelta(hours=17),
            what="an hour cost $31.20; about $9.80 is usual",
        ),
    ]


def _topics(named: object) -> list[TopicLine]:
    words = (
        ("invoice", "refund", "payment", "card", "billing"),
        ("export", "csv", "report", "download"),
        ("password", "login", "reset", "two-factor"),
        ("Lieferung", "Paket", "Adresse", "Versand"),
        ("価格", "プラン", "契約"),
    )
    return [
        TopicLine(
            terms=[next(named, one[0]), *one[1:]],  # type: ignore[call-overload]
            sessions=900 - at * 160,
            users=410 - at * 70,
            share=0.34 - at * 0.055,
            before=0.31 - at * 0.05,
        )
        for at, one in enumerate(words)
    ]


def _behaviours() -> list[BehaviourLine]:
    return [
        BehaviourLine(
            name="Answers cut by length",
            what="the reply ended because max_tokens was reached, and the user asked to go on",
            sessions=212,
            turns=340,
            share=0.081,
        ),
        BehaviourLine(
            name="Repeated sends",
            what="the same message was sent again within a minute",
            sessions=64,
            turns=151,
            share=0.024,
        ),
    ]


def _suggestions(named: object) -> list[SuggestionLine]:
    return [
        SuggestionLine(
            title=next(named, "Answer short questions with gpt-5.2-mini"),  # type: ignore[call-overload]
            why="A trial of 200 stored turns: 94 % (90 to 97) as good by the judge, at 14 % of the"
            " cost and half of the time.",
            saves_usd=Decimal("48.20"),
            gains="cheaper",
            confidence="Measured by a trial on 12 November.",
            setting="model = gpt-5.2-mini",
        ),
        SuggestionLine(
            title="Let nightly summaries run as flex",
            why="4,100 turns of the bulk lane ended hours before anybody read them.",
            saves_usd=Decimal("11.60"),
            gains="cheaper",
            confidence="Likely: 31 of 31 nights.",
            setting="service_tier = flex",
        ),
        SuggestionLine(
            title="Allow longer answers in the template support-long",
            why="212 sessions had an answer cut at 512 tokens; 71 % of them went on asking.",
            saves_usd=None,
            gains="fewer cut answers",
            confidence="Likely: interval 64 to 78 %.",
            setting="max_tokens = 1024",
        ),
    ]
