"""What `turnmill up` says when it is ready."""

from pathlib import Path

import pytest

from turnmill_worker.stack.ready import Ready


def ready(home: Path, *, data: Path | None = None) -> Ready:
    return Ready(
        database_url="postgresql://d",
        broker_url="redis://b",
        flower_url="http://f",
        pid=1,
        home=home,
        data=data,
    )


def test_the_json_is_one_line_with_exactly_what_programs_need(tmp_path: Path) -> None:
    assert ready(tmp_path).as_json() == (
        '{"event": "ready", "database_url": "postgresql://d", "broker_url": "redis://b",'
        ' "flower_url": "http://f", "pid": 1}'
    )


def test_data_that_are_not_in_the_home_are_named(tmp_path: Path) -> None:
    elsewhere = Path("/var/lib/turnmill/home-x/postgres")

    assert str(elsewhere) in ready(tmp_path, data=elsewhere).as_text()
    assert "cannot reach" not in ready(tmp_path, data=tmp_path / "postgres").as_text()


def test_the_command_to_try_next_works_as_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert "    turnmill chat" in ready(tmp_path / ".turnmill").as_text()
    assert f"    TURNMILL_HOME={tmp_path / 'x'} turnmill chat" in ready(tmp_path / "x").as_text()
