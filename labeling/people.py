"""What annotators are called: by name for those who manage people, by a code for everybody else.

A code keeps a table of habits from being read as a table of persons; it is courtesy, not secrecy:
who may read the audit log finds out who voted when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.tenants.models import Actor, Permission
from services.tenants.store import UserRow

CHUNK = 500


@dataclass(frozen=True)
class Person:
    """An annotator as one reader knows them.

    Attributes:
        code: Four or more hexadecimal digits, the same for the same person in one tenant.
        name: None unless the reader manages people; None too for who has no account here.
        is_reader: Whether it is the reader.
    """

    code: str
    name: str | None = None
    is_reader: bool = False


def people(
    session: Session, actor: Actor, tenant_id: str, annotator_ids: Collection[str]
) -> dict[str, Person]:
    """Who the annotators are, for this reader; no two of them have the same code."""
    digits = 4
    codes = {one: _code(tenant_id, one, digits) for one in annotator_ids}
    while len(set(codes.values())) < len(codes):
        digits += 2
        codes = {one: _code(tenant_id, one, digits) for one in annotator_ids}
    names: dict[str, str] = {}
    if actor.may(Permission.MANAGE_USERS, tenant_id):
        ids = sorted(codes)
        for start in range(0, len(ids), CHUNK):
            wanted = select(UserRow.id, UserRow.display_name)
            found = session.execute(wanted.where(UserRow.id.in_(ids[start : start + CHUNK])))
            names.update((user_id, name) for user_id, name in found)
    return {
        one: Person(code=code, name=names.get(one), is_reader=one == actor.id)
        for one, code in codes.items()
    }


def _code(tenant_id: str, annotator_id: str, digits: int) -> str:
    text = f"param.annotator.v1|{tenant_id}|{annotator_id}"
    return hashlib.sha256(text.encode()).hexdigest()[:digits].upper()
