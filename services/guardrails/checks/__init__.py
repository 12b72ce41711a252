"""The checks, one module each; `services.guardrails.guard` puts those of a policy together."""
