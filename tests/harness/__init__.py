"""The real gateway for tests: supervisor, workers and web process as they run in production, on loopback and in tmp_path."""
