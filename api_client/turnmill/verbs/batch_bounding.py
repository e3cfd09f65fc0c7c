"""Bounding: what lines may cost at the most that it is not seen of them alone.

A line with files is read when they are kept, one of a session that stands with what stands there,
and with what lines before it in the file add to that.
"""

from collections.abc import Collection, Sequence

from turnmill.domain.batch_estimates import AskedLine
from turnmill.domain.batches import BatchMode
from turnmill.domain.ids import SessionId
from turnmill.domain.price_names import names_model
from turnmill.store.nouns import batch_asked
from turnmill.store.nouns.batch_asked import Standing
from turnmill.verbs.batch_estimating import Estimator, asked_of, said_in
from turnmill.verbs.batch_files.lines import Draft
from turnmill.verbs.batch_files.problems import UNPRICED, Refused
from turnmill.verbs.verb import Connection, Effect, Verb, single

#: Sessions of a file whose growth is remembered; of lines of others nothing is reserved.
_MOST_SESSIONS = 1_000_000
#: Models of a file of which is remembered whether they have a price; others are asked about later.
_MOST_MODELS = 1_000

Ref = SessionId | str


def is_open(draft: Draft) -> bool:
    """Tell whether a line, as it was read, does not say yet what it may cost."""
    return draft.session is not None or bool(draft.files)


def standing(drafts: Sequence[Draft]) -> Verb[dict[Ref, Standing]]:
    """Read the sessions that lines go on with."""
    refs = {one.session for one in drafts if one.session is not None}

    def on(conn: Connection) -> Effect[dict[Ref, Standing]]:
        return Effect(batch_asked.standing(conn, refs) if refs else {})

    return single(on)


class Priced:
    """Tells which lines have a price, where a limit of their batch goes by that.

    A price is known here, or to workers, who say which models they have prices of.
    """

    def __init__(self, estimator: Estimator, *, of_workers: Collection[str]) -> None:
        self._estimator = estimator
        self._of_workers = of_workers
        self._known: dict[tuple[str, str], bool] = {}

    def refusal_of(self, draft: Draft) -> Refused | None:
        """Return why a line is refused; None: it has a price, or its session says what it asks."""
        terms = draft.terms
        if terms is None or self._is_known(terms.provider, terms.model):
            return None
        return Refused(
            UNPRICED,
            "nobody knows what its model costs, which max_cost_usd goes by: name it in"
            " TURNMILL_PRICES of every worker",
        )

    def _is_known(self, provider: str, model: str) -> bool:
        key = (provider, model)
        if key not in self._known and len(self._known) < _MOST_MODELS:
            found = self._estimator.priced(provider, model, input_tokens=1, output_tokens=1)
            self._known[key] = any(one is not None for one in found.values()) or any(
                names_model(one, provider, model) for one in self._of_workers
            )
        return self._known.get(key, True)


class Bounding:
    """Bounds lines of one file, in their order."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._grown: dict[int, int] = {}  #: tokens, by session

    def bounded(
        self, drafts: Sequence[Draft], which: set[int], found: dict[Ref, Standing]
    ) -> list[Draft]:
        """Return the lines; those of `which`, by their numbers, with what they may cost."""
        return [self._bounded(one, found) if one.line.number in which else one for one in drafts]

    def _bounded(self, draft: Draft, found: dict[Ref, Standing]) -> Draft:
        asked = asked_of(draft) if draft.session is None else self._of_session(draft, found)
        estimate = None if asked is None else self._estimator.of(asked)
        if estimate is None:
            return draft
        if draft.session is not None:
            self._note(found[draft.session], estimate.grows)
        money = estimate.money.get(BatchMode.LIVE)
        if money is None or money.bound_usd is None:
            return draft
        return draft._replace(line=draft.line._replace(bound_usd=money.bound_usd))

    def _of_session(self, draft: Draft, found: dict[Ref, Standing]) -> AskedLine | None:
        session = None if draft.session is None else found.get(draft.session)
        if session is None:
            return None
        known = self._grown.get(session.session_id.int)
        if known is None and len(self._grown) >= _MOST_SESSIONS:
            return None
        return AskedLine(
            provider=session.provider,
            model=session.model,
            system_prompt=session.system_prompt,
            settings=session.settings,
            before=(),
            turns=said_in(draft.line.content),
            read=session.tokens + (known or 0),
            awaited=session.awaited,
        )

    def _note(self, session: Standing, grows: int) -> None:
        before = self._grown.get(session.session_id.int, 0)
        self._grown[session.session_id.int] = before + grows
