"""DKIM signing by byte-exact canonical forms (RFC 6376)."""
