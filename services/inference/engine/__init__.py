"""The embedded engine: one base model, many LoRA adapters, the HTTP interface of vLLM.

Owns generation on the CPU for one machine without set-up: tokens, sampling, the fair queue,
adapters in PEFT's format, and the endpoints that the gateway and the console speak to. Refuses
what vLLM would refuse, with its status codes, and what it would have to ignore. Runs as a
process of its own: `python -m services.inference.engine`. Where a GPU is, vLLM takes its place.
"""
