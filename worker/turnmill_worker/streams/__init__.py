"""Publishing replies while they come: from a provider's `emit` to whatever carries streams."""
