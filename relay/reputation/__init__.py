"""What became of a sender's mail, and how he stands for it (REP-1, REP-2, THROTTLE-8)."""
