"""Every TURNMILL_* variable that anything of ours reads; any other one is a slip of somebody's."""

from collections.abc import Mapping
from difflib import get_close_matches

PREFIX = "TURNMILL_"

#: A test holds this table to the code.
VARIABLES = frozenset(
    {
        "TURNMILL_ACTOR",
        "TURNMILL_ALERTS",
        "TURNMILL_ALIVE_FILE",
        "TURNMILL_ALLOW_MOCK",
        "TURNMILL_ANALYST_URL",
        "TURNMILL_ANALYTICS_TAG",
        "TURNMILL_AUDITOR_URL",
        "TURNMILL_AUDIT_READS",
        "TURNMILL_BATCH_POLL",
        "TURNMILL_BATCH_WINDOW",
        "TURNMILL_BROKER_URL",
        "TURNMILL_CONCURRENCY",
        "TURNMILL_DATABASE_URL",
        "TURNMILL_DEFAULTS",
        "TURNMILL_ENCRYPTION",
        "TURNMILL_ENCRYPT_METADATA",
        "TURNMILL_ENCRYPT_SETTINGS",
        "TURNMILL_ENCRYPTION_KEYS",
        "TURNMILL_FETCH_FROM",
        "TURNMILL_FILES_GRACE",
        "TURNMILL_FILES_QUOTA",
        "TURNMILL_FILES_URL",
        "TURNMILL_FLOWER_AUTH",
        "TURNMILL_FLOWER_VIEWER_AUTH",
        "TURNMILL_GRACE",
        "TURNMILL_HINTS_MAX",
        "TURNMILL_HOME",
        "TURNMILL_IDLE_DAYS",
        "TURNMILL_KEEP_ARCHIVED_DAYS",
        "TURNMILL_KEEP_AUDIT_DAYS",
        "TURNMILL_KEEP_BATCHES_DAYS",
        "TURNMILL_KEEP_BACKUPS_DAYS",
        "TURNMILL_KEEP_CONTENT_DAYS",
        "TURNMILL_KEY_BACKUP_DAYS",
        "TURNMILL_KEY_STORE",
        "TURNMILL_KMS",
        "TURNMILL_LAYERS",
        "TURNMILL_LEASE",
        "TURNMILL_LISTEN_URL",
        "TURNMILL_MAX_FILE_BYTES",
        "TURNMILL_MAX_TEXT_BYTES",
        "TURNMILL_MAX_REPLY_BYTES",
        "TURNMILL_BACKGROUND_TIMEOUT",
        "TURNMILL_SCHEMA",
        "TURNMILL_MAX_UNFINISHED",
        "TURNMILL_MAX_UNFINISHED_PER_USER",
        "TURNMILL_MCP",
        "TURNMILL_METRICS_HOST",
        "TURNMILL_METRICS_PORT",
        "TURNMILL_MOCK_LATENCY",
        "TURNMILL_MOCK_LEDGER",
        "TURNMILL_MOCK_SEED",
        "TURNMILL_OBSERVERS",
        "TURNMILL_OBSERVER_TIMEOUT",
        "TURNMILL_OWNER_URL",
        "TURNMILL_PRICES",
        "TURNMILL_PRODUCER_URL",
        "TURNMILL_PROFILE",
        "TURNMILL_READY_FD",
        "TURNMILL_REDACT",
        "TURNMILL_REDACT_FILES",
        "TURNMILL_REDACT_KEY",
        "TURNMILL_REDACT_PATTERNS",
        "TURNMILL_REMOTE_CONTROL",
        "TURNMILL_REPORT_FOLDER",
        "TURNMILL_REPORT_ZONE",
        "TURNMILL_SCHEDULE_ARCHIVE_IDLE_SESSIONS",
        "TURNMILL_SCHEDULE_LOOK_FOR_ALERTS",
        "TURNMILL_SCHEDULE_MAKE_REPORT",
        "TURNMILL_SCHEDULE_FIND_TOPICS",
        "TURNMILL_SCHEDULE_POLL_BATCHES",
        "TURNMILL_SCHEDULE_PURGE",
        "TURNMILL_SCHEDULE_ROLL_UP_USAGE",
        "TURNMILL_SCHEDULE_SELF_CHECK",
        "TURNMILL_SCHEDULE_TEND_TRIALS",
        "TURNMILL_STREAM_TTL",
        "TURNMILL_STREAM_URL",
        "TURNMILL_SUPERUSER_URL",
        "TURNMILL_TAGS",
        "TURNMILL_TEMPLATES",
        "TURNMILL_TOOLS",
        "TURNMILL_TURN_TIMEOUT",
        "TURNMILL_VIEWER_URL",
        "TURNMILL_WEBHOOK_ALLOW",
    }
)

#: How like a known name another one is, from 0 to 1, to be taken for it.
_ALIKE = 0.6
_ALIKE_WITHOUT_PREFIX = 0.85


def slips(environ: Mapping[str, str]) -> list[str]:
    """Return a line on each variable that looks like ours and is read by nothing of ours."""
    return [line for name in sorted(environ) if (line := _slip(name))]


def _slip(name: str) -> str:
    upper = name.upper()
    if name in VARIABLES or not upper.startswith("TURN"):
        return ""
    ours = upper.startswith(PREFIX)
    alike = get_close_matches(
        upper, VARIABLES, n=1, cutoff=_ALIKE if ours else _ALIKE_WITHOUT_PREFIX
    )
    if alike:
        return f"{name} is read by nothing: is {alike[0]} meant?"
    return f"{name} is read by nothing of Turnmill's" if ours else ""
