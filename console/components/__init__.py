"""Widgets that several pages share: drawn alike everywhere, escaping what is not ours."""
