"""What was tried in a week that never was."""

from turnmill.domain.analytics.report_data import ComparedLine, MeasuredLine


def trials(named: object) -> list[ComparedLine]:
    """Return a trial, by the next of these names or one of its own."""
    figures = [
        MeasuredLine(of="cost_usd", before=0.021, after=0.003, low=-0.0194, high=-0.0166),
        MeasuredLine(of="latency_ms", before=5200, after=2400, low=-3100, high=-2500),
    ]
    return [
        ComparedLine(
            name=next(named, "mini in november"),  # type: ignore[call-overload]
            before="openai/gpt-5.2",
            after="openai/gpt-5.2-mini, temperature = 0.2",
            turns=200,
            users=143,
            agreement=0.94,
            agreement_low=0.903,
            agreement_high=0.967,
            figures=figures,
        )
    ]


def experiments() -> list[ComparedLine]:
    """Return an experiment that is over, and one that begins."""
    figures = [
        MeasuredLine(of="cost_usd", before=0.017, after=0.0043, low=-0.0141, high=-0.0113),
        MeasuredLine(of="latency_seconds", before=4.1, after=3.8, low=-0.9, high=0.3),
        MeasuredLine(of="failures", before=0.012, after=0.014, low=None, high=None),
        MeasuredLine(of="feedback", before=0.41, after=0.38, low=-0.09, high=0.03),
    ]
    return [
        ComparedLine(
            name="haiku",
            before="helpdesk",
            after="anthropic/claude-haiku-4.5",
            turns=1840,
            users=310,
            figures=figures,
        ),
        ComparedLine(
            name="shorter", after="max_tokens = 400", before="summaries", turns=0, users=0
        ),
    ]
