"""How a request can fail, by what is known of it then."""


class Failure(Exception):
    """No answer, and why."""


class NotConnected(Failure):
    """No connection came about: nothing has left."""


class ConnectTimeout(NotConnected):
    """No connection came about in time: nothing has left."""


class HungUp(Failure):
    """The server went away without an answer; it may have executed the request."""


class TimedOut(Failure):
    """No answer in time; it may be on its way."""


class CutShort(Failure):
    """The answer, or a stream in it, ends before its end."""


class Malformed(Failure):
    """Something came that is no HTTP."""


class WrongLength(Failure):
    """What was to be sent is not as long as was said: not all of it has left."""


class TooLarge(Failure):
    """More comes than was allowed."""
