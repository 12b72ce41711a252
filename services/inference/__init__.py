"""Base models and the engines that answer with them.

Owns the store of base models, the embedded engine (transformers + PEFT, its own process), the
command line of real vLLM, and the one client through which everything else speaks to either.
Refuses a base model or an adapter whose bytes are not those that its name promises. torch is
imported only under `engine/` and in `convert.py`, never by what a page may reach.
"""
