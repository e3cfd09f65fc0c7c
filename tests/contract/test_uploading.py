"""Copies of attachments at a vendor, from the layer to the rows and the vendor's own list.

A worker may be gone after any step; what it leaves at the vendor is found, and deleted there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from sqlalchemy import select, update

from tests import rows, steps, stores
from tests.attachments import PDF, Held, a_png
from tests.contract.rigs import a_request
from tests.doubles import anthropic_server, openai_server
from turnmill.domain.content import Message, Text
from turnmill.domain.errors import NotSent, Rejected
from turnmill.domain.uploads import IN_FLIGHT
from turnmill.store.database import Database
from turnmill.store.nouns import sessions
from turnmill.store.records import Claim
from turnmill.store.schema.kept_tables import kept_refs
from turnmill_worker.layers.call import Call
from turnmill_worker.layers.holding import Holding
from turnmill_worker.layers.uploading import uploading
from turnmill_worker.process.closing import Closing
from turnmill_worker.providers.anthropic.provider import AnthropicProvider
from turnmill_worker.providers.boundary import Answer
from turnmill_worker.providers.openai.provider import OpenAIProvider
from turnmill_worker.providers.port import Done, Uploaded
from turnmill_worker.turn.upload_ledger import Uploads

pytestmark = pytest.mark.anyio

both = pytest.mark.parametrize("vendor", ["anthropic", "openai"])
ALWAYS = {"uploads": "always"}


class Killed(BaseException):
    """The process is gone."""


@dataclass(slots=True)
class Stage:
    """A session, its attachments, and the vendor of its provider."""

    store: Database
    provider: Any
    double: Any
    held: Held = field(default_factory=Held)
    dies: Callable[[str], bool] = lambda _: False  #: whether its process dies after this step
    asked: list[Any] = field(default_factory=list)

    def begin(self) -> Claim:
        """Claim a turn of a new session."""
        session = rows.start(self.store, provider=self.provider.name)
        return steps.take_one(self.store, steps.send(self.store, session, "hello").turn_id)

    def next(self, claim: Claim) -> Claim:
        """Let the turn succeed, and claim another one."""
        steps.end(self.store, claim)
        return steps.take_one(self.store, steps.send(self.store, claim.session_id).turn_id)

    async def ask(self, claim: Claim, *parts: Any, **settings: Any) -> Answer:
        """Ask the vendor through the layer."""
        request = a_request(
            messages=[Message("user", (Text("What is this?"), *parts))],
            settings=settings or ALWAYS,
        )
        call = Call(claim=claim, request=request, kind="send", holding=Holding(claim))
        layer = uploading(lambda _: self.provider, self.held, Dying(self.store, self))
        return await layer(call, self._go)

    async def close(self) -> None:
        """Do what upkeep does, as if enough time had gone by."""
        with self.store.begin() as conn:
            past = datetime.now(UTC) - timedelta(seconds=1)
            conn.execute(
                update(kept_refs).where(kept_refs.c.due_at.is_not(None)).values(due_at=past)
            )
        await Closing(self.store, lambda _: self.provider).run()

    def refs(self) -> list[str]:
        with self.store.begin() as conn:
            return sorted(conn.scalars(select(kept_refs.c.ref)))

    async def _go(self, call: Call) -> Answer:
        self.asked.append(call.request)
        found: Answer = await self.provider.send(call.request)
        return found


class Dying(Uploads):
    """The ledger of a process that dies where its stage says so."""

    def __init__(self, database: Database, stage: Stage) -> None:
        super().__init__(database)
        self._stage = stage

    async def begin_upload(self, claim: Claim, attachment_id: str, name: str) -> bool:
        found = await super().begin_upload(claim, attachment_id, name)
        if self._stage.dies("begun"):
            raise Killed
        return found

    async def keep_upload(
        self, claim: Claim, attachment_id: str, name: str, done: Uploaded
    ) -> bool:
        if self._stage.dies("uploaded"):
            raise Killed
        found = await super().keep_upload(claim, attachment_id, name, done)
        if self._stage.dies("kept"):
            raise Killed
        return found


@pytest.fixture
def store() -> Iterator[Database]:
    database = stores.in_memory()
    yield database
    steps.assert_sound(database)
    database.close()


@asynccontextmanager
async def at(vendor: str, store: Database) -> AsyncIterator[Stage]:
    if vendor == "anthropic":
        async with anthropic_server.AnthropicDouble() as double:
            sdk = AsyncAnthropic(
                api_key=anthropic_server.KEY, base_url=double.base_url, max_retries=0
            )
            yield Stage(store, AnthropicProvider(sdk), double)
    else:
        async with openai_server.OpenAIDouble() as other:
            key = openai_server.KEY
            made = AsyncOpenAI(api_key=key, base_url=other.base_url, max_retries=0)
            yield Stage(store, OpenAIProvider(made), other)


@both
async def test_what_a_session_says_again_is_uploaded_once(vendor: str, store: Database) -> None:
    async with at(vendor, store) as stage:
        cat, claim = stage.held.image(a_png()), stage.begin()
        for _ in range(3):
            assert isinstance(await stage.ask(claim, cat), Done)
            claim = stage.next(claim)
        assert stage.double.files.uploads == 1
        assert [*stage.double.files.kept] == stage.refs()


@both
async def test_what_the_vendor_has_let_expire_is_uploaded_again_and_nobody_sees_it(
    vendor: str, store: Database
) -> None:
    async with at(vendor, store) as stage:
        cat, paper = stage.held.image(a_png()), stage.held.file(PDF)
        claim = stage.begin()
        await stage.ask(claim, cat, paper)
        claim = stage.next(claim)
        stage.double.files.expire()
        assert isinstance(await stage.ask(claim, cat, paper), Done)
        assert len(stage.asked) in (3, 4)  # the vendor may name one at a time
        assert len(stage.double.files.kept) == 2
        await stage.close()
        assert stage.refs() == sorted(stage.double.files.kept)


@both
async def test_what_is_about_to_expire_is_uploaded_before_it_does(
    vendor: str, store: Database
) -> None:
    async with at(vendor, store) as stage:
        cat, claim = stage.held.image(a_png()), stage.begin()
        await stage.ask(claim, cat)
        with store.begin() as conn:
            soon = datetime.now(UTC) + timedelta(minutes=5)
            conn.execute(update(kept_refs).values(expires_at=soon))
        await stage.ask(stage.next(claim), cat)
        assert (stage.double.files.uploads, len(stage.asked)) == (2, 2)


@both
@pytest.mark.parametrize("step", ["begun", "uploaded", "kept"])
async def test_a_worker_that_is_gone_after_any_step_leaves_nothing_at_the_vendor(
    vendor: str, step: str, store: Database
) -> None:
    async with at(vendor, store) as stage:
        cat, claim = stage.held.image(a_png()), stage.begin()
        stage.dies = lambda one: one == step
        with pytest.raises(Killed):
            await stage.ask(claim, cat)
        stage.dies = lambda _: False
        steps.lose(store, claim.turn_id)
        again = steps.take_one(store, claim.turn_id)
        assert isinstance(await stage.ask(again, cat), Done)
        await stage.close()
        assert len(stage.double.files.kept) == 1
        with store.begin() as conn:
            sessions.remove(conn, claim.session_id)
        await stage.close()
        assert not stage.double.files.kept
        left = [one for one in stage.refs() if not one.startswith(IN_FLIGHT)]
        assert left == []  # and of what was never there, the name until nothing can arrive


@both
@pytest.mark.parametrize("step", ["begun", "uploaded", "kept"])
async def test_neither_does_one_whose_session_is_deleted_meanwhile(
    vendor: str, step: str, store: Database
) -> None:
    async with at(vendor, store) as stage:
        cat, claim = stage.held.image(a_png()), stage.begin()

        def delete(one: str) -> bool:
            if one == step:
                with store.begin() as conn:
                    sessions.remove(conn, claim.session_id)
            return False

        stage.dies = delete
        with suppress(asyncio.CancelledError):
            await stage.ask(claim, cat)
        await stage.close()
        assert not stage.double.files.kept


@both
async def test_an_upload_that_fails_costs_no_call_and_is_tried_again_by_the_next_attempt(
    vendor: str, store: Database
) -> None:
    async with at(vendor, store) as stage:
        cat, claim = stage.held.image(a_png()), stage.begin()
        stage.double.meet("server_error")
        with pytest.raises(NotSent):
            await stage.ask(claim, cat)
        assert stage.asked == []
        steps.lose(store, claim.turn_id)
        await stage.ask(steps.take_one(store, claim.turn_id), cat)
        assert len(stage.double.files.kept) == 1


@both
async def test_who_has_lost_the_turn_uploads_nothing(vendor: str, store: Database) -> None:
    async with at(vendor, store) as stage:
        cat, claim = stage.held.image(a_png()), stage.begin()
        steps.lose(store, claim.turn_id)
        with pytest.raises(asyncio.CancelledError):
            await stage.ask(claim, cat)
        assert (stage.double.files.uploads, stage.asked) == (0, [])


async def test_where_a_server_keeps_no_files_all_goes_along(store: Database) -> None:
    async with at("anthropic", store) as stage:
        stage.double.keeps_files = False
        cat, claim = stage.held.image(a_png(filler=2**20)), stage.begin()
        for how in ("auto", "always"):
            assert isinstance(await stage.ask(claim, cat, uploads=how), Done)
        assert stage.refs() == []


async def test_pictures_are_fitted_and_sent_along(store: Database) -> None:
    async with at("anthropic", store) as stage:
        cat, claim = stage.held.image(a_png(9000, 10)), stage.begin()
        with pytest.raises(Rejected, match="picture_too_large"):
            await stage.ask(claim, cat, uploads="auto")
        assert isinstance(await stage.ask(claim, cat, uploads="always", pictures="fit"), Done)
        assert stage.double.files.uploads == 0
