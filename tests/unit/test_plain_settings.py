"""What is read of settings in SQL, or without a key, stands plain where the rest is sealed."""

import re
from pathlib import Path

from turnmill.domain.plain_settings import PLAIN_SETTINGS, plain_settings

ROOT = Path(__file__).parents[2]
#: Where statements stand: those of ours, and those that are shown to others.
PLACES = ("api_client", "worker", "docs", "examples")
#: A key that a statement takes out of a column of this name: in Postgres' words, and in SQLite's.
KEYS = re.compile(
    r"""settings['"]?(?:::\w+|\s+AS\s+\w+\))?\s*(?:->>?|\?[|&]?)\s*'(\w+)'"""
    r"""|settings['"]?(?:::\w+)?\s+(?:NOT\s+)?I?LIKE\s+'%"(\w+)"%'"""
    r"""|(?:json_extract|jsonb?_path\w*|json_value)\(\s*(?:\w+\.)?settings\s*,\s*'\$\.(\w+)"""
    r"""|\.c\.settings\[['"](\w+)['"]\]"""
    r"""|cast\(\w+(?:\.c)?\.settings, Text\)\.like\('%"(\w+)"%'\)""",
    re.IGNORECASE,
)
#: Anything that looks into the column as a text, or as JSON that is not opened.
LOOKS = re.compile(
    r"(?:cast|type_coerce)\([^()]*\.settings\b|settings::|settings\s+AS\s+text", re.IGNORECASE
)
#: Whoever does: what is found there by these names stands plain.
LOOKING = {
    "store/postgres/claiming.py",  # opened from there, and `fallback`
    "store/postgres/batching.py",  # opened from there
    "store/line/recall.py",  # names of providers and models, within `fallback`
    "store/nouns/why.py",  # whether there is a `fallback`
    "store/schema/migrations/versions/0027_what_viewers_ask.py",  # the same, for viewers
}


def sources() -> dict[str, str]:
    found = {}
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*")):
            if path.suffix in {".py", ".md", ".sql", ".json"} and path.is_file():
                found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
    return found


def keys_in(text: str) -> set[str]:
    return {name for found in KEYS.findall(text) for name in found if name}


def test_every_setting_that_a_statement_reads_stands_plain() -> None:
    read = {name: where for where, text in sources().items() for name in keys_in(text)}
    assert {"fallback", "api", "prompt_cache"} <= read.keys()  # it finds what is there
    assert {one: where for one, where in read.items() if one not in PLAIN_SETTINGS} == {}


def test_nobody_else_looks_into_settings_that_are_not_opened() -> None:
    looking = {
        where.removeprefix("api_client/turnmill/")
        for where, text in sources().items()
        if where.endswith(".py") and LOOKS.search(text)
    }
    assert looking == LOOKING


def test_a_reader_of_another_setting_would_be_found() -> None:
    for said in (
        "SELECT s.settings ->> 'stop' FROM turnmill.sessions s",
        "turn.settings::jsonb -> 'stop' -> 0",
        "CAST(settings AS jsonb) ->> 'stop'",
        "s.settings ? 'stop'",
        "s.settings::text LIKE '%\"stop\"%'",
        "json_extract(settings, '$.stop')",
        'sessions.c.settings["stop"].as_string()',
        "cast(s.settings, Text).like('%\"stop\"%')",
    ):
        assert keys_in(said) == {"stop"}, said


def test_of_a_target_its_name_stands_plain_and_of_tools_that_there_are_any() -> None:
    target = {"provider": "mock", "model": "m", "settings": {"stop": "secret"}}
    said = {"fallback": [target, "odd"], "tools": ["weather"], "prompt": {"id": "p"}, "stop": "x"}
    named = [{"provider": "mock", "model": "m"}, None]
    assert plain_settings(said) == {"fallback": named, "tools": True, "prompt": True}


def test_what_should_be_a_number_or_a_known_word_and_is_not_stands_sealed() -> None:
    said = {"max_tokens": "about ada", "max_output_tokens": 10**12, "api": "ada", "reply_as": None}
    assert plain_settings(said) == {}
    said = {"max_tokens": 5, "max_completion_tokens": "7", "prompt_cache": "1h"}
    assert plain_settings(said) == said
