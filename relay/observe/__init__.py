"""Logs, metrics and health: catalogues, declared once."""
