"""Data that should not leave by mail (rulebook section 15): detectors, and what they found. Nothing of a match is kept.

`relay.mail.leaks.inspect.inspect` looks at one file, `relay.mail.leaks.inspect.inspect_message` at a whole mail.
"""
