"""The HTTP edge: an OpenAI-compatible API whose every answer is limited, metered, recorded and signed.

Owns the way of a request: key, tenant, limits, alias, arm, engine, then one transaction with
usage row, audit record and receipt, and only then the last bytes of the answer. Refuses to answer
when the record cannot be made durable, and never tells an unknown name from a foreign one.

The hot route (`chat`) is plain ASGI on connections of its own (`wire`) and orjson; FastAPI serves the
rest (`endpoints`).
"""
