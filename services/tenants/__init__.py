"""Tenants, people and keys: who may do what, and where.

Owns tenants and their limits, users and roles, sign-in sessions, API keys (stored hashed), and
which adapter an alias means. Holds the one scope function through which every read and write of
tenant data goes. Refuses everything that no role grants.
"""
