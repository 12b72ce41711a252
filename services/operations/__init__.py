"""Gateways as those see them who keep them running: state, drain, and who may fall back.

Owns the admin token, the client of the gateway's admin endpoints, and each tenant's switch that
lets a second engine answer while the installation's own fails. Knows nothing of content.
"""
