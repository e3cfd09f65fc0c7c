# Made from aio/analytics.py by `make sync`: change that.
"""Analytics: what all the turns came to, what they were about, and what to change."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from turnmill.domain.analytics.report_data import ReportData
from turnmill.domain.analytics.suggesting.findings import Suggestion
from turnmill.executor.thread import Executor, aside
from turnmill.store.analytics.alerts import Alert
from turnmill.store.analytics.behaviours import BehaviourCluster
from turnmill.store.analytics.figures import Totals
from turnmill.store.feedback_records import Feedback
from turnmill.verbs import feedback
from turnmill.verbs.analytics import conversations, suggestions, topics, usage
from turnmill.verbs.analytics import overview as overviews
from turnmill.verbs.analytics.conversations import SessionMetrics, UserInsights
from turnmill.verbs.analytics.topics import Topics
from turnmill.verbs.analytics.usage import Report
from turnmill.verbs.batch_files.sources import path_of
from turnmill.verbs.bills import read_bill
from turnmill.verbs.intake import name_or_none
from turnmill.verbs.reconciling import Reconciliation
from turnmill.verbs.refs import SessionRef
from turnmill.verbs.repricing import Job, PriceAgain, Repricing


class Analytics:
    """`client.analytics`: reports, sessions, users, topics, suggestions, bills, changed prices."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def report(self, *, days: int = 7, by_day: bool = True, refresh: bool = True) -> Report:
        """Return what the turns that ended in the last `days` UTC days came to.

        That is a row for each day, provider and model; without `by_day`, for all days together.
        Beat writes the figures every ten minutes. With `refresh`, those of today are written anew
        before they are read; that takes as long as it takes to read the turns of a day.
        """
        verb = usage.report(days=days, by_day=by_day, refresh=refresh)
        return self._executor.run(verb)

    def overview(
        self,
        *,
        since: str | datetime | timedelta = "7d",
        until: str | datetime | None = None,
        zone: str = "UTC",
        thorough: bool = False,
    ) -> ReportData:
        """Return a report of a window, compared with the one before it: what the page shows.

        - `since`: `7d`, `24h`, `4w`, a day such as `2026-11-01`, a moment, or a timedelta.
        - `until`: the end, a day or a moment; now unless given.
        - `zone`: whose days these are, such as `Asia/Kolkata`.
        - `thorough`: look at each turn, for suggestions and behaviour, of more than 30,000 too; not
          at a sample.

        From figures that beat keeps: as fresh as `whole_until` says. `report_page` of `turnmill`
        makes the page from it.
        """
        verb = overviews.overview(since=since, until=until, zone=zone, thorough=thorough)
        return self._executor.run(verb)

    def lines(
        self,
        *,
        since: str | datetime | timedelta = "7d",
        until: str | datetime | None = None,
        zone: str = "UTC",
    ) -> Sequence[Totals]:
        """Return the lines that a report is added up from, the same as are written as CSV.

        `since`, `until` and `zone` are those of `overview`.

        One for each span of time (hours of up to two days, days of up to 92, weeks, months),
        provider, model, tier, lane and tag that turns ended with.
        """
        return self._executor.run(overviews.lines(since=since, until=until, zone=zone))

    def alerts(
        self, *, since: str | datetime | timedelta | None = None, limit: int = 100
    ) -> Sequence[Alert]:
        """Return the alerts that are open, and with `since` those that were since then."""
        return self._executor.run(overviews.alerts(since=since, limit=limit))

    def session(self, session: SessionRef, *, suggest: bool = False) -> SessionMetrics:
        """Return what a session came to, and what was felt: as it stands now, from its rows.

        Where nobody has given feedback, `satisfaction` is an estimate, and says so. With `suggest`,
        what `suggest(session=)` says is in it, too: that compares with everybody's turns since the
        session was made. Raises SessionNotFound.
        """
        return self._executor.run(conversations.of_one_session(session, suggest=suggest))

    def user(
        self,
        user_id: str,
        *,
        since: str | datetime | timedelta = "30d",
        until: str | datetime | None = None,
        zone: str = "UTC",
        suggest: bool = False,
    ) -> UserInsights:
        """Return what a user's turns came to that were accepted in a span of time.

        - `since`: `7d`, `24h`, a day, a moment, or a timedelta before the end.
        - `until`: when it ends, now unless given; both are moved out to whole quarters of an hour.
        - `zone`: of days, and of the hours and days of the week that are counted.
        - `suggest`: with what `suggest(user_id=)` says, which compares with everybody's turns.

        Of somebody who is not known everything is 0, or None. Raises InvalidInput.
        """
        verb = conversations.of_one_user(
            user_id, since=since, until=until, zone=zone, suggest=suggest
        )
        return self._executor.run(verb)

    def feedback(
        self,
        *,
        session: SessionRef | None = None,
        turn: object = None,
        user_id: str | None = None,
        most: float | None = None,
        commented: bool = False,
        after: UUID | str | None = None,
        limit: int = 100,
    ) -> list[Feedback]:
        """Return up to `limit` of what was said of replies, what was said last first.

        The last word of each, as far as it is of what the turn has come to: nothing that was taken
        back, nor what was said before the turn was run again.

        - `user_id`: whose word it is, in whosever session.
        - `most`: with this score, or a lower one.
        - `commented`: only where something was said in words.
        - `after`: the id of the last one of the page before.

        Raises InvalidInput, SessionNotFound.
        """
        verb = feedback.find(
            session=session,
            turn=turn,
            user_id=user_id,
            most=most,
            commented=commented,
            after=after,
            limit=limit,
        )
        return self._executor.run(verb)

    def topics(self) -> Topics:
        """Return what people talk about, as workers have found it last night.

        Topics of fewer than five users are counted and not shown, nor is a word that fewer than
        five have said; `because` says why there are none. Workers look where the extra
        `analytics` is installed, at a sample of the sessions that were active in 31 days.
        """
        return self._executor.run(topics.topics())

    def behaviours(
        self,
        *,
        session: SessionRef | None = None,
        user_id: str | None = None,
        since: str | datetime | timedelta = "7d",
        until: str | datetime | None = None,
        examples: int = 5,
        thorough: bool = False,
    ) -> list[BehaviourCluster]:
        """Return how conversations go wrong, by rows alone: loops, cut replies, long silences, ….

        Of everybody's turns that ended in the window, of a user's, or of a session's; each with
        up to so many sessions as `examples`, by their ids. Everybody's are of a sample of sessions
        where more than 30,000 turns have ended, as `looked_at` says, unless it is `thorough`.
        """
        verb = suggestions.behaviours(
            session=session,
            user_id=user_id,
            since=since,
            until=until,
            examples=examples,
            thorough=thorough,
        )
        return self._executor.run(verb)

    def suggest(
        self,
        session: SessionRef | None = None,
        *,
        user_id: str | None = None,
        since: str | datetime | timedelta = "31d",
        until: str | datetime | None = None,
        thorough: bool = False,
    ) -> Suggestion:
        """Return what could be done better, with the figures that say so.

        By rules with thresholds that are written down, of the turns that ended in the window:
        everybody's, a user's, or a session's. A rule speaks where the whole 95 % interval of its
        figure is beyond its threshold, so of few turns nothing is suggested. Retries, targets,
        batches and workers are everybody's, and looked at without `session` and `user_id` alone.
        Where more than 30,000 turns have ended, a sample of sessions and the worst hours stand for
        everybody's, as `looked_at` says, unless it is `thorough`: that takes its time.
        """
        verb = suggestions.suggest(
            session=session, user_id=user_id, since=since, until=until, thorough=thorough
        )
        return self._executor.run(verb)

    def reconcile(
        self,
        bill: str | Path,
        *,
        provider: str | None = None,
        tolerance: Decimal | float = Decimal("0.01"),
    ) -> Reconciliation:
        """Compare a vendor's export of costs or usage, a CSV file, with what was written down.

        By UTC day, and by model and tier as far as the file tells these apart. `provider` is whose
        bill it is, where the file does not show it. Tokens and calls have to be the same; costs may
        differ by `tolerance`, a share of each line's cost, or by what the file has rounded. Raises
        InvalidBill, which names the lines that cannot be read.
        """
        share = usage.share_of(tolerance)
        whose = name_or_none(provider, name="provider")
        read = aside(read_bill, path_of(bill), provider=whose)
        return self._executor.run(usage.reconcile(read, tolerance=share))

    def reprice(
        self,
        price: PriceAgain,
        *,
        first: date,
        last: date | None = None,
        provider: str | None = None,
        dry_run: bool = False,
    ) -> Repricing:
        """Price the calls that began from `first` to `last` anew, both days included, in UTC.

        `price` says what a call costs by now; `turnmill_worker.providers.repricing` has one for the
        lists that workers price by. In chunks, each with all sums that it is in: of the turn, the
        session, and the day's report. A call without a price by now keeps what it has. Interrupted,
        it can be run again. With `dry_run` nothing is written.
        """
        job = Job(price, first=first, last=last, provider=provider, dry_run=dry_run)
        while calls := self._executor.run(job.next()):
            priced = aside(job.priced, calls)
            if priced:
                job.add(priced, self._executor.run(job.put(priced)))
        return self._executor.run(job.close())
