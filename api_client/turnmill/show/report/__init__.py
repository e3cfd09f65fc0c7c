"""A report as a page of HTML that needs nothing else, as JSON, and as lines of a table."""
