"""Which providers there are, and what is said when one cannot be had."""

import asyncio
import contextlib
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from turnmill.domain.errors import KeyMissing, ProviderUnknown, Rejected
from turnmill_worker.pool import loops
from turnmill_worker.pool.loops import run_to_end
from turnmill_worker.providers import installed
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.calls import Call
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.openai.audio import OpenAITranscriber
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Provider
from turnmill_worker.providers.registry import ProviderRegistry
from turnmill_worker.providers.voices import speakers, transcribers

ECHO = Path(__file__).parents[2] / "examples" / "echo_provider"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution for one test: its entry points, and the source of a module."""

    def install(
        distribution: str,
        entry_points: dict[str, str],
        *,
        group: str = "turnmill.providers",
        **modules: str,
    ) -> None:
        folder = tmp_path / distribution
        info = folder / f"{distribution}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {distribution}\nVersion: 1\n")
        lines = "".join(f"{name} = {value}\n" for name, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{lines}")
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))

    return install


def test_the_providers_of_the_package_are_known_by_name() -> None:
    assert {"anthropic", "mock", "openai"} <= set(ProviderRegistry({}).names())


def test_a_provider_is_made_once_in_a_process() -> None:
    registry = ProviderRegistry({})
    assert registry.get("mock") is registry.get("mock")
    assert isinstance(registry.get("mock"), MockProvider)


def test_a_name_that_nobody_registers_is_refused_and_the_known_ones_are_told() -> None:
    with pytest.raises(ProviderUnknown) as caught:
        ProviderRegistry({}).get("opneai")
    assert "opneai" in caught.value.detail
    assert "openai" in caught.value.detail
    assert "turnmill.providers" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")]
)
def test_a_missing_key_names_the_variable_to_set(name: str, variable: str) -> None:
    registry = ProviderRegistry({variable: ""})
    assert registry.missing_key(name) == variable
    with pytest.raises(KeyMissing) as caught:
        registry.get(name)
    assert variable in caught.value.hint


@pytest.mark.parametrize("left", ["\r", "\n", "\r\n", " "])
def test_a_line_end_behind_a_key_is_none_of_it(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with Windows line ends leaves one there, and a secret that was made with `echo`."""
    accounts = []
    for behind in ("", left):
        for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_ORG_ID"):
            monkeypatch.setenv(variable, "a-key" + behind)
        for variable in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
            monkeypatch.setenv(variable, "http://127.0.0.1:9/v1" + behind)
        made = [each.from_env() for each in (OpenAIProvider, AnthropicProvider, OpenAITranscriber)]
        accounts.append([one.account for one in made])
        for one in made:
            asyncio.run(one.aclose())
    assert accounts[0] == accounts[1]


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"])
@pytest.mark.parametrize("key", ["a-\u201ckey\u201d", "a\nkey", "a\u00a0key"])
def test_what_can_be_no_key_is_refused_before_it_is_sent_and_not_told(
    variable: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, key)
    with pytest.raises(KeyMissing) as caught:
        ProviderRegistry().get(variable.partition("_")[0].lower())
    assert variable in caught.value.hint
    assert key not in f"{caught.value!r} {caught.value.detail} {caught.value.hint}"


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_a_key_of_white_space_is_missing(name: str) -> None:
    variable = f"{name.upper()}_API_KEY"
    assert ProviderRegistry({variable: "\r\n"}).missing_key(name) == variable


def test_configured_are_those_that_lack_no_key() -> None:
    assert set(ProviderRegistry({}).configured()) >= {"mock"}
    assert not {"openai", "anthropic"} & set(ProviderRegistry({}).configured())
    assert "openai" in ProviderRegistry({"OPENAI_API_KEY": "sk-x"}).configured()


def test_asking_what_is_configured_imports_no_sdk() -> None:
    program = (
        "import sys\n"
        "from turnmill_worker.providers.registry import ProviderRegistry\n"
        "registry = ProviderRegistry({'OPENAI_API_KEY': 'sk-x', 'ANTHROPIC_API_KEY': 'sk-y'})\n"
        "assert {'openai', 'anthropic'} <= set(registry.configured())\n"
        "assert not {'openai', 'anthropic', 'aiohttp'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_example_package_is_found_by_its_entry_point(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((ECHO / "pyproject.toml").read_text())["project"]
    install(
        "turnmill_echo_provider",
        project["entry-points"]["turnmill.providers"],
        turnmill_echo=(ECHO / "turnmill_echo.py").read_text(),
    )
    registry = ProviderRegistry({})
    assert "echo" in registry.configured()
    with pytest.raises(KeyMissing, match="key_missing") as caught:
        registry.get("echo")
    assert "ECHO_VOICE" in caught.value.hint
    monkeypatch.setenv("ECHO_VOICE", "loud")
    provider = registry.get("echo")
    assert isinstance(provider, Provider)
    assert provider.name == "echo"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module_of_anybody", "ModuleNotFoundError"),
        ("def from_env(): raise RuntimeError('out of order')", "out of order"),
        ("def from_env(): return object()", "no Provider"),
        ("raise SystemExit('no key')", "SystemExit: no key"),
        ("def from_env():\n  class E(BaseException): __str__ = 1 .real\n  raise E", "E"),
        ("", "AttributeError"),
    ],
)
def test_a_broken_package_is_refused_with_its_reason(
    install: Install, source: str, said: str
) -> None:
    module = f"broken_provider_{abs(hash(source))}"
    install("broken", {"broken": f"{module}:from_env"}, **{module: source})
    with pytest.raises(Rejected) as caught:
        ProviderRegistry({}).get("broken")
    assert caught.value.error_code == "provider_broken"
    assert said in caught.value.detail
    assert module in caught.value.detail


@pytest.mark.parametrize("source", ["raise SystemExit", "def from_env(): return object()"])
def test_a_broken_transcriber_or_speaker_is_refused_in_the_same_words(
    install: Install, source: str
) -> None:
    module = f"broken_voice_{abs(hash(source))}"
    for group in ("transcribers", "speakers"):
        points = {"hoarse": f"{module}:from_env"}
        install(f"hoarse_{group}", points, group=f"turnmill.{group}", **{module: source})
    for voices, noun in ((transcribers(), "transcriber"), (speakers(None), "speaker")):
        with pytest.raises(Rejected) as caught:
            voices.get("hoarse")
        assert caught.value.error_code == "provider_broken"
        assert caught.value.detail.startswith(f"{noun} 'hoarse' ({module}:from_env) cannot be")
        assert caught.value.hint
        with pytest.raises(ProviderUnknown) as unknown:
            voices.get("nobody")
        assert f"turnmill.{noun}s" in unknown.value.hint


def test_a_name_registered_by_two_packages_is_refused(install: Install) -> None:
    install("first", {"twice": "first_module:from_env"})
    install("second", {"twice": "second_module:from_env"})
    with pytest.raises(Rejected) as caught:
        ProviderRegistry({}).get("twice")
    assert caught.value.error_code == "provider_ambiguous"
    assert "first_module" in caught.value.detail
    assert "second_module" in caught.value.detail


def test_a_setting_that_cannot_be_understood_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TURNMILL_MOCK_LATENCY", "soon")
    with pytest.raises(Rejected) as caught:
        ProviderRegistry({}).get("mock")
    assert caught.value.error_code == "invalid_setting"
    assert "TURNMILL_MOCK_LATENCY" in caught.value.detail


def test_preloading_makes_what_it_can_and_tells_what_it_cannot(install: Install) -> None:
    install("broken", {"broken": "broken_provider_preloaded:from_env"})
    registry = ProviderRegistry({})
    failures = registry.preload()
    assert set(failures) == {"broken"}
    assert isinstance(registry.get("mock"), MockProvider)


async def _hang() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def _leave() -> None:
    raise SystemExit(3)


def test_closing_one_provider_that_breaks_or_hangs_keeps_neither_the_others_nor_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed, "_CLOSE_WITHIN", timedelta(seconds=0.05))
    monkeypatch.setattr(loops, "_PATIENCE", timedelta(seconds=0.05))
    monkeypatch.setattr(Call.close, "__kwdefaults__", {"patience": timedelta(seconds=0.05)})
    closed: list[str] = []

    async def close() -> None:
        closed.append("the last")

    used = ProviderRegistry({})
    providers = {"hangs": _hang, "leaves": _leave, "last": close}
    used._loaded = {name: SimpleNamespace(aclose=verb) for name, verb in providers.items()}
    run_to_end(asyncio.new_event_loop(), used.aclose())
    assert closed == ["the last"]


def test_production_has_no_mock_until_it_is_asked_for_by_name() -> None:
    production = {"TURNMILL_PROFILE": "production", "TURNMILL_ENCRYPTION": "off"}
    registry = ProviderRegistry(production)
    assert "mock" not in registry.configured()
    with pytest.raises(KeyMissing) as missing:
        registry.get("mock")
    assert "TURNMILL_ALLOW_MOCK" in missing.value.hint
    assert "mock" in ProviderRegistry(production | {"TURNMILL_ALLOW_MOCK": "yes"}).configured()
