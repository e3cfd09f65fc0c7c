"""Providers: one module each for mock, OpenAI and Anthropic; others come by entry point."""
