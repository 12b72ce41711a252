"""Alerts: who outside hears of what became of a rollout, and who outside may call it back.

Owns the outbox of alerts and the way in for alerts of others. A sink that does not answer delays
nothing: it is tried again for a day, ever less often, and then given up by name.
"""
