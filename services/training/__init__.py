"""Training runs: preference pairs in, one LoRA adapter out.

Owns what a DPO run is told (and the range of every number in it), the run's folder, the child
process that trains, its supervision by the worker, and the curves that pages draw. Refuses a
specification with an unknown or impossible field before anything is queued, a second process for
one run, and the resumption of a run whose data or specification changed. Nothing that a page
imports from here loads torch: `service`, `models` and `folder` are plain Python; `recipe` is
loaded by the child process only.
"""
