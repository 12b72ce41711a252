"""Receipts: signed statements of which model gave which answer, that anyone can check offline.

Owns the signing keys and their rotation, the envelope (DSSE), the inference receipt and its
strict reader, and the signed notes of audit checkpoints. Refuses keys that others can read,
evidence that is not exactly in its form, and to claim more than a signature shows: every
verification names what it does not establish.
"""
