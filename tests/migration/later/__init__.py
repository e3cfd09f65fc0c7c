"""The migrations of a later version, as the tests imagine it."""

from turnmill.store.schema.revision import HEAD

#: The newest revision of today, also where a test lets the code know of later ones.
TODAY = HEAD
