"""MCP servers as a source of tools: which there are, and how each is reached and called."""
