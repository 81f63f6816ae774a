"""What a regulator asks about prepared people: what happened to each is a file, and so is the whole answer, byte for byte.

`subjects/NAME.toml` is a life: steps with their time, mails with what became of them. `answers/NAME.json` is what `zegel
consent proof --json` prints, `answers/NAME.html` the body of the page. After a change that is meant:
`python -m tests.regulator.write`, and read what it wrote.
"""
