"""The whole system on one machine, its real parts under one supervisor."""
