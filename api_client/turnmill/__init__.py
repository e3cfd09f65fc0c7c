"""Turnmill takes LLM conversation turns off an application's hands.

from turnmill import Client

client = Client.from_env()
session = client.sessions.create(user_id="ada", provider="mock", model="mock")
turn = client.send(session, "Hello")
print(turn.result(timeout=60).text)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from turnmill.domain import errors as _errors
from turnmill.domain.errors import *  # noqa: F403  every error is public
from turnmill.domain.states import (
    Effects,
    EventKind,
    Lane,
    OnAmbiguous,
    OnFailure,
    ParticipantRole,
    Running,
    SessionStatus,
    ToolCallState,
    TurnState,
)
from turnmill.exports import PLACES

if TYPE_CHECKING:
    from turnmill.aio.accounts import AsyncAccounts
    from turnmill.aio.analytics import AsyncAnalytics
    from turnmill.aio.attachments import AsyncAttachments
    from turnmill.aio.audit import AsyncAudit
    from turnmill.aio.batches import AsyncBatch, AsyncBatches
    from turnmill.aio.budgets import AsyncBudgets
    from turnmill.aio.client import AsyncClient
    from turnmill.aio.events import AsyncEvents
    from turnmill.aio.experiments import AsyncExperiments
    from turnmill.aio.lanes import AsyncLanes
    from turnmill.aio.limits import AsyncLimits
    from turnmill.aio.participants import AsyncParticipants
    from turnmill.aio.schedules import AsyncSchedules
    from turnmill.aio.sessions import AsyncSessions
    from turnmill.aio.templates import AsyncTemplates
    from turnmill.aio.trials import AsyncTrials
    from turnmill.aio.turns import AsyncTurn, AsyncTurns
    from turnmill.aio.users import AsyncUsers
    from turnmill.aio.webhooks import AsyncWebhooks
    from turnmill.domain.analytics.behaving import Behaviour
    from turnmill.domain.analytics.differences import Difference, Proportion
    from turnmill.domain.analytics.intervals import Interval
    from turnmill.domain.analytics.report_data import ReportData
    from turnmill.domain.analytics.satisfaction import (
        FeedbackGiven,
        Satisfaction,
        SatisfactionEstimate,
    )
    from turnmill.domain.analytics.satisfaction_model import EstimateQuality
    from turnmill.domain.analytics.suggesting.findings import (
        Finding,
        Improvement,
        Suggestion,
        SuggestionRule,
    )
    from turnmill.domain.analytics.windows import Window
    from turnmill.domain.batch_estimates import BatchEstimate
    from turnmill.domain.content import (
        Audio,
        File,
        Image,
        Message,
        Native,
        Part,
        Sender,
        Text,
        ToolCall,
        ToolOutput,
    )
    from turnmill.domain.counting import TokenCount
    from turnmill.domain.crons import Missed
    from turnmill.domain.replying import Citation, FinishReason, Refusal
    from turnmill.domain.streaming import StreamEvent, StreamKind
    from turnmill.domain.templates import TemplateChange
    from turnmill.settings import Profile, Settings
    from turnmill.show.report.page import report_page
    from turnmill.store.analytics.alerts import Alert
    from turnmill.store.analytics.behaviours import BehaviourCluster
    from turnmill.store.analytics.conversations import (
        Latencies,
        Lengths,
        ModelUsage,
        Spent,
        TurnCounts,
    )
    from turnmill.store.analytics.experiments import ArmOf
    from turnmill.store.analytics.figures import Totals
    from turnmill.store.analytics.spans import Spread
    from turnmill.store.analytics.topics import SessionTopic, Topic
    from turnmill.store.analytics.usage import UsageRow
    from turnmill.store.audit_records import AuditBreak, AuditCheck, AuditEntry, AuditHead
    from turnmill.store.batch_records import BatchCounts, BatchRecord, BatchResult
    from turnmill.store.budget_records import Budget
    from turnmill.store.compaction_records import CompactionRecord
    from turnmill.store.deletion_records import DeletionReport, Erasure, ErasureReport, Hold
    from turnmill.store.feedback_records import Feedback
    from turnmill.store.file_records import Attachment
    from turnmill.store.hook_records import Delivery, DeliveryState, Webhook
    from turnmill.store.kept import Keeping
    from turnmill.store.line.pauses import Pauses
    from turnmill.store.message_records import MessageRecord
    from turnmill.store.nouns.accounts import AccountRecord
    from turnmill.store.nouns.events import Event, EventReader
    from turnmill.store.nouns.lanes import LaneLoad
    from turnmill.store.nouns.limits import LimitRecord
    from turnmill.store.nouns.repricing import PaidCall
    from turnmill.store.nouns.tool_calls import ToolCallRecord
    from turnmill.store.nouns.why import Cause, Reason, Why
    from turnmill.store.people_records import Happened, Note, Participant
    from turnmill.store.records import SessionRecord
    from turnmill.store.schedule_records import Schedule
    from turnmill.store.template_records import (
        PutTemplate,
        TemplateDiff,
        TemplateRecord,
        TemplateSync,
    )
    from turnmill.store.trial_records import (
        ArmFigures,
        ExperimentRecord,
        ExperimentResult,
        TrialEstimate,
        TrialRecord,
        TrialResult,
        TrialSide,
        TrialSummary,
    )
    from turnmill.store.turn_records import AttemptRecord, TurnRecord
    from turnmill.sync.accounts import Accounts
    from turnmill.sync.analytics import Analytics
    from turnmill.sync.attachments import Attachments
    from turnmill.sync.audit import Audit
    from turnmill.sync.batches import Batch, Batches
    from turnmill.sync.budgets import Budgets
    from turnmill.sync.client import Client
    from turnmill.sync.events import Events
    from turnmill.sync.experiments import Experiments
    from turnmill.sync.lanes import Lanes
    from turnmill.sync.limits import Limits
    from turnmill.sync.participants import Participants
    from turnmill.sync.schedules import Schedules
    from turnmill.sync.sessions import Sessions
    from turnmill.sync.templates import Templates
    from turnmill.sync.trials import Trials
    from turnmill.sync.turns import Turn, Turns
    from turnmill.sync.users import Users
    from turnmill.sync.webhooks import Webhooks
    from turnmill.tools import Tool, ToolContext, ToolError, tool
    from turnmill.verbs.analytics.conversations import SessionMetrics, UserInsights
    from turnmill.verbs.analytics.topics import Topics
    from turnmill.verbs.analytics.usage import Report
    from turnmill.verbs.intake import Unchanged
    from turnmill.verbs.reconciling import Compared, Reconciliation, Sums
    from turnmill.verbs.reply import Reply, Timing, TokenUsage
    from turnmill.verbs.repricing import NewPrice, Repricing
    from turnmill.verbs.users.erasing import Replayed
    from turnmill.verbs.users.exporting import UserExport
    from turnmill.verbs.users.verifying import ErasureCheck

__all__ = [
    "AccountRecord",
    "Accounts",
    "Alert",
    "Analytics",
    "ArmFigures",
    "ArmOf",
    "AsyncAccounts",
    "AsyncAnalytics",
    "AsyncAttachments",
    "AsyncAudit",
    "AsyncBatch",
    "AsyncBatches",
    "AsyncBudgets",
    "AsyncClient",
    "AsyncEvents",
    "AsyncExperiments",
    "AsyncLanes",
    "AsyncLimits",
    "AsyncParticipants",
    "AsyncSchedules",
    "AsyncSessions",
    "AsyncTemplates",
    "AsyncTrials",
    "AsyncTurn",
    "AsyncTurns",
    "AsyncUsers",
    "AsyncWebhooks",
    "Attachment",
    "Attachments",
    "AttemptRecord",
    "Audio",
    "Audit",
    "AuditBreak",
    "AuditCheck",
    "AuditEntry",
    "AuditHead",
    "Batch",
    "BatchCounts",
    "BatchEstimate",
    "BatchRecord",
    "BatchResult",
    "Batches",
    "Behaviour",
    "BehaviourCluster",
    "Budget",
    "Budgets",
    "Cause",
    "Citation",
    "Client",
    "CompactionRecord",
    "Compared",
    "DeletionReport",
    "Delivery",
    "DeliveryState",
    "Difference",
    "Effects",
    "Erasure",
    "ErasureCheck",
    "ErasureReport",
    "EstimateQuality",
    "Event",
    "EventKind",
    "EventReader",
    "Events",
    "ExperimentRecord",
    "ExperimentResult",
    "Experiments",
    "Feedback",
    "FeedbackGiven",
    "File",
    "Finding",
    "FinishReason",
    "Happened",
    "Hold",
    "Image",
    "Improvement",
    "Interval",
    "Keeping",
    "Lane",
    "LaneLoad",
    "Lanes",
    "Latencies",
    "Lengths",
    "LimitRecord",
    "Limits",
    "Message",
    "MessageRecord",
    "Missed",
    "ModelUsage",
    "Native",
    "NewPrice",
    "Note",
    "OnAmbiguous",
    "OnFailure",
    "PaidCall",
    "Part",
    "Participant",
    "ParticipantRole",
    "Participants",
    "Pauses",
    "Profile",
    "Proportion",
    "PutTemplate",
    "Reason",
    "Reconciliation",
    "Refusal",
    "Replayed",
    "Reply",
    "Report",
    "ReportData",
    "Repricing",
    "Running",
    "Satisfaction",
    "SatisfactionEstimate",
    "Schedule",
    "Schedules",
    "Sender",
    "SessionMetrics",
    "SessionRecord",
    "SessionStatus",
    "SessionTopic",
    "Sessions",
    "Settings",
    "Spent",
    "Spread",
    "StreamEvent",
    "StreamKind",
    "Suggestion",
    "SuggestionRule",
    "Sums",
    "TemplateChange",
    "TemplateDiff",
    "TemplateRecord",
    "TemplateSync",
    "Templates",
    "Text",
    "Timing",
    "TokenCount",
    "TokenUsage",
    "Tool",
    "ToolCall",
    "ToolCallRecord",
    "ToolCallState",
    "ToolContext",
    "ToolError",
    "ToolOutput",
    "Topic",
    "Topics",
    "Totals",
    "TrialEstimate",
    "TrialRecord",
    "TrialResult",
    "TrialSide",
    "TrialSummary",
    "Trials",
    "Turn",
    "TurnCounts",
    "TurnRecord",
    "TurnState",
    "Turns",
    "Unchanged",
    "UsageRow",
    "UserExport",
    "UserInsights",
    "Users",
    "Webhook",
    "Webhooks",
    "Why",
    "Window",
    "report_page",
    "tool",
]
__all__ += _errors.__all__

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the clients, and what they return, when they are first asked for."""
    if name not in PLACES:
        raise AttributeError(f"module 'turnmill' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
