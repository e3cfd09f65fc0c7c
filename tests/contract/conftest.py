"""Providers against stand-ins for their vendors."""

from collections.abc import AsyncIterator

import pytest

from tests.contract.rigs import RIGS, rig_of
from tests.doubles import anthropic_server, openai_server
from turnmill.testing.provider_contract import Rig
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.openai.provider import OpenAIProvider


@pytest.fixture
async def openai_double() -> AsyncIterator[openai_server.OpenAIDouble]:
    async with openai_server.OpenAIDouble() as double:
        yield double


@pytest.fixture
async def anthropic_double() -> AsyncIterator[anthropic_server.AnthropicDouble]:
    async with anthropic_server.AnthropicDouble() as double:
        yield double


@pytest.fixture
async def openai(
    openai_double: openai_server.OpenAIDouble, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenAIProvider]:
    monkeypatch.setenv("OPENAI_API_KEY", openai_server.KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", openai_double.base_url)
    provider = OpenAIProvider.from_env()
    yield provider
    await provider.aclose()


@pytest.fixture
async def anthropic(
    anthropic_double: anthropic_server.AnthropicDouble, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AnthropicProvider]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", anthropic_server.KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", anthropic_double.base_url)
    provider = AnthropicProvider.from_env()
    yield provider
    await provider.aclose()


@pytest.fixture(params=list(RIGS))
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with rig_of(request.param) as rig:
        yield rig
