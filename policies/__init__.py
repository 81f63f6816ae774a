"""The rules of the house, one file each: `decide(mail, facts, settings) -> Verdict`."""
