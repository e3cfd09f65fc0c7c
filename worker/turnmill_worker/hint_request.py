"""A message that the broker forgets when it hands it out: nothing is left to acknowledge."""

from celery.worker.request import Request


class HintRequest(Request):
    """For tasks whose queues are declared `no_ack`: `@app.task(Request=…)`.

    A Redis broker keeps a second copy of each message until it is acknowledged. Where rows say what
    is to be done, that copy saves nobody anything, and writing and removing it costs more CPU than
    all else that Celery does for a message. Celery acknowledges whatever the queue says; this does
    not. Never use it with a queue that is acknowledged: its messages would come back.
    """

    def acknowledge(self) -> None:
        """Count as acknowledged, without a word to the broker."""
        self.acknowledged = True
