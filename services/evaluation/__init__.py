"""Evaluation: is an adapter better than its base, and how sure can we be?

Owns the scoring of held-out pairs by base and adapter, their answers side by side, neutral text,
lm-eval's local tasks and the judge's preference, the paired statistics, the verdict, the comparison
of several adapters, and the gate that a promotion must pass with each tenant's policy for it.
Refuses to score an adapter whose bytes are not those of its name, to count pairs that the adapter
has learned from, to call anything better on too few pairs, and to take what was not measured for
good. What pages import from here loads no torch: that happens in the child process only (`score`).
"""
