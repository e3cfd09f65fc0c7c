"""Where the bytes of attachments lie, and what is let in there."""
