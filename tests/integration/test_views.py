"""Views of figures: they say what figures are, and an analyst runs the dashboard on them."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy.engine import make_url

from tests.conftest import fresh_database
from tests.generated_month import DAYS, Month, write_month
from turnmill import Client, Settings
from turnmill.domain.analytics.windows import Window, day_of
from turnmill.store.analytics.figures import Dimension, Latency, percentiles, totals
from turnmill.store.analytics.folding import fold
from turnmill.store.database import Database
from turnmill.store.nouns.event_log import give_places
from turnmill.store.schema import migrate
from turnmill.store.schema.grants import VIEWS
from turnmill.store.schema.rollup_tables import DIMENSIONS, FIGURES
from turnmill_worker.stack.postgres import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "examples/grafana/turnmill.json").read_text())
PAGE = (ROOT / "docs/analytics.md").read_text()

#: Days before today are closed, and stand in a table of their own; today and later ones do not.
BEGINS = day_of(datetime.now(UTC)) - timedelta(days=20)
ALL = Window(BEGINS, BEGINS + timedelta(days=DAYS + 1))
NAMED = (Dimension.PROVIDER, Dimension.MODEL, Dimension.TIER, Dimension.LANE, Dimension.TAG)
ROLE = "views_analyst"
Row = Mapping[str, Any]


@pytest.fixture(scope="module")
def owner_url(postgres_server: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A month that is folded in, and a role that may read views of it."""
    with fresh_database(postgres_server, migrated_template) as url:
        store = Database(url)
        store.run(fold, tag="team")
        write_month(url, Month(turns=3_000, begins=BEGINS))
        while store.run(give_places, limit=50_000):
            pass
        while store.run(fold, tag="team"):
            pass
        store.close()
        role = sql.Identifier(ROLE)
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(
                "INSERT INTO turnmill.alerts (id, rule, subject, value, worst, bound)"
                " VALUES (gen_random_uuid(), 'cost', '', 9, 9, 3)"
            )
            admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'p'").format(role))
            migrate.grant(url, schema="turnmill", runtime=None, viewer=None, analyst=ROLE)
            yield url
            admin.execute(sql.SQL("DROP OWNED BY {}").format(role))
            admin.execute(sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def analyst(owner_url: str) -> Iterator["psycopg.Connection[Row]"]:
    url = make_url(owner_url).set(username=ROLE, password="p")
    with psycopg.connect(
        url.render_as_string(hide_password=False), row_factory=dict_row, autocommit=True
    ) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def ask(connection: "psycopg.Connection[Row]", statement: str) -> list[Row]:
    return connection.execute(sql.SQL(statement)).fetchall()


@pytest.mark.parametrize(
    ("view", "time", "by"),
    [("v_usage", "slot", Dimension.SLOT), ("v_usage_days", "day", Dimension.DAY)],
)
def test_views_of_usage_say_what_figures_say_line_by_line(
    owner_url: str, analyst: "psycopg.Connection[Row]", view: str, time: str, by: Dimension
) -> None:
    store = Database(owner_url)
    with store.begin() as conn:
        wanted = totals(conn, ALL, by=[by, *NAMED])
    store.close()
    found = ask(analyst, f"SELECT * FROM turnmill.{view} ORDER BY {time}, {', '.join(DIMENSIONS)}")
    today = day_of(datetime.now(UTC))
    assert min(row[time] for row in found) < today < max(row[time] for row in found)
    assert [tuple(row[name] for name in (time, *DIMENSIONS, *FIGURES)) for row in found] == [
        (*one.by.values(), *(getattr(one, name) for name in FIGURES)) for one in wanted
    ]


@pytest.mark.parametrize("view", ["v_latency", "v_latency_days"])
@pytest.mark.parametrize("latency", Latency)
def test_percentiles_of_views_are_those_of_figures(
    owner_url: str, analyst: "psycopg.Connection[Row]", view: str, latency: Latency
) -> None:
    store = Database(owner_url)
    with store.begin() as conn:
        wanted = percentiles(conn, ALL, of=latency, by=[Dimension.MODEL])
    store.close()
    counted: defaultdict[str, dict[float, int]] = defaultdict(dict)
    for row in ask(
        analyst,
        f"SELECT model, ms, sum(n)::int AS n FROM turnmill.{view} WHERE latency = '{latency}'"
        " GROUP BY model, ms ORDER BY model, ms",
    ):
        counted[row["model"]][row["ms"]] = row["n"]
    assert wanted
    assert {one.by[Dimension.MODEL]: one.count for one in wanted} == {
        model: sum(each.values()) for model, each in counted.items()
    }
    for one in wanted:
        for share, value in one.quantiles_ms.items():
            each = counted[str(one.by[Dimension.MODEL])]
            assert quantile(each, share) == pytest.approx(value, rel=1e-9)


def quantile(counted: Mapping[float, int], share: float) -> float:
    rank, passed = math.ceil(share * sum(counted.values())), 0
    for ms, n in counted.items():
        passed += n
        if passed >= rank:
            return ms
    raise AssertionError("a share is at most all")


def test_an_analyst_sees_the_views_and_nothing_else(analyst: "psycopg.Connection[Row]") -> None:
    seen = ask(
        analyst,
        "SELECT relname FROM pg_class WHERE relnamespace = 'turnmill'::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
        " AND has_any_column_privilege(oid, 'SELECT, INSERT, UPDATE, REFERENCES')",
    )
    assert {row["relname"] for row in seen} == {*VIEWS}
    written = ask(
        analyst,
        "SELECT relname FROM pg_class WHERE relnamespace = 'turnmill'::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
        " AND (has_any_column_privilege(oid, 'INSERT, UPDATE, REFERENCES')"
        " OR has_table_privilege(oid, 'DELETE, TRUNCATE, TRIGGER'))",
    )
    assert not written


def test_the_page_names_every_view_with_its_columns(analyst: "psycopg.Connection[Row]") -> None:
    rows = ask(
        analyst,
        "SELECT relname AS view, attname AS name FROM pg_attribute JOIN pg_class c ON c.oid ="
        " attrelid WHERE relnamespace = 'turnmill'::regnamespace AND relkind = 'v' AND attnum > 0",
    )
    assert {row["view"] for row in rows} == {*VIEWS}
    told = {
        line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `turnmill.v_")
    }
    shared = {*DIMENSIONS, *FIGURES}
    for row in rows:
        assert row["name"] in shared or f"`{row['name']}`" in told[f"turnmill.{row['view']}"], row


def test_what_the_page_asks_in_sql_is_answered(analyst: "psycopg.Connection[Row]") -> None:
    asked = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert len(asked) == 2
    for statement in asked:
        assert ask(analyst, statement)


def test_views_of_what_was_found_say_what_clients_say(
    owner_url: str, analyst: "psycopg.Connection[Row]"
) -> None:
    with Client(settings=Settings(database_url=owner_url)) as client:
        client.templates.put("desk", provider="mock", model="mock")
        client.experiments.start("desk", name="cheaper", share=0.5, model="mock/other")
        for n in range(20):
            client.sessions.create(user_id=f"taking-part-{n}", template="desk")
        with psycopg.connect(owner_url) as owner:
            turn = owner.execute("SELECT id FROM turnmill.turns LIMIT 1").fetchone()
        assert turn is not None
        client.turns.feedback(turn[0], 0.5)
        with psycopg.connect(owner_url) as owner:
            owner.execute(
                "INSERT INTO turnmill.session_arms (session_id, experiment_id, arm)"
                " SELECT s.id, e.id, 'other' FROM turnmill.sessions s, turnmill.experiments e"
                " WHERE s.template IS NULL"
            )
        arms = client.experiments.result("cheaper")
        assert 0 < arms.other.failed < arms.other.turns
        with psycopg.connect(owner_url) as owner:  # said of another reply: the turn ran again
            lost = owner.execute(
                "UPDATE turnmill.turns SET finished_at = now() + interval '1 day' WHERE id ="
                " (SELECT id FROM turnmill.turns WHERE id <> %s LIMIT 1) RETURNING id, session_id",
                turn,
            ).fetchone()
            owner.execute(
                "INSERT INTO turnmill.feedback (id, turn_id, session_id, score)"
                " VALUES (gen_random_uuid(), %s, %s, -1)",
                lost,
            )
        assert [one.score for one in client.analytics.feedback()] == [0.5]
    (felt,) = ask(analyst, "SELECT * FROM turnmill.v_feedback_days")
    assert (felt["rated"], felt["liked"], felt["disliked"], felt["score_sum"]) == (1, 1, 0, 0.5)
    found = ask(analyst, "SELECT * FROM turnmill.v_experiments")
    names = ("sessions", "users", "turns", "failed", "cost_usd")
    assert {row["arm"]: [row[name] for name in names] for row in found} == {
        one.arm.value: [getattr(one, name) for name in names] for one in (arms.usual, arms.other)
    }
    assert ask(analyst, "SELECT * FROM turnmill.v_topics") == []


def test_an_hour_is_read_by_the_index_of_the_table_below(
    analyst: "psycopg.Connection[Row]",
) -> None:
    hour = "slot >= '{0}' AND slot < '{0}'::timestamptz + interval '1 hour'".format(
        BEGINS + timedelta(days=3)
    )
    analyst.execute("SET enable_seqscan = off")
    for view in ("v_usage", "v_latency"):
        plan = ask(analyst, f"EXPLAIN SELECT * FROM turnmill.{view} WHERE {hour}")
        said = "\n".join(row["QUERY PLAN"] for row in plan)
        assert "Index Cond" in said, said
        assert "Seq Scan" not in said, said


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["rawSql"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]


def as_grafana_asks(query: str, *, models: str, lanes: str) -> str:
    """Put in what Grafana puts in for its macros and variables."""
    since, until = (f"'{one:%Y-%m-%dT%H:%M:%SZ}'" for one in (ALL.since, ALL.until))
    for written, put_in in (
        (r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {since} AND {until}"),
        (r"\$__timeFrom\(\)", since),
        (r"\$__timeTo\(\)", until),
        (
            r"\$__timeGroup\((\w+), '\$__interval'\)",
            r"floor(extract(epoch from \1)/3600)*3600",
        ),
        (r"\$\{model:sqlstring\}", models),
        (r"\$\{lane:sqlstring\}", lanes),
    ):
        query = re.sub(written, put_in, query)
    assert "$" not in query, query
    return query


@pytest.fixture
def shown(analyst: "psycopg.Connection[Row]") -> Mapping[str, list[Row]]:
    models = "'gpt-5','gpt-5-mini','claude-sonnet-4-5','claude-haiku-4-5'"
    lanes = "'interactive','bulk'"
    return {
        name: ask(analyst, as_grafana_asks(query, models=models, lanes=lanes))
        for name, query in queries()
    }


def test_every_query_of_the_dashboard_is_answered_to_an_analyst(
    owner_url: str, shown: Mapping[str, list[Row]]
) -> None:
    assert len(shown) == len(list(queries())) >= 15
    assert all(shown.values()), [name for name, rows in shown.items() if not rows]
    store = Database(owner_url)
    with store.begin() as conn:
        (whole,) = totals(conn, ALL)
        by_tag = totals(conn, ALL, by=[Dimension.TAG])
    store.close()
    assert shown["Cost"] == [{"cost": whole.cost_usd}]
    assert shown["Turns"] == [{"turns": whole.turns}]
    assert sum(row["cost"] for row in shown["Cost by model"]) == whole.cost_usd
    assert {row["tag"]: row["cost_usd"] for row in shown["By tag"]} == {
        one.by[Dimension.TAG]: one.cost_usd for one in by_tag
    }
    assert sum(row["calls"] for row in shown["Slowest models"]) == whole.succeeded
    assert [row["rule"] for row in shown["Alerts"]] == ["cost"]
    assert {row["lane"] for row in shown["lane"]} == {"interactive", "bulk"}


def test_series_of_the_dashboard_have_a_time_and_numbers_in_order(
    shown: Mapping[str, list[Row]],
) -> None:
    series = [panel for panel in DASHBOARD["panels"] if panel["type"] == "timeseries"]
    assert len(series) >= 5
    for panel in series:
        rows = shown[panel["title"]]
        times = [row["time"] for row in rows]
        assert times == sorted(times)
        if "p50" in rows[0]:
            assert all(row["p50"] <= row["p95"] <= row["p99"] for row in rows)
