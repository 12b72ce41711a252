"""Guardrails: what may go into a model and what may come out of it.

Owns the policies of the tenants (YAML, versioned) and the checks that they name. A policy is
compiled once; a compiled one reads a text in one pass and looks closer only where something was
found. Patterns are RE2's, so no text can make a check slow. Refuses to guess: a policy that names
an unknown check, action or field is no policy, and a check that fails stops the request.
"""
