"""A tenant's policy: which checks look where, and what follows from a finding.

    version: 1
    checks:
      pii: {places: [input, output], action: mask, kinds: [email, phone, tckn]}
      jailbreak: {places: [input], action: block}
      disclaimers: {places: [output], action: append, kinds: [medical, legal]}

`CHECKS` names every check with the places, the actions and the settings that it takes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # Without libyaml the same is read more slowly.
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

from services.errors import InvalidInput
from services.guardrails.checks import phrases, pii, secrets, whole
from services.guardrails.models import Action, Place

MAX_BYTES = 1 << 20
DEFAULT_FILE = Path(__file__).with_name("default.yaml")
_MAX_DEPTH = 20
_MAX_WORDS, _MAX_WORD = 1_000, 80
_ALL = frozenset(Place)
_NAME = re.compile(r"\w[\w -]{0,59}")
_STOPS = frozenset({Action.BLOCK, Action.FLAG})


@dataclass(frozen=True)
class Kind:
    """What a check takes.

    Attributes:
        places: Where it may look.
        actions: What may follow; the first in the policy's words is its default.
        kinds: What it tells apart, if one may choose among them.
        settings: Names of further settings, and whether each is required.
    """

    places: frozenset[Place]
    actions: frozenset[Action]
    default: Action
    kinds: tuple[str, ...] = ()
    settings: Mapping[str, bool] = field(default_factory=dict)


CHECKS: Mapping[str, Kind] = {
    "pii": Kind(_ALL, _STOPS | {Action.MASK}, Action.MASK, pii.KINDS),
    "secrets": Kind(_ALL, _STOPS | {Action.MASK}, Action.MASK, secrets.KINDS),
    "jailbreak": Kind(
        frozenset({Place.INPUT, Place.TOOLS}), _STOPS, Action.BLOCK, tuple(phrases.JAILBREAK)
    ),
    "injection": Kind(
        frozenset({Place.TOOLS, Place.INPUT}), _STOPS, Action.BLOCK, tuple(phrases.INJECTION)
    ),
    "toxicity": Kind(_ALL, _STOPS, Action.BLOCK, tuple(phrases.TOXICITY)),
    "copyright": Kind(
        frozenset({Place.OUTPUT, Place.INPUT}), _STOPS, Action.BLOCK,
        settings={"works": True, "run": False},
    ),
    "disclaimers": Kind(
        frozenset({Place.OUTPUT}), frozenset({Action.APPEND, Action.FLAG}), Action.APPEND,
        tuple(phrases.TOPICS_OF_NOTICE), {"notices": False},
    ),
    "topics": Kind(_ALL, _STOPS, Action.BLOCK, settings={"deny": True}),
    "length": Kind(_ALL, _STOPS, Action.BLOCK, settings={"max_characters": True}),
    "language": Kind(_ALL, _STOPS, Action.FLAG, settings={"allow": True}),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """One check as a policy wants it.

    Attributes:
        kinds: What it looks for; all that it knows unless the policy chose.
        settings: Checked; see `CHECKS`.
    """

    check: str
    places: frozenset[Place]
    action: Action
    kinds: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """Everything that a tenant wants checked.

    Attributes:
        source: The YAML it came from.
    """

    rules: tuple[Rule, ...]
    source: str

    @property
    def digest(self) -> str:
        """sha256 of the source, 64 hex characters: what a receipt names."""
        return hashlib.sha256(self.source.encode()).hexdigest()


class _Loader(_SafeLoader):
    """YAML in which a key that comes twice is an error, and `on` and `no` are words."""

    yaml_implicit_resolvers = {
        first: [
            (tag, found) for tag, found in known if first in "tTfF" or not tag.endswith(":bool")
        ]
        for first, known in _SafeLoader.yaml_implicit_resolvers.items()
    }


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidInput(
                f"policy: expected names before colons, found a list or names with values on line "
                f"{key.start_mark.line + 1}"
            )
        if key.value in seen:
            raise InvalidInput(
                f"policy: expected each name once, found {key.value[:60]!r} twice, again on line "
                f"{key.start_mark.line + 1}"
            ).because("name_twice", name=key.value[:60], line=key.start_mark.line + 1)
        seen.add(key.value)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _loaded(source: str) -> Any:
    """What a YAML text says; its shape is looked at before anything is built of it."""
    depth = 0
    for event in yaml.parse(source, _Loader):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidInput(
                f"policy: expected every value written out, found *{str(event.anchor)[:60]} on line "
                f"{event.start_mark.line + 1 if event.start_mark else 1}"
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            raise InvalidInput(f"policy: expected at most {_MAX_DEPTH} levels, found more").because(
                "too_deep", most=_MAX_DEPTH
            )
    return yaml.load(source, _Loader)  # noqa: S506 - a safe loader that also refuses doubles


def read_policy(source: str) -> Policy:
    """A policy from its YAML text.

    Raises:
        InvalidInput: It is no policy; the message names the place.
    """
    if len(source.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidInput(f"policy: expected at most {MAX_BYTES:,} bytes, found more").because(
            "too_many_bytes", field="policy", most=MAX_BYTES
        )
    try:
        found = _loaded(source)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" on line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "other text"
        raise InvalidInput(f"policy: expected YAML, found {problem}{where}").because(
            "no_yaml", field="policy", line=place.line + 1 if place else 1
        ) from error
    except (ValueError, OverflowError) as error:
        # A date that is none, a number of too many digits, half a surrogate pair.
        raise InvalidInput(
            f"policy: expected YAML, found a bad value: {str(error)[:80]}"
        ) from error
    document = _object(found, "policy")
    _known(document, {"version", "checks"}, "policy")
    version = document.get("version")
    if version != 1 or isinstance(version, bool | float):
        _refuse("version", "1", version)
    checks = _object(document.get("checks", {}), "checks")
    _known(checks, set(CHECKS), "checks")
    return Policy(tuple(_rule(name, value) for name, value in checks.items()), source)


def default_policy() -> Policy:
    """The policy of a tenant that has none of its own."""
    return read_policy(DEFAULT_FILE.read_text(encoding="utf-8"))


def _rule(check: str, found: Any) -> Rule:
    kind, at = CHECKS[check], f"checks.{check}"
    value = _object(found, at)
    names = {"places", "action", *kind.settings} | ({"kinds"} if kind.kinds else set())
    _known(value, names, at)
    places = _several(
        value.get("places"), [one.value for one in sorted(kind.places)], f"{at}.places"
    )
    action = value.get("action", kind.default.value)
    allowed = sorted(one.value for one in kind.actions)
    if not isinstance(action, str) or action not in allowed:
        _refuse(f"{at}.action", " or ".join(allowed), action)
    chosen = kind.kinds
    if "kinds" in value:
        chosen = tuple(_several(value["kinds"], kind.kinds, f"{at}.kinds"))
    settings = {name: value[name] for name in kind.settings if name in value}
    for name, is_required in kind.settings.items():
        if is_required and name not in settings:
            _refuse(f"{at}.{name}", _SETTINGS[name][1], None)
        if name in settings:
            _SETTINGS[name][0](settings[name], f"{at}.{name}")
    return Rule(check, frozenset(map(Place, places)), Action(action), chosen, settings)


def _texts(value: Any, at: str) -> None:
    for title, text in _object(value, at).items():
        _name(title, at)
        if not isinstance(text, str) or not text.strip():
            _refuse(f"{at}.{title}", "a text", text)


def _name(value: Any, at: str) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        _refuse(at, "names of at most 60 letters, digits, blanks and hyphens", value)


def _word_lists(value: Any, at: str) -> None:
    count = 0
    for topic, listed in _object(value, at).items():
        _name(topic, at)
        if not isinstance(listed, list) or not listed:
            _refuse(f"{at}.{topic}", "a list of words or phrases", listed)
        for word in listed:
            is_word = isinstance(word, str) and len(word) <= _MAX_WORD
            if not is_word or not any(map(str.isalnum, word)):
                _refuse(
                    f"{at}.{topic}", f"words or phrases of at most {_MAX_WORD} characters", word
                )
        count += len(listed)
    if count > _MAX_WORDS:
        _refuse(at, f"at most {_MAX_WORDS:,} words together", count)


def _notices(value: Any, at: str) -> None:
    _known(_object(value, at), set(phrases.TOPICS_OF_NOTICE), at)
    _texts(value, at)


def _count(least: int) -> Any:
    def check(value: Any, at: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            _refuse(at, f"a whole number of at least {least}", value)

    return check


_SETTINGS: Mapping[str, tuple[Any, str]] = {
    "works": (_texts, "titles with their texts"),
    "run": (_count(4), "a number of words, at least 4"),
    "notices": (_notices, "notices by kind"),
    "deny": (_word_lists, "topics with lists of words"),
    "max_characters": (_count(1), "a number of characters"),
    "allow": (
        lambda value, at: _several(value, whole.LANGUAGES, at),
        f"a list out of {', '.join(whole.LANGUAGES)}",
    ),
}


def _several(value: Any, known: Any, at: str) -> list[str]:
    listed = list(known)
    if not isinstance(value, list) or not value:
        _refuse(at, f"a list out of {', '.join(listed)}", value)
    for one in value:
        if one not in listed:
            _refuse(at, f"a list out of {', '.join(listed)}", one)
    return value


def _object(value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(at, "names with values", value)
    return value


def _known(value: Mapping[str, Any], names: set[str], at: str) -> None:
    for name in value:
        if not isinstance(name, str) or name not in names:
            _refuse(at, f"only {', '.join(sorted(names))}", name)


def _refuse(at: str, expected: str, found: Any) -> NoReturn:
    shown = "nothing" if found is None else _shown(found)
    raise InvalidInput(f"{at}: expected {expected}, found {shown}").because(
        "policy_at", place=at, expected=expected, found=shown
    )


def _shown(found: Any) -> str:
    """A value for a message, cut; of a large one only its kind, since writing it out takes long."""
    if isinstance(found, dict | list | set):
        return "names with values" if isinstance(found, dict) else f"a list of {len(found)}"
    if isinstance(found, int) and abs(found) >= 10**20:
        return "a number of more than 20 digits"
    return repr(found[:80] if isinstance(found, str) else found)[:82]
