"""What operators look at: bounded reads of columns that hold no content, and what they do by many.

Postgres only. Everything here but `acts` can be read as the viewer's role: see `schema.roles`.
"""
