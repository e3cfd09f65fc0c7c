"""OpenAI, and servers that speak its APIs."""
