"""Pages and API: opt-out, rules explained, captured mail, /api/v1."""
