"""What was spoken in a turn becomes an attachment of its user's, which the turn holds."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

from turnmill.domain.content import Audio
from turnmill.domain.errors import AttachmentRefused
from turnmill.store.file_records import AttachmentId
from turnmill.verbs.attachments import as_part
from turnmill_worker.providers import sounds
from turnmill_worker.providers.port import Request
from turnmill_worker.turn.turn_files import TurnFiles

_NAME = "reply"


class SpokenFiles:
    """Keeps speech, in one process."""

    def __init__(self, files: TurnFiles) -> None:
        self._files = files

    async def __call__(
        self, request: Request, chunks: AsyncIterator[bytes], media_type: str
    ) -> Audio:
        """Return it as a part. Raises TurnmillError where it cannot be kept."""
        kept = await self._files.keep(request, chunks, media_type=media_type, name=_NAME)
        part = as_part(kept)
        if not isinstance(part, Audio):
            raise AttachmentRefused(f"what was spoken is {kept.media_type}, which is no sound")
        return part

    async def timed(self, part: Audio) -> Audio:
        """Return a sound with its length, and note it. Raises ProviderError for a broken one."""
        if part.duration_ms:
            return part
        sound = await sounds.timed(await sounds.sound_of(self._files, part))
        if sound.duration is None:
            return part
        found = replace(part, duration_ms=round(sound.duration.total_seconds() * 1000))
        await self.measured(found)
        return found

    async def measured(self, audio: Audio) -> None:
        """Note how long it takes."""
        if audio.duration is not None:
            await self._files.measured(AttachmentId(UUID(audio.id)), audio.duration)
