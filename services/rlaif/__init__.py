"""Preference pairs by AI feedback: candidates from the tenant's own engine, judged in both orders.

Owns the rubric, the judge's client, runs with their prompts, candidates, calls and batches, what
they cost, and the cap on it. Refuses to spend beyond the cap, to ask for the same judgment twice,
and to guess: a verdict that cannot be read is kept as what it is, and decides nothing.
"""
