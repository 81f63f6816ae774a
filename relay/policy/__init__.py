"""The decision machinery: verdicts, facts, pipeline. Pure."""
