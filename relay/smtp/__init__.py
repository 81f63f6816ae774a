"""Submission: sessions on aiosmtpd, AUTH, TLS, PROXY."""
