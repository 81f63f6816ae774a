"""Zegel: an SMTP relay that lets out only mail that may be sent."""

__version__ = "0.1.0"
