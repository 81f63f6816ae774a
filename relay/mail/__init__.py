"""Message vocabulary and formats. Pure: no await, no I/O, no clock, no randomness."""
