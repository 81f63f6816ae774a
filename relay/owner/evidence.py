async def gather_evidence(r, names): return {}
