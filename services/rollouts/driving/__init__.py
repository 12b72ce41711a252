"""The driver: the one process at a time that moves a rollout by its policy.

Owns plans, leases, what was captured for a rollback, verdicts and signed steps. Refuses to move
what another driver holds, and to go forward without a verdict.
"""
