"""Commands that administrators, auditors and timers type."""
