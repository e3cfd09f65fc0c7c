"""Where each public name is that is loaded when it is first asked for."""

from collections.abc import Mapping

_CLIENTS = (
    *("Accounts", "Analytics", "Attachments", "Audit", "Batches", "Budgets", "Client", "Events"),
    *("Lanes", "Limits", "Participants", "Schedules", "Sessions", "Templates", "Turns", "Users"),
    "Webhooks",
)
_OF_MODULES = {
    "store.nouns.accounts": "AccountRecord",
    "store.file_records": "Attachment",
    "store.nouns.limits": "LimitRecord",
    "aio.batches": "AsyncBatch",
    "aio.turns": "AsyncTurn",
    "sync.batches": "Batch",
    "store.budget_records": "Budget",
    "tools": "Tool ToolContext ToolError tool",
    "domain.replying": "Citation FinishReason Refusal",
    "store.nouns.events": "Event EventReader",
    "settings": "Profile Settings",
    "domain.streaming": "StreamEvent StreamKind",
    "store.records": "AttemptRecord SessionRecord TurnRecord",
    "store.message_records": "MessageRecord",
    "verbs.users.erasing": "Replayed",
    "verbs.users.exporting": "UserExport",
    "verbs.users.verifying": "ErasureCheck",
    "store.deletion_records": "DeletionReport Erasure Hold SessionDeletion",
    "store.kept": "Keeping",
    "store.nouns.lanes": "LaneLoad",
    "store.compaction_records": "CompactionRecord",
    "store.line.pauses": "Pauses",
    "verbs.analytics.usage": "Report",
    "domain.analytics.report_data": "ReportData",
    "show.report.page": "report_page",
    "store.analytics.alerts": "Alert",
    "verbs.repricing": "NewPrice Repricing",
    "store.nouns.repricing": "PaidCall",
    "domain.counting": "TokenCount",
    "store.nouns.tool_calls": "ToolCallRecord",
    "sync.turns": "Turn",
    "verbs.intake": "Unchanged",
    "store.nouns.usage": "UsageRow",
    "domain.crons": "Missed",
    "store.template_records": "PutTemplate TemplateDiff TemplateRecord TemplateSync",
    "store.schedule_records": "Schedule",
    "domain.templates": "TemplateChange",
    "domain.content": "Audio File Image Message Native Part Sender Text ToolCall ToolOutput",
    "store.hook_records": "Delivery DeliveryState Webhook",
    "store.people_records": "Happened Note Participant",
    "verbs.reconciling": "Compared Reconciliation Sums",
    "store.nouns.why": "Cause Reason Why",
    "store.audit_records": "AuditBreak AuditCheck AuditEntry AuditHead",
    "store.batch_records": "BatchCounts BatchRecord BatchResult",
    "domain.batch_estimates": "BatchEstimate",
    "verbs.reply": "Reply Timing TokenUsage",
}

#: Loaded on first use: a program that only catches errors pays for no database.
PLACES: Mapping[str, str] = {
    **{name: f"turnmill.sync.{name.lower()}" for name in _CLIENTS},
    **{f"Async{name}": f"turnmill.aio.{name.lower()}" for name in _CLIENTS},
    **{name: f"turnmill.{place}" for place, names in _OF_MODULES.items() for name in names.split()},
}
