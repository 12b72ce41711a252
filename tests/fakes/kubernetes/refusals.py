"""How the server says no: `Status` bodies as an API server words them."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that is answered with a `Status`, or with plain text."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        plain: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.plain = plain
        self.status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "details": details or {}, "code": code,
        }  # fmt: skip


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def not_found(resource: Any, name: str) -> Refused:
    details = {"name": name, "group": resource.group, "kind": resource.plural}
    return Refused(404, "NotFound", f'{resource.full_name} "{name}" not found', details)


def conflict(resource: Any, name: str) -> Refused:
    return Refused(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.full_name} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again",
    )


def internal(message: str) -> Refused:
    return Refused(500, "InternalError", f"Internal error occurred: {message}")


def refused(user: str, verb: str, resource: Any, name: str, namespace: str) -> Refused:
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    return Refused(
        403,
        "Forbidden",
        f'{resource.full_name} "{name}" is forbidden: User "{user}" cannot {verb} resource '
        f'"{resource.plural}" in API group "{resource.group}"{where}',
    )


def invalid(resource: Any, name: str, problems: list[tuple[str, str, str]]) -> Refused:
    """422 with one cause a problem: path, reason, message."""
    causes = [{"reason": why, "message": text, "field": path} for path, why, text in problems]
    texts = [text for _, _, text in problems]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    what = f'{resource.kind}.{resource.group} "{name}"' if resource is not None else ' ""'
    return Refused(422, "Invalid", f"{what} is invalid: {listed}", {"causes": causes})


def denied(webhook: str, message: str) -> Refused:
    """What an admission webhook's refusal becomes."""
    return Refused(403, "Forbidden", f'admission webhook "{webhook}" denied the request: {message}')
