"""Turnmill inside an application's own Celery app, whose tasks go on as they did."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from celery import Celery, chain

import turnmill_worker
from tests.integration.pool_app import with_database
from turnmill import Client, InvalidSetting, Lane
from turnmill_worker.stack.process import Child, Program, wait_until

SOON = timedelta(seconds=30)
QUICK = ("--without-gossip", "--without-mingle", "--loglevel=INFO")
SHOP = "tests.integration.own_app"


@pytest.fixture
def env(database_url: str, broker_url: str, tmp_path: Path) -> dict[str, str]:
    """What the processes of the application are set up with. No TURNMILL_BROKER_URL: it has one."""
    ours = {name: text for name, text in os.environ.items() if not name.startswith("TURNMILL_")}
    return ours | {
        "TURNMILL_DATABASE_URL": database_url,
        "TURNMILL_HOME": str(tmp_path / "home"),
        "TURNMILL_GRACE": "1",
        "SHOP_BROKER": broker_url,
        "SHOP_BACKEND": with_database(broker_url, 3),
        "SHOP_NOTES": str(tmp_path / "notes"),
        "C_FORCE_ROOT": "1",  # Celery asks for it where root takes pickles
    }


@contextmanager
def running(*options: str, env: Mapping[str, str], app: str = SHOP) -> Iterator[Child]:
    """Run one of Celery's programs on an app; wait until a worker is ready, and end it at last."""
    log = Path(env["SHOP_NOTES"]).with_name("program.log")
    argv = (sys.executable, "-m", "celery", "-A", app, *options)
    child = Child.spawn(Program(name="shop", argv=argv, log=log, env=env, tells_ready=True))
    try:
        told = wait_until(child.told_ready, timeout=SOON)
        assert told and child.poll() is None, log.read_text()
        yield child
        child.ask_to_stop()
        assert wait_until(lambda: child.poll() is not None, timeout=SOON), log.read_text()
        assert child.poll() == 0, log.read_text()
    finally:
        child.kill()


@pytest.fixture
def shop(env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The application as a web process of it has it; it runs nothing."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, SHOP, raising=False)
    from tests.integration import own_app

    yield own_app.app
    own_app.app.close()
    monkeypatch.delitem(sys.modules, SHOP, raising=False)


@pytest.mark.long
@pytest.mark.parametrize("pool", [(), pytest.param(("-P", "threads"), marks=[pytest.mark.slow])])
def test_a_worker_of_an_application_runs_its_tasks_as_they_were_and_turns_beside_them(
    pool: tuple[str, ...], shop: Celery, env: Mapping[str, str], tmp_path: Path
) -> None:
    tasks = shop.tasks
    with (
        running("worker", *pool, *QUICK, env=env),
        running("worker", "-Q", "mail", "-n", "mail@%h", *QUICK, env=env),
        Client(database_url=env["TURNMILL_DATABASE_URL"], broker_url=env["SHOP_BROKER"]) as client,
    ):
        assert tasks["shop.add"].delay(1, 2).get(timeout=20) == 3
        assert chain(tasks["shop.add"].s(1, 2), tasks["shop.add"].s(4))().get(timeout=20) == 7
        assert tasks["shop.mailed"].delay({"a"}).get(timeout=20) == {"a", "mailed"}
        assert tasks["shop.flaky"].delay().get(timeout=20) == 2
        with pytest.raises(LookupError, match="no such customer"):
            tasks["shop.broken"].delay().get(timeout=20)
        assert "You said: Hello" in tasks["shop.ask"].delay("Hello").get(timeout=30)
        turns = [
            client.send(client.sessions.create(user_id="ada"), "canary", lane=lane)
            for lane in (Lane.INTERACTIVE, Lane.BULK) * 10
        ]
        assert all(turn.result(timeout=30).text for turn in turns)
    log = (tmp_path / "program.log").read_text()
    assert "Task shop.add" in log and "Task turnmill." not in log and "canary" not in log
    assert "turns are found by looking" not in log
    assert (tmp_path / "notes").read_text().split().count("shop.add") == 3


def test_nothing_that_an_application_has_set_is_changed(shop: Celery) -> None:
    conf = shop.conf
    assert conf.task_serializer == "pickle" and conf.task_default_queue == "shop"
    assert conf.task_queues is None and conf.result_backend == os.environ["SHOP_BACKEND"]
    ours = {name for name in conf.beat_schedule if name.startswith("turnmill.")}
    assert set(conf.beat_schedule) - ours == {"purge"} and len(ours) == 9
    assert conf.worker_pool == "turnmill_worker.pool:TaskPool"
    assert "turnmill_worker.app" not in sys.modules or shop is not sys.modules[
        "turnmill_worker.app"
    ].__dict__.get("app")


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_an_application_says_of_its_worker_wins_whenever_it_says_so(when: str) -> None:
    app = Celery("mine", set_as_current=False)
    if when == "before":
        app.conf.update(worker_concurrency=3, beat_schedule={"mine": {"task": "x"}})
    turnmill_worker.install(app)
    if when == "after":
        app.conf.worker_concurrency = 3
    assert app.conf.worker_concurrency == 3
    assert app.conf.worker_prefetch_multiplier == 1
    assert ("mine" in app.conf.beat_schedule) is (when == "before")


def test_another_app_of_the_process_gets_none_of_our_tasks() -> None:
    app, other = Celery("mine", set_as_current=False), Celery("other", set_as_current=False)
    turnmill_worker.install(app)
    assert any(name.startswith("turnmill.") for name in app.tasks)
    assert not any(name.startswith("turnmill.") for name in other.tasks)


def test_it_is_installed_once_in_an_app() -> None:
    app = Celery("mine", set_as_current=False)
    turnmill_worker.install(app)
    with pytest.raises(InvalidSetting, match="already"):
        turnmill_worker.install(app)


def test_an_application_that_installs_it_loads_neither_our_app_nor_a_provider() -> None:
    code = (
        "import sys, celery, turnmill_worker\n"
        "turnmill_worker.install(celery.Celery('mine'))\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"turnmill_worker.app", "openai", "anthropic", "flower"} & set(done.stdout.split())


def test_the_beat_of_an_application_sends_our_jobs_and_its_own(
    shop: Celery, env: Mapping[str, str], tmp_path: Path
) -> None:
    always = {"TURNMILL_SCHEDULE_SELF_CHECK": "* * * * *"}
    schedule = f"--schedule={tmp_path / 'schedule'}"
    health = [sys.executable, "-m", "turnmill.cli", "health", "beat"]
    with running("beat", schedule, "--loglevel=INFO", env=dict(env) | always):
        healthy = wait_until(
            lambda: subprocess.run(health, env=env, timeout=30, check=False).returncode == 0,
            timeout=SOON,
        )
        assert healthy
    assert subprocess.run(health, env=env, timeout=30, check=False).returncode == 1


#: A stand-in for packages that patch the standard library before anything else runs.
GREEN = "def monkey_patch(*_, **__): ...\npatch_all = monkey_patch\n"


@pytest.fixture
def green(tmp_path: Path) -> Path:
    for name in ("gevent", "eventlet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"{GREEN}class Timeout(Exception): ...\n")
        for module in ("monkey", "signal", "debug"):
            (tmp_path / name / f"{module}.py").write_text(GREEN)
    return tmp_path


def long(*arguments: object) -> ParameterSet:
    return pytest.param(*arguments, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("options", "variables", "named"),
    [
        (("-P", "gevent"), {}, "`gevent`"),
        ((), {"CELERY_WORKER_POOL": "prefork"}, "`prefork`"),
        long(("-P", "prefork"), {}, "`prefork`"),
        long(("--pool=processes",), {}, "`prefork`"),
        long(("-P", "eventlet"), {}, "`eventlet`"),
        long(
            ("-P", "custom"),
            {"CELERY_CUSTOM_WORKER_POOL": "celery.concurrency.gevent:TaskPool"},
            "`gevent`",
        ),
        long(
            ("--pool", "prefork"),
            {"CELERY_CUSTOM_WORKER_POOL": "turnmill_worker.pool:TaskPool"},
            "`prefork`",
        ),
    ],
)
def test_a_pool_that_turns_do_not_run_on_is_refused_with_one_line(
    options: tuple[str, ...],
    variables: dict[str, str],
    named: str,
    env: dict[str, str],
    green: Path,
) -> None:
    said = refused(
        *options, app="turnmill_worker.app", env=env | variables | {"PYTHONPATH": str(green)}
    )
    assert f"turns do not run on the pool {named}" in said


def test_a_detached_worker_says_in_its_log_why_it_does_not_run(
    env: dict[str, str], tmp_path: Path
) -> None:
    options = ("worker", "-P", "prefork", "--detach", f"--pidfile={tmp_path / 'pid'}")
    log = tmp_path / "detached.log"
    argv = (sys.executable, "-m", "celery", "-A", SHOP, *options, f"--logfile={log}")
    assert subprocess.run(argv, env=env, timeout=60, check=False).returncode == 0
    told = wait_until(
        lambda: log.exists() and "turns do not run on the pool `prefork`" in log.read_text(),
        timeout=SOON,
    )
    assert told, log.read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SHOP_POOL": "prefork"}, "`prefork`"),
        ({"SHOP_POOL": "gevent"}, "`gevent`"),
        ({"SHOP_NAME": "turnmill.run_turn"}, "another task of this app has the name"),
        ({"SHOP_ACCEPTS": "pickle"}, "accept_content"),
    ],
)
def test_an_application_that_cannot_run_turns_is_told_why(
    variables: dict[str, str], named: str, env: dict[str, str], green: Path
) -> None:
    said = refused(app=SHOP, env=env | variables | {"PYTHONPATH": str(green)})
    assert named in said


def refused(*options: str, app: str, env: Mapping[str, str]) -> str:
    """Start a worker that ends at once, and return what it says."""
    ended = subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, "worker", *QUICK, *options],
        env=dict(env) | {"TURNMILL_BROKER_URL": env["SHOP_BROKER"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr and "hint: " in ended.stderr, ended.stderr
    return ended.stderr
