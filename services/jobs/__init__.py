"""Durable jobs: everything that takes longer than a request runs here.

Owns the `jobs` table, which is the one truth about every job: pages read it, workers claim rows
of it, and the row, its audit event and the caller's own rows are written in one transaction.
Owns the worker loop and what happens when a worker dies. Refuses to run a job twice at once, to
run more jobs of a queue than it has slots, and to know what any job does: handlers are given to
`worker.run_worker`.
"""
