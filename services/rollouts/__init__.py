"""Rollouts: by which degrees the users of an alias move from one adapter to the next.

Owns the canary state machine, its append-only steps, and the rule by which a user lands on an
arm. Refuses a second open rollout of one alias, an adapter of another tenant or alias, a share
outside 0 to 100 %, and a promotion past a failed gate without a reason.
"""
