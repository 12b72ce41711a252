"""What people may be called: slugs, usernames, passwords, and how they are generated."""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata

from services.errors import InvalidInput

MIN_PASSWORD_CHARS = 10
MAX_PASSWORD_CHARS = 256
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?")
_ALIAS = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_TURKISH = str.maketrans("ıİşŞğĞüÜöÖçÇ", "iissgguuoocc")
# Without 0, 1, i, l, o: read aloud and typed from paper without doubt; 31 characters.
_READABLE = "23456789abcdefghjkmnpqrstuvwxyz"


def pseudonym(tenant_id: str, actor_id: str) -> str:
    """A name for a person that tells one from another and nobody who it is."""
    digest = hashlib.sha256(f"param.annotator.v1|{tenant_id}|{actor_id}".encode())
    return digest.hexdigest()[:12]


def slug(name: str) -> str:
    """A tenant id made from a name, Turkish and accented letters folded to ASCII.

    Raises:
        InvalidInput: No letter or digit is left.
    """
    folded = unicodedata.normalize("NFKD", name.translate(_TURKISH)).casefold()
    plain = "".join(mark for mark in folded if not unicodedata.combining(mark))
    found = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].strip("-")
    if not found:
        raise InvalidInput(f"tenant name: expected a letter or digit, found {name[:80]!r}").because(
            "letter_needed", field="tenant_name"
        )
    return found


def checked_tenant_id(tenant_id: str) -> str:
    """The id itself, if it is a slug.

    Raises:
        InvalidInput: It is not.
    """
    if not _SLUG.fullmatch(tenant_id):
        raise InvalidInput(
            f"tenant id: expected 1 to 48 of a-z, 0-9 and inner hyphens, found {tenant_id[:80]!r}"
        ).because("tenant_id_form", found=tenant_id[:80])
    return tenant_id


def checked_alias(alias: str) -> str:
    """The alias itself, if it can be one.

    Raises:
        InvalidInput: It cannot.
    """
    if not _ALIAS.fullmatch(alias):
        raise InvalidInput(
            f"alias: expected 1 to 64 of a-z, 0-9, dot, hyphen and underscore, found {alias[:80]!r}"
        ).because("alias_form", found=alias[:80])
    return alias


def checked_label(what: str, label: str, *, longest: int = 120) -> str:
    """A name for people, outer white space removed.

    Args:
        what: How the error calls it.
        longest: Characters allowed.

    Raises:
        InvalidInput: It is empty, too long or holds a control character.
    """
    found = unicodedata.normalize("NFC", label).strip()
    if not found or len(found) > longest or not found.isprintable():
        raise InvalidInput(
            f"{what}: expected 1 to {longest} printable characters, found {label[:80]!r}"
        ).because("length", field=what, low=1, high=longest, found=len(found))
    return found


def fold_username(username: str) -> str:
    """The one form of a username: NFC, case-folded, outer white space removed."""
    folded = unicodedata.normalize("NFC", username.strip()).casefold()
    return unicodedata.normalize("NFC", folded)


def checked_username(username: str) -> str:
    """The folded username, if it can be one.

    Raises:
        InvalidInput: It is empty, longer than 64 characters, or holds something other than
            letters, marks, digits and `. _ @ + -`.
    """
    folded = fold_username(username)
    fits = all(mark in "._@+-" or unicodedata.category(mark)[0] in "LMN" for mark in folded)
    if not 1 <= len(folded) <= 64 or not fits:
        raise InvalidInput(
            f"username: expected 1 to 64 letters, digits or . _ @ + -, found {username[:80]!r}"
        ).because("username_form", found=username[:80])
    return folded


def checked_password(password: str) -> str:
    """The password in the form that is hashed (NFC, so that any keyboard gives the same).

    Raises:
        InvalidInput: It is too short or too long; the message holds lengths only.
    """
    found = unicodedata.normalize("NFC", password)
    if any(unicodedata.category(mark) == "Cs" for mark in found):
        raise InvalidInput(
            "password: expected Unicode text, found half of a surrogate pair"
        ).because("not_storable", field="password")
    if not MIN_PASSWORD_CHARS <= len(found) <= MAX_PASSWORD_CHARS:
        raise InvalidInput(
            f"password: expected {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters, "
            f"found {len(found)}"
        ).because(
            "length",
            field="password",
            low=MIN_PASSWORD_CHARS,
            high=MAX_PASSWORD_CHARS,
            found=len(found),
        )
    return found


def generate_password() -> str:
    """A fresh password that can be read aloud: four groups of four, 79 bits."""
    groups = ("".join(secrets.choice(_READABLE) for _ in range(4)) for _ in range(4))
    return "-".join(groups)
