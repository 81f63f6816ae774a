"""Benchmarks: the gateway and what a user would assemble instead, on the same machine in the same run. See README.md."""
