"""How wide the door is: bounds on what callers hand in, each of which every reader can hold."""

from datetime import UTC, datetime, timedelta
from types import MappingProxyType

#: Of ids, keys and names, in characters; no character has more bytes than this in UTF-8.
NAME_LENGTH = 200
BYTES_PER_CHARACTER = 4

#: Of metadata and settings. Readers recurse: some of them give up below a hundred.
JSON_BYTES = 100_000
JSON_DEPTH = 32
#: Of JSON in rows, whoever wrote them: deeper than this is not shown to anybody.
READABLE_DEPTH = 200
#: Of a whole number in JSON, signed or not. Beyond it, readers lose digits or refuse.
JSON_BITS = 64
#: What Postgres may take for it: a number of two characters has up to twelve bytes there.
JSON_STORED_BYTES = 1_000_000

#: Of due and expiry times: every reader holds them, in any time zone, and a century more.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9000, 1, 1, tzinfo=UTC)

SHORTEST_IDLE = timedelta(seconds=1)
LONGEST_IDLE = timedelta(days=36_500)

MOST_ATTEMPTS = 100
#: Of what one statement carries: Postgres takes 256 MB of JSON, and both sides hold it whole.
STATEMENT_BYTES = 32_000_000
#: Of one page of a listing.
MOST_ROWS = 10_000
#: Of the history that a session is created with.
MOST_HISTORY = 10_000
#: Of one `send_many`; a batch file has no such bound.
MOST_MESSAGES = 100_000
MOST_DAYS = 3_660

LONGEST_WAIT = timedelta(days=366)
#: Between two attempts, whoever asks for it.
LONGEST_DELAY = timedelta(days=366)

#: Of one call to a provider, as the setting `timeout` says it.
SHORTEST_TIMEOUT = timedelta(milliseconds=10)
LONGEST_TIMEOUT = timedelta(hours=24)

#: Layers that a worker may have, and a session may choose; and how their names read.
MOST_LAYERS = 32
LAYER_NAME = "[a-z][a-z0-9_-]{0,39}"

#: Observers that a worker may have; their names read as those of layers do.
MOST_OBSERVERS = 16

#: Settings that speak to Turnmill, whatever the vendor, and what they may be.
SETTING_CHOICES = MappingProxyType(
    {
        "thread": ("chain", "client", "conversation"),
        "api": ("responses", "chat"),
        "on_context_full": ("error", "truncate", "summarise"),
        "prompt_cache": ("on", "off", "1h"),
        "uploads": ("auto", "always", "never"),
        "pictures": ("as_is", "fit"),
        "names": ("prefix", "field", "none"),
        "reply_as": ("text", "audio"),
        "audio": ("transcribe", "native"),
        "audio_format": ("mp3", "wav", "opus", "flac"),
    }
)

#: Settings that say how sounds are heard, and how a turn is answered by one.
VOICE_SETTINGS = frozenset(
    {
        *("audio", "audio_format", "audio_model", "keep_audio", "reply_as", "transcribe"),
        *("voice", "voice_language"),
    }
)

#: Of one session.
MOST_PARTICIPANTS = 1000

#: Tools of a session, and how their names read: what all vendors take.
MOST_TOOLS = 128
TOOL_NAME = "[a-zA-Z0-9_-]{1,64}"
#: Of the JSON schema of one tool's arguments, or of a reply.
SCHEMA_BYTES = 50_000
MOST_TOOL_ROUNDS = 1000
#: For so long a tool's output, or somebody's approval, is waited for.
SHORTEST_EXPIRY = timedelta(milliseconds=10)
LONGEST_EXPIRY = timedelta(days=366)
#: Of the words in which somebody refuses a call.
REFUSAL_BYTES = 4000
#: Parts of one message.
MOST_PARTS = 1000
#: Of those, that refer to files.
MOST_ATTACHMENTS = 20
#: Of a session, beside its own provider and model.
MOST_TARGETS = 8
#: Steps of a turn that call tools, unless the session's setting `max_tool_rounds` says otherwise.
MAX_TOOL_ROUNDS = 16

#: How the names of templates read, and how many variables and opening messages one has.
TEMPLATE_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
MOST_VARIABLES = 100
MOST_OPENING = 50
#: Of the templates in a folder, and of one file.
MOST_TEMPLATE_FILES = 1000
TEMPLATE_FILE_BYTES = 1_500_000

#: Of what somebody says of a reply, beside a number.
COMMENT_BYTES = 10_000
#: A topic is shown where so many users have talked about it, and a word where so many have said it.
TOPIC_USERS = 5
#: Sessions that are read for topics in one night, and of each the first messages of its user.
TOPIC_SESSIONS = 20_000
TOPIC_MESSAGES = 20
TOPIC_CHARACTERS = 4000
