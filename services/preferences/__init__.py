"""Preference pairs: prompts, two answers each, and what was decided about them.

Owns prompts, responses and their versions, votes, decisions, imports, and the frozen data sets
that runs train on. A row names responses by id, never by a side. Refuses to change or delete any
of it: a new version, a new vote, a new decision is a new row, and so is taking one back. Refuses
rows that cannot teach anything (identical or empty answers) and files it cannot tell.
"""
