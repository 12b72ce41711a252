"""Clusters: one connection to a Kubernetes API server, and changes that prove themselves.

Owns the official client (imported when a cluster is first spoken to), the words in which the
server's refusals reach people, the reading of schemas from the cluster, and the way of a change:
schema check, dry run, JSON Patch with `test` operations, evidence. Refuses a change of an object
that is no longer the one that was read, and believes no status 200: what a field became is read
back. Knows nothing of rollouts or training.
"""
