"""The audit log: what was done, by whom, in one order that nobody can change unseen.

Owns the outbox into which every change writes one event in its own transaction, the
append-only log with its hash tree, verification and export. Refuses to change or delete an
entry. Digests are recorded, never prompts or answers.
"""

from services.audit.outbox import record

__all__ = ["record"]
