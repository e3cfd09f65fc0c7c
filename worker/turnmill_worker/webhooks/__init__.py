"""Webhooks: events sent to addresses that applications have named, signed, for a day if need be."""
