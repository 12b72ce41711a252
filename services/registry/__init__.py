"""The registry: which adapters exist, what they are made of, and which one is the champion.

Owns the folder of adapters (one folder each, under an immutable name that ends in its digest),
the rows that tie an adapter to its run, its dataset and its base model, and their mirror in
MLflow's model registry. Refuses to change an adapter, to register other bytes under a name that
exists, and names that could leave the folder.
"""
