"""Supervisor, workers and the control socket."""
