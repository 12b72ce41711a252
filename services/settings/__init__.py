"""Configuration, read once: the environment (`PARAM_*`) over an optional `param.toml`.

Owns every default and every environment variable; refuses values that cannot work, naming the
variable. Nothing else in the project reads the environment.
"""

from services.settings.loading import load
from services.settings.model import DEFAULT_BASE_MODEL, SECRETS, Settings

__all__ = ["DEFAULT_BASE_MODEL", "SECRETS", "Settings", "load"]
