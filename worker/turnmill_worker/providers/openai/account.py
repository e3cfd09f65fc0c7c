"""The account at OpenAI that a worker's environment names: for what is said, heard and spoken."""

from openai import AsyncOpenAI

from turnmill_worker.providers.keys import key_in, value_in


def sdk_from_env() -> AsyncOpenAI:
    """Read OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID and OPENAI_PROJECT_ID.

    Raises KeyMissing. Calls are tried again by us alone.
    """
    return AsyncOpenAI(
        api_key=key_in("OPENAI_API_KEY"),
        base_url=value_in("OPENAI_BASE_URL"),
        organization=value_in("OPENAI_ORG_ID"),
        project=value_in("OPENAI_PROJECT_ID"),
        max_retries=0,
    )
