"""Acts on many turns, one by one beside Flower's loop: each act once, however often it is sent."""

import hashlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from turnmill.domain.errors import MoveRefused, SessionBusy, StoreUnavailable, TurnmillError
from turnmill.domain.ids import BatchId, SessionId, TurnId
from turnmill.executor.thread import Executor
from turnmill.settings import Settings
from turnmill.store.board.acts import Meant, Verb, ask, choose
from turnmill.store.board.looking import look
from turnmill.store.database import Database
from turnmill.verbs import acts, batch_states, batches, lanes, sessions
from turnmill.verbs.auditing import written_down

logger = logging.getLogger("turnmill.flower")

#: Acts that are remembered, and that may wait for their turn.
MOST_KEPT = 100
#: Turns after which others that want the same rows get a moment.
CHUNK = 50
_BREATH = 0.02
_CHOSEN_WITHIN = timedelta(seconds=20)
#: A store that is away is waited for so long, and then the act is broken off.
_TRIES = 30
_AGAIN_AFTER = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    """A lane, a provider or a session that is to be paused or resumed."""

    verb: str  #: pause or resume
    kind: str  #: lane, provider or session
    name: str
    upto: datetime


@dataclass(slots=True)
class Deed:
    """An act, and how far it is."""

    key: str
    act: Meant | Brake
    by: str  #: who asked for it
    noted: bool = False  #: what is done of it is noted: a dispatcher does it
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    total: int = 0
    done: int = 0
    passed: int = 0  #: turns that were in this state already, by this act or by somebody else
    refused: Counter[str] = field(default_factory=Counter)  #: by the code of what refused it
    error: str = ""  #: the code of what broke it off

    @property
    def actor(self) -> str:
        """Return who asked for it, as the audit log names him."""
        return f"flower:{self.by}"

    @property
    def looked_at(self) -> int:
        """Return for how many turns it is known what came of them."""
        return self.done + self.passed + self.refused.total()


class Deeds:
    """Does acts as the role that may write, which is dialled when the first one is asked for.

    Without it, what the role that may only look is allowed to ask for is noted, and a dispatcher
    sees to it: that turns are retried, or cancelled.
    """

    def __init__(self, settings: Settings, viewer: Database | None = None) -> None:
        self._settings = settings
        self._viewer = viewer
        self._executor: Executor | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="turnmill-deeds")
        self._kept: OrderedDict[str, tuple[Deed, Future[None]]] = OrderedDict()

    @property
    def can_act(self) -> bool:
        """Tell whether there is a way to do anything."""
        return self.can_brake or self._viewer is not None

    @property
    def can_brake(self) -> bool:
        """Tell whether there is a way to pause and to resume, too."""
        return self._settings.database_url.startswith("postgres")

    def begin(self, act: Meant | Brake, *, by: str) -> "tuple[Deed, Future[None]] | None":
        """Begin an act, or return the one that was begun by the same words; None: too many are."""
        key = key_of(act)
        if key in self._kept:
            return self._kept[key]
        if not self._make_room():
            return None
        deed = Deed(key=key, act=act, by=by, noted=not self.can_brake)
        self._kept[key] = deed, self._worker.submit(self._do, deed)
        return self._kept[key]

    def get(self, key: str) -> Deed | None:
        """Return an act that was begun; None for one that nobody remembers."""
        return self._kept[key][0] if key in self._kept else None

    def latest(self) -> list[Deed]:
        """Return what was done, the last one first."""
        return [deed for deed, _ in reversed(self._kept.values())]

    def _make_room(self) -> bool:
        """Forget the oldest that has ended; False where none has."""
        if len(self._kept) < MOST_KEPT:
            return True
        over = next((key for key, (deed, _) in self._kept.items() if deed.ended), None)
        if over is not None:
            del self._kept[over]
        return over is not None

    def _do(self, deed: Deed) -> None:
        try:
            with _noting(deed):
                if isinstance(deed.act, Brake):
                    deed.total = 1
                    self._brake(deed.act, deed.actor)
                    deed.done = 1
                else:
                    self._each(deed, deed.act)
        finally:
            deed.ended = datetime.now(UTC)
            _log(deed)

    def _each(self, deed: Deed, meant: Meant) -> None:
        if meant.batch is not None and meant.is_of_all and self.can_brake:
            self._move_batch(meant.verb, BatchId(meant.batch), deed.actor)
        with look(self._looks(), within=_CHOSEN_WITHIN) as (conn, _):
            chosen = choose(conn, meant)
        deed.total = len(chosen)
        for number, turn_id in enumerate(chosen, 1):
            try:
                _count(deed, _patiently(partial(self._one, meant, turn_id, deed.actor)))
            except StoreUnavailable:
                raise
            except TurnmillError as error:
                deed.refused[error.code] += 1
            if number % CHUNK == 0:
                time.sleep(_BREATH)

    def _move_batch(self, verb: Verb, batch_id: BatchId, actor: str) -> None:
        """Let no turn be made of its other lines, or let it come to another end."""
        move = batches.mark_cancelled if verb is Verb.CANCEL else batch_states.mark_running_again
        with suppress(MoveRefused):  # it was cut short: its turns may run again nevertheless
            self._opened().run(written_down(move(batch_id), actor=actor))

    def _looks(self) -> Database:
        if self._viewer is not None and not self.can_brake:
            return self._viewer
        return self._opened().database

    def _one(self, meant: Meant, turn_id: TurnId, actor: str) -> bool:
        if not self.can_brake:
            with self._looks().begin() as conn:
                return ask(conn, meant.verb, turn_id, by=actor)
        executor = self._opened()
        if meant.verb is Verb.CANCEL:
            return executor.run(acts.cancel_once(turn_id, actor=actor))
        return executor.run(acts.retry_once(turn_id, upto=meant.upto, actor=actor)) is not None

    def _brake(self, brake: Brake, actor: str) -> None:
        executor = self._opened()
        pauses = brake.verb == "pause"
        if brake.kind == "session":
            session = SessionId(UUID(brake.name))
            verb = sessions.pause if pauses else sessions.resume
            executor.run(written_down(verb(session), actor=actor))
            return
        named = {"lane": None, "provider": None, brake.kind: brake.name}
        brakes = lanes.pause(**named, force=True) if pauses else lanes.resume(**named)
        executor.run(written_down(brakes, actor=actor))

    def _opened(self) -> Executor:
        if self._executor is None:
            settings = self._settings
            self._executor = Executor.opened(
                settings, database_url=settings.database_url, broker_url=settings.broker_url
            )
        return self._executor


def key_of(act: Meant | Brake) -> str:
    """Return what tells an act from others: the same words, and the same moment."""
    said = [f"{name}={getattr(act, name)}" for name in act.__dataclass_fields__]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:24]


def _patiently(one: Callable[[], bool]) -> bool:
    """Do it, and again where another transaction was in the way or the store is away for a while.

    So it is, too, where dispatchers have yet to see to what was asked for before. That is no harm:
    what was done is not done twice.
    """
    for _ in range(_TRIES):
        try:
            return one()
        except (StoreUnavailable, SessionBusy):
            time.sleep(_AGAIN_AFTER)
    return one()


def _count(deed: Deed, was_done: bool) -> None:
    if was_done:
        deed.done += 1
    else:
        deed.passed += 1


@contextmanager
def _noting(deed: Deed) -> Iterator[None]:
    try:
        yield
    except TurnmillError as error:
        deed.error = error.code
    except Exception as error:  # noqa: BLE001
        # The edge of its thread: the page has to say that it is over.
        logger.error("an act was broken off: %s", type(error).__name__)
        deed.error = "internal_error"


def _log(deed: Deed) -> None:
    act = deed.act
    what = f"{act.kind} {act.name!r}" if isinstance(act, Brake) else f"{deed.total} turns"
    logger.info(
        "%s of %s by %r: %d %s, %d were so already, %d refused%s",
        act.verb,
        what,
        deed.by,
        deed.done,
        "noted" if deed.noted else "done",
        deed.passed,
        deed.refused.total(),
        f"; broken off: {deed.error}" if deed.error else "",
        extra={"action": f"flower_{act.verb}", "by": deed.by, "done": deed.done},
    )
