"""Taking results: each turn is settled once, in groups, in whatever order and however often."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from turnmill.domain.checks import storable
from turnmill.domain.errors import ProviderError, Rejected, Unstorable
from turnmill.domain.ids import SessionId, TurnId, as_uuid
from turnmill.domain.retry import RetryPolicy
from turnmill.domain.states import FOR_BATCH, Lane, OnAmbiguous, TurnState
from turnmill.store.database import Database
from turnmill.store.line.late import book_lines
from turnmill.store.nouns.shard_late import book_late
from turnmill.store.nouns.shard_moves import settle_out_of
from turnmill.store.nouns.shard_turns import forms_of, left_in
from turnmill.store.nouns.shards import Native, Shard
from turnmill.store.records import Claim, Settlement
from turnmill_worker.native.saying import Wrong
from turnmill_worker.providers.batch_port import Answered
from turnmill_worker.providers.boundary import attempted, cost_of
from turnmill_worker.providers.port import Done, Usage, used_by
from turnmill_worker.tools.form import OF_FORM, fault_of
from turnmill_worker.turn import settlements, verdict
from turnmill_worker.turn.ledger import UNSTORABLE
from turnmill_worker.turn.verdict import Rules, Verdict

_GROUP = 200
#: Lines that were never run, and cost no attempt.
_NEVER_RUN = frozenset({"batch_cancelled", "batch_canceled", "batch_expired", "batch_line_missing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What replies cost."""

    price: Callable[[str, str, Usage], Decimal | None]
    source: Callable[[str, str, str], str]

    def of(self, claim: Claim, reply: Done) -> tuple[Decimal | None, str]:
        """Return the cost of a reply, and what it is by.

        Where no list knows a model's price in batches it is one half: so both vendors say of all.
        """
        model, usage = reply.model or claim.model, reply.usage
        cost = cost_of(lambda: self.price(claim.provider, model, usage))
        if cost is not None:
            return cost, self._source(claim.provider, model, usage.service_tier)
        standard = replace(usage, service_tier="")
        cost = cost_of(lambda: self.price(claim.provider, model, standard))
        tokens = replace(standard, searches=0, file_searches=0, containers=0)
        halved = cost_of(lambda: self.price(claim.provider, model, tokens))
        if cost is None or halved is None:
            return None, ""
        # What is charged by the piece is no cheaper.
        return cost - halved / 2, f"{self._source(claim.provider, model, '')} @batch"

    def _source(self, provider: str, model: str, tier: str) -> str:
        return attempted("a price list", lambda: self.source(provider, model, tier)) or ""


class Taking:
    """Takes turns out of shards, each with what came of it."""

    def __init__(
        self,
        database: Database,
        prices: Prices,
        *,
        owner: str,
        tags: Sequence[str] = (),
        policy: RetryPolicy | None = None,
    ) -> None:
        self._database = database
        self._prices = prices
        self._owner = owner
        self._tags = tags
        self._rules = Rules(policy=policy or RetryPolicy(), jitter=0.0, patience=timedelta(0))

    async def answered(self, batch: Native, shard: Shard, found: Sequence[Answered]) -> int:
        """Settle what was answered of a shard; return how many turns that were."""
        said: dict[TurnId, Done | ProviderError] = {}
        for one in found:
            turn_id = as_uuid(one.custom_id)
            if turn_id is not None and not isinstance(said.get(TurnId(turn_id)), Done):
                said[TurnId(turn_id)] = one.said

        faults = await asyncio.to_thread(self._faults_in, said)

        def of(claim: Claim) -> Verdict:
            found = self._judged(claim, said[claim.turn_id], batch)
            return _without_form(found, faults.get(claim.turn_id, ""))

        settled = await asyncio.to_thread(self._settle, list(said), of, shard)
        if settled < len(said):
            paid = {one: used for one, answer in said.items() if (used := _used_by(answer))}
            await asyncio.to_thread(self._book_late, paid, shard)
        return settled

    async def left(
        self, batch: Native, shard: Shard, error: ProviderError, *, may_come: bool = False
    ) -> int:
        """Settle all that a shard has no results of; return how many turns that were.

        Results that `may_come` are written down with them: what such lines have cost is booked.
        """

        def of(claim: Claim) -> Verdict:
            return self._judged(claim, error, batch)

        return await asyncio.to_thread(self._all_left, of, batch, shard, may_come=may_come)

    async def refused(self, batch: Native, shard: Shard, codes: Mapping[int, str]) -> int:
        """Fail the lines of a shard that its vendor finds wrong, by their numbers; the others stay.

        Where turns have left the shard since, no number says any more which line it was: those
        that are left run by themselves, and are refused by themselves.
        """
        ids = await asyncio.to_thread(self._ids_of, batch, shard)
        if len(ids) != shard.lines:
            return await asyncio.to_thread(self._all_left, lambda _: _RELEASED, batch, shard)
        wrong = {ids[n - 1]: code for n, code in codes.items() if n <= len(ids)}
        if not wrong:  # it names lines that there are not
            return await asyncio.to_thread(self._all_left, lambda _: _RELEASED, batch, shard)

        def of(claim: Claim) -> Verdict:
            return self._judged(claim, Rejected(wrong[claim.turn_id][:64]), batch)

        return await asyncio.to_thread(self._settle, list(wrong), of, shard)

    async def let_go_all(self, batch: Native, shard: Shard | None) -> int:
        """Let all turns of a shard (None: all that are parked) be run by themselves."""
        return await asyncio.to_thread(self._all_left, lambda _: _RELEASED, batch, shard)

    async def let_go(self, turn_ids: Sequence[TurnId], *, shard: Shard | None = None) -> None:
        """Let turns of a shard (None: parked, and in none) be run by themselves."""
        for start in range(0, len(turn_ids), _GROUP):
            some = turn_ids[start : start + _GROUP]
            await asyncio.to_thread(self._settle, some, lambda _: _RELEASED, shard)

    async def fail(
        self, batch: Native, wrong: Sequence[tuple[TurnId, Wrong]], *, shard: Shard | None = None
    ) -> None:
        """Fail turns of a shard (None: parked, and in none) that nobody can, or may, be asked."""
        errors: Mapping[TurnId, ProviderError] = {turn_id: one.error for turn_id, one in wrong}

        def of(claim: Claim) -> Verdict:
            return self._judged(claim, errors[claim.turn_id], batch)

        for start in range(0, len(wrong), _GROUP):
            some = [turn_id for turn_id, _ in wrong[start : start + _GROUP]]
            await asyncio.to_thread(self._settle, some, of, shard)

    async def end_parked(self, batch: Native) -> int:
        """End all turns that stand in no shard, of a batch that nobody wants any more."""
        return await asyncio.to_thread(self._all_left, lambda _: _ended(batch), batch, None)

    def _faults_in(self, said: Mapping[TurnId, Done | ProviderError]) -> dict[TurnId, str]:
        """Return the codes of replies that have not the form that their sessions ask for.

        Before they are settled: it may take its time, and no row is locked meanwhile.
        """
        replies = {turn_id: one for turn_id, one in said.items() if isinstance(one, Done)}
        if not replies:
            return {}
        forms = self._database.run_single(forms_of, list(replies))
        return {
            turn_id: fault_of(replies[turn_id].text, replies[turn_id].finish_reason, form)
            for turn_id, form in forms.items()
        }

    def _ids_of(self, batch: Native, shard: Shard) -> list[TurnId]:
        with self._database.single() as conn:
            return left_in(conn, batch.id, shard=str(shard.id), limit=shard.lines + 1)

    def _all_left(
        self,
        of: Callable[[Claim], Verdict],
        batch: Native,
        shard: Shard | None,
        *,
        may_come: bool = False,
    ) -> int:
        settled = 0
        while True:
            name = "" if shard is None else str(shard.id)
            with self._database.single() as conn:
                ids = left_in(conn, batch.id, shard=name, limit=_GROUP)
            done = self._settle(ids, of, shard, may_come=may_come) if ids else 0
            settled += done
            if not done:
                return settled

    def _settle(
        self,
        turn_ids: Sequence[TurnId],
        of: Callable[[Claim], Verdict],
        shard: Shard | None,
        *,
        may_come: bool = False,
    ) -> int:
        """Settle those of the turns that are in the shard (None: in none); the others are not."""
        try:
            return self._settled(turn_ids, of, shard, may_come=may_come)
        except Unstorable:
            if len(turn_ids) == 1:
                return self._settled_without_words(turn_ids, of, shard)
        return sum(self._settle([one], of, shard) for one in turn_ids)

    def _book_late(self, replies: Mapping[TurnId, Done], shard: Shard) -> None:
        """Book what was answered of turns that were cancelled at their vendor, or are gone.

        It is paid for.
        """

        def judge(claim: Claim) -> Settlement:
            reply = replies[claim.turn_id]
            cost, priced_by = self._prices.of(claim, reply)
            return settlements.settlement(
                claim, _CANCELLED, provider_ms=0, cost_usd=cost, priced_by=priced_by, withheld=reply
            )

        def judge_gone(row: Mapping[str, Any]) -> Settlement:
            return judge(_claim_of_gone(row))

        ids = list(replies)
        if not ids:
            return
        self._database.run(book_late, shard, ids, judge, owner=self._owner, tags=self._tags)
        self._database.run(book_lines, shard.id, ids, judge_gone)

    def _settled_without_words(
        self, turn_ids: Sequence[TurnId], of: Callable[[Claim], Verdict], shard: Shard | None
    ) -> int:
        """Fail a turn whose reply no table takes: what it has cost is written all the same."""
        try:
            return self._settled(turn_ids, of, shard, withholds=True)
        except Unstorable:
            return self._settled(turn_ids, lambda _: _UNSTORABLE, shard)

    def _settled(
        self,
        turn_ids: Sequence[TurnId],
        of: Callable[[Claim], Verdict],
        shard: Shard | None,
        *,
        withholds: bool = False,
        may_come: bool = False,
    ) -> int:
        def judge(claim: Claim) -> Settlement:
            found = of(claim)
            if withholds:
                return self._settlement(claim, _UNSTORABLE, withheld=found.reply or found.used)
            return self._settlement(claim, found)

        return self._database.run(
            settle_out_of,
            shard,
            turn_ids,
            judge,
            owner=self._owner,
            tags=self._tags,
            may_come=may_come,
        )

    def _settlement(
        self, claim: Claim, found: Verdict, *, withheld: Done | None = None
    ) -> Settlement:
        reply = found.reply or withheld or found.used
        cost, priced_by = (None, "") if reply is None else self._prices.of(claim, reply)
        written = settlements.settlement(
            claim,
            found,
            provider_ms=0,
            cost_usd=cost,
            priced_by=priced_by,
            withheld=withheld,
            reserved=claim.budgeted,
        )
        if found.error_code in OF_FORM and found.used is not None:
            return replace(written, finish_reason=found.used.finish_reason)
        return written

    def _judged(self, claim: Claim, said: Done | ProviderError, batch: Native) -> Verdict:
        if isinstance(said, Done):
            return verdict.of_answer(claim, said, rules=self._rules)
        if self._rules.policy.is_permanent(said):
            return verdict.of_error(claim, said, rules=self._rules)
        if batch.is_over:
            return replace(_ended(batch), used=used_by(said))
        return _tried_again(claim, said, by_itself=batch.on_leftover != "next")


def _without_form(found: Verdict, code: str) -> Verdict:
    """Return the verdict on a reply that has not the form that is asked for: it is paid for."""
    if not code or found.reply is None:
        return found
    failed = TurnState.FAILED
    return replace(
        found, state=failed, outcome=failed.value, error_code=code, reply=None, used=found.reply
    )


def _claim_of_gone(row: Mapping[str, Any]) -> Claim:
    """Return the claim of a line whose turn is gone: whom it asked, and for nobody any more."""
    return Claim(
        turn_id=TurnId(row["turn_id"]),
        session_id=SessionId(row["turn_id"]),  # of nothing: it is gone, too
        fence=row["fence"],
        kind="send",
        n=1,
        attempt=1,
        max_attempts=1,
        lane=Lane.BULK,
        provider=row["provider"],
        model=row["model"],
        system_prompt=None,
        settings={},
        provider_ref="",
        native_ref="",
        on_ambiguous=OnAmbiguous.RETRY,
        metadata={},
        messages=(),
        next_position=1,
        history=None,
        batch_id=row["batch_id"],
    )


def _used_by(said: Done | ProviderError) -> Done | None:
    """Return what a line has used: of one that came to nothing, as far as that was counted."""
    return said if isinstance(said, Done) else used_by(said)


def _ended(batch: Native) -> Verdict:
    state = TurnState.CANCELLED if batch.is_cancelled else TurnState.EXPIRED
    return Verdict(
        state=state, outcome=state.value, error_code=state.value, gives_attempt_back=True
    )


def _tried_again(claim: Claim, error: ProviderError, *, by_itself: bool) -> Verdict:
    """Return the verdict on a line that was not run, or in vain: it is not given up for that."""
    free = error.error_code in _NEVER_RUN
    found = Verdict(
        state=TurnState.RETRYING,
        outcome="retrying",
        gives_attempt_back=free,
        error_code=error.error_code[:64],
        error_detail=storable(error.detail)[:2000] or None,
        used=used_by(error),
    )
    if claim.attempt >= claim.max_attempts and not free:
        return replace(found, state=TurnState.DEAD, outcome="dead")
    return found if by_itself else replace(found, state=TurnState.WAITING, waits_for=FOR_BATCH)


_RELEASED = Verdict(state=TurnState.QUEUED, outcome="released", gives_attempt_back=True)
_CANCELLED = Verdict(state=TurnState.CANCELLED, outcome="cancelled")
_UNSTORABLE = Verdict(state=TurnState.FAILED, outcome="failed", error_code=UNSTORABLE)
