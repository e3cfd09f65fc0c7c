"""A stand-in for OpenAI that hears and speaks, too: it refuses what the real one refuses."""

import base64
import io
import json
import re
import wave
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from mutagen.wave import WAVE
from openai.types.audio.speech_create_params import SpeechCreateParams
from openai.types.audio.transcription_create_params import TranscriptionCreateParamsBase

from tests.doubles.openai_requests import authorised, object_of
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import Call, Refused, Response, run_as_process
from tests.sounds import mp3, wav

HEARS = frozenset({"gpt-4o-mini-transcribe", "gpt-4o-transcribe", "whisper-1"})
SPEAKS = frozenset({"gpt-4o-mini-tts", "tts-1", "tts-1-hd"})
VOICES = frozenset({"alloy", "ash", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer"})
FORMATS = frozenset({"mp3", "opus", "aac", "flac", "wav", "pcm"})
BYTES_MAX = 26_214_400
SECONDS_MAX = 1500

_ENDINGS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
_BEGINNINGS = {
    "flac": (b"fLaC",),
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xe2", b"\xff\xe3"),
    "ogg": (b"OggS",),
    "wav": (b"RIFF",),
    "webm": (b"\x1aE\xdf\xa3",),
}
_SPEECH = frozenset(SpeechCreateParams.__annotations__)
_HEARD = frozenset(TranscriptionCreateParamsBase.__annotations__)


@dataclass(frozen=True, slots=True)
class Heard:
    """A sound that came in."""

    fields: dict[str, str]
    name: str
    media_type: str
    data: bytes


class AudioDouble(OpenAIDouble):
    """Hears `hears`, or how many bytes there were; speaks mp3, or what else is asked for."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.hears: str | None = None
        self.heard: list[Heard] = []
        self.spoken: list[dict[str, Any]] = []
        self.tells_usage = True  #: servers that are no OpenAI say none
        self.streams_events = True

    def routes(self) -> list[web.RouteDef]:
        return [
            *super().routes(),
            web.post("/v1/audio/transcriptions", self._through_audio(self._hear)),
            web.post("/v1/audio/speech", self._through_audio(self._speak)),
        ]

    def _through_audio(
        self, answer: Callable[[web.Request, Call], Awaitable[Response]]
    ) -> Callable[[web.Request], Awaitable[Response]]:
        async def handle(request: web.Request) -> Response:
            call = Call(
                method=request.method,
                path=request.path,
                headers=dict(request.headers),
                body=None,
                fault=self._next_fault(),
            )
            self.calls.append(call)
            self.arrived.set()
            try:
                if call.fault in self.refusals():
                    raise self.refusals()[call.fault]
                authorised(call)
                return await answer(request, call)
            except Refused as refused:
                headers = {**self.reply_headers(), **refused.headers}
                body = self.error_body(refused)
                return web.json_response(body, status=refused.status, headers=headers)

        return handle

    async def _hear(self, request: web.Request, call: Call) -> Response:
        found = await _form(request)
        _check_sound(found)
        call.body = found.fields
        self.heard.append(found)
        call.executed = True
        if call.fault == "drop":
            return _gone(request)
        text = f"heard {len(found.data)} bytes" if self.hears is None else self.hears
        payload: dict[str, Any] = {"text": text}
        if self.tells_usage:
            payload["usage"] = _usage_of(found)
        return web.json_response(payload, headers=self.reply_headers())

    async def _speak(self, request: web.Request, call: Call) -> Response:
        call.body = json.loads(await request.read())
        body = object_of(call, _SPEECH)
        _check_speech(body)
        self.spoken.append(body)
        call.executed = True
        form = body.get("response_format", "mp3")
        sound = wav(len(body["input"]) * 0.06) if form == "wav" else mp3(len(body["input"]) * 0.06)
        if body.get("stream_format") == "sse" and self.streams_events:
            return await self._events(request, call, sound, body)
        response = web.StreamResponse(
            headers={"Content-Type": f"audio/{form}", **self.reply_headers()}
        )
        return await _sent(request, response, call, [sound[:1000], sound[1000:]])

    async def _events(
        self, request: web.Request, call: Call, sound: bytes, body: dict[str, Any]
    ) -> Response:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", **self.reply_headers()}
        )
        told = len(body["input"]) // 4 + 1
        usage = {"input_tokens": told, "output_tokens": 50, "total_tokens": told + 50}
        events: list[dict[str, Any]] = [
            {"type": "speech.audio.delta", "audio": base64.b64encode(one).decode()}
            for one in (sound[:1000], sound[1000:])
        ]
        if call.fault != "stream_cut":
            events.append({"type": "speech.audio.done", "usage": usage})
        return await _sent(
            request, response, call, [f"data: {json.dumps(one)}\n\n".encode() for one in events]
        )


async def _sent(
    request: web.Request, response: web.StreamResponse, call: Call, pieces: list[bytes]
) -> Response:
    await response.prepare(request)
    for n, piece in enumerate(pieces):
        if n and call.fault == "drop":
            return _gone(request)
        await response.write(piece)
    await response.write_eof()
    return response


def _gone(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _form(request: web.Request) -> Heard:
    if not request.content_type == "multipart/form-data":
        raise Refused(400, "", "Expected multipart/form-data.", param="file")
    given = await request.post()
    file = given.get("file")
    if not isinstance(file, web.FileField):
        raise Refused(400, "", "Missing required parameter: 'file'.", param="file")
    fields = {name: str(value) for name, value in given.items() if isinstance(value, str)}
    return Heard(fields, file.filename, file.content_type, file.file.read())


def _check_sound(found: Heard) -> None:
    fields = found.fields
    if unknown := set(fields) - _HEARD:
        raise Refused(400, "unknown_parameter", f"Unknown parameter: '{min(unknown)}'.")
    if "model" not in fields:
        raise Refused(400, "", "you must provide a model parameter")
    if fields["model"] not in HEARS:
        raise Refused(404, "model_not_found", "The model does not exist.", param="model")
    if len(found.data) > BYTES_MAX:
        raise Refused(413, "", f"Maximum content size limit ({BYTES_MAX}) exceeded")
    ending = found.name.rpartition(".")[2]
    if ending not in _ENDINGS:
        raise Refused(400, "", f"Invalid file format. Supported formats: {list(_ENDINGS)}")
    if not found.data.startswith(_BEGINNINGS.get(ending, (b"",))):
        raise Refused(
            400, "", "The audio file could not be decoded or its format is not supported."
        )
    _check_fields(found, ending)


def _check_fields(found: Heard, ending: str) -> None:
    fields = found.fields
    language = fields.get("language", "en")
    if not re.fullmatch("[a-z]{2,3}", language):
        raise Refused(400, "invalid_language_format", "Invalid language.", param="language")
    is_whisper = fields["model"].startswith("whisper")
    if not is_whisper and fields.get("response_format", "json") not in ("json", "text"):
        raise Refused(400, "unsupported_value", "response_format is not compatible with model")
    if not is_whisper and ending == "wav" and _seconds(found.data) > SECONDS_MAX:
        raise Refused(400, "invalid_value", f"audio duration is longer than {SECONDS_MAX} seconds")


def _check_speech(body: dict[str, Any]) -> None:
    for name in ("model", "input", "voice"):
        if not isinstance(body.get(name), str) or not body[name]:
            raise Refused(400, "", f"Missing required parameter: '{name}'.", param=name)
    if body["model"] not in SPEAKS:
        raise Refused(404, "model_not_found", "The model does not exist.", param="model")
    if len(body["input"]) > 4096:
        raise Refused(400, "string_too_long", "String should have at most 4096 characters")
    if body["voice"] not in VOICES:
        raise Refused(400, "invalid_value", "Invalid value for 'voice'.", param="voice")
    if body.get("response_format", "mp3") not in FORMATS:
        raise Refused(400, "invalid_value", "Invalid response_format.", param="response_format")
    if body.get("stream_format") == "sse" and body["model"].startswith("tts"):
        raise Refused(400, "unsupported_value", "sse is not supported for this model.")


def _usage_of(found: Heard) -> dict[str, Any]:
    seconds = _seconds(found.data) if found.name.endswith("wav") else 3.0
    if found.fields["model"].startswith("whisper"):
        return {"type": "duration", "seconds": round(seconds)}
    heard = max(round(seconds * 10), 1)
    return {
        "type": "tokens",
        "input_tokens": heard + 4,
        "input_token_details": {"text_tokens": 4, "audio_tokens": heard},
        "output_tokens": 12,
        "total_tokens": heard + 16,
    }


def _seconds(data: bytes) -> float:
    try:
        with wave.open(io.BytesIO(data), "rb") as opened:
            return opened.getnframes() / opened.getframerate()
    except wave.Error:  # packed, as telephones do
        found: Any = WAVE(io.BytesIO(data))  # type: ignore[no-untyped-call]
        return float(found.info.length)


if __name__ == "__main__":
    run_as_process(AudioDouble)
