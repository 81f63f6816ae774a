"""The queue: durable before 250, encrypted at rest."""
