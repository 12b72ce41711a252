"""What each arm of a rollout answered, one row a request, and what people thought of it.

Owns the rows that verdicts are made from. Refuses feedback on answers of somebody else.
"""
