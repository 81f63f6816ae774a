"""What an operator sets: typed, with units, unknown keys refused."""
