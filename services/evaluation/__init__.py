"""Evaluation: is an adapter better than its base, and how sure can we be?

Owns the scoring of held-out pairs by base and adapter, their answers side by side, the paired
statistics, the verdict, and the gate that a promotion must pass. Refuses to score an adapter
whose bytes are not those of its name, to count pairs that the adapter has learned from, and to
call anything better on too few pairs. What pages import from here loads no torch: that happens
in the child process only (`score`).
"""
