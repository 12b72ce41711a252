"""Plain Python domains of Param Console: rules, records and numbers, with no user interface.

Each package owns one subject and says in its first lines what it owns and what it refuses.
`bootstrap.build` is the only place that chooses real parts.
"""
