"""The `zegel` command."""
