"""Limits: exact across the workers of a node."""
