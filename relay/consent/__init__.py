"""The consent ledger: append-only events, present state, suppression, tokens."""
