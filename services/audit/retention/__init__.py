"""Texts of requests and answers, for tenants that ask for it: encrypted, and erased in time.

Owns the tenants' choice, the kept texts and the keys that they are encrypted with. Refuses to keep
anything of a tenant that did not choose it, and to show anything without an entry in the log. The
log itself never holds a text.
"""
