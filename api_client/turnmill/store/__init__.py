"""The only SQL of Turnmill: functions on a Connection, whose transaction the caller owns."""
