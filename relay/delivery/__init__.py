"""Delivery: claim, render, sign, send, record."""
