"""Settings that only make sense beside each other, checked together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from services.errors import WrongConfiguration
from services.settings.model import Settings
from services.settings.values import integer, outside_url


def cluster(values: Mapping[str, Any]) -> dict[str, Any]:
    """Which cluster there is, and what runs are given on it."""
    texts = {one.name: one.default for one in fields(Settings)
             if one.name.startswith(("kube", "cluster_")) and one.name not in ("cluster_gpus", "cluster_nodes")}  # fmt: skip
    found = {name: str(values.get(name, default)).strip() for name, default in texts.items()}
    for name in ("cluster_namespace", "cluster_volume", "cluster_queue", "cluster_runtime"):
        if not re.fullmatch(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?", found[name]):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}: expected a name as Kubernetes takes it, "
                f"found {found[name]!r}"
            )
    for name in ("cluster_cpu", "cluster_memory"):
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?(m|[kKMGT]i?)?", found[name]):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}: expected a quantity such as 4, 500m or 16Gi, "
                f"found {found[name]!r}"
            )
    needed = {
        "cluster_image": ("kubeconfig", "cluster_volume"),
        "cluster_volume": ("cluster_image",),
    }
    for name, others in needed.items():
        for other in others:
            if found[name] and not found[other]:
                raise WrongConfiguration(
                    f"PARAM_{other.upper()}: expected it beside PARAM_{name.upper()}, found none"
                )
    return found | {
        "cluster_gpus": integer(values, "cluster_gpus", 1, 0, 64),
        "cluster_nodes": integer(values, "cluster_nodes", 1, 1, 64),
    }


def evidence(values: Mapping[str, Any]) -> dict[str, Any]:
    """Where evidence is kept beside the database, and who vouches for its time and its keys."""
    copy = str(values.get("checkpoint_copy", ""))
    is_url = copy.startswith(("http://", "https://"))
    known = ("receipt", "checkpoint", "event")
    purposes = [one.strip() for one in str(values.get("key_service_purposes", "")).split(",")]
    if unknown := [one for one in purposes if one and one not in known]:
        raise WrongConfiguration(
            f"PARAM_KEY_SERVICE_PURPOSES: expected some of {', '.join(known)}, found {unknown[0]!r}"
        )
    return {
        "checkpoint_copy": copy if is_url or not copy else str(Path(copy).expanduser().resolve()),
        "checkpoint_copy_token": str(values.get("checkpoint_copy_token", "")),
        "timestamp_url": outside_url(values, "timestamp_url"),
        "timestamp_roots": str(values.get("timestamp_roots", "")),
        "timestamp_every_min": integer(values, "timestamp_every_min", 60, 1, 10_080),
        "key_service_url": outside_url(values, "key_service_url"),
        "key_service_token": str(values.get("key_service_token", "")),
        "key_service_purposes": ",".join(one for one in purposes if one) or "checkpoint,event",
    }


def upstreams(values: Mapping[str, Any]) -> dict[str, Any]:
    """How the gateway reaches its engines, what answers wait for, and who may look at it."""
    answer_after = str(values.get("answer_after", "journal"))
    if answer_after not in {"journal", "commit"}:
        raise WrongConfiguration(
            f"PARAM_ANSWER_AFTER: expected journal or commit, found {answer_after!r}"
        )
    url = outside_url(values, "fallback_url").removesuffix("/v1")
    model = str(values.get("fallback_model", "")).strip()
    if bool(url) != bool(model):
        missing = "PARAM_FALLBACK_MODEL" if url else "PARAM_FALLBACK_URL"
        raise WrongConfiguration(f"{missing}: expected it beside the other one, found it empty")
    return {
        "engine_connect_s": integer(values, "engine_connect_s", 3, 1, 600),
        "engine_first_byte_s": integer(values, "engine_first_byte_s", 120, 1, 86_400),
        "engine_between_bytes_s": integer(values, "engine_between_bytes_s", 60, 1, 86_400),
        "engine_answer_s": integer(values, "engine_answer_s", 600, 1, 86_400),
        "breaker_failures": integer(values, "breaker_failures", 5, 1, 10_000),
        "breaker_open_s": integer(values, "breaker_open_s", 10, 1, 3_600),
        "fallback_url": url,
        "fallback_model": model,
        "fallback_key": str(values.get("fallback_key", "")),
        "answer_after": answer_after,
        "gateway_admin_token": str(values.get("gateway_admin_token", "")),
    }


def alerts(values: Mapping[str, Any]) -> dict[str, Any]:
    """Who outside hears of rollouts, and who may call one back; addresses may be secrets."""
    found = {
        name: str(values.get(name, "")).strip()
        for name in (
            "rollback_hook_secret", "alert_slack_url", "alert_jira_url", "alert_jira_project",
            "alert_jira_token", "alert_webhook_url", "alert_webhook_secret",
        )
    }  # fmt: skip
    for name in ("alert_slack_url", "alert_jira_url", "alert_webhook_url"):
        found[name] = found[name].rstrip("/")
        if found[name] and not found[name].startswith(("http://", "https://")):
            raise WrongConfiguration(
                f"PARAM_{name.upper()}: expected http://… or https://…, found something else"
            )
    if found["alert_jira_url"] and not found["alert_jira_project"]:
        raise WrongConfiguration(
            "PARAM_ALERT_JIRA_PROJECT: expected it beside PARAM_ALERT_JIRA_URL, found it empty"
        )
    if 0 < len(found["rollback_hook_secret"]) < 16:
        raise WrongConfiguration(
            "PARAM_ROLLBACK_HOOK_SECRET: expected at least 16 characters, found fewer"
        )
    return found


def judge(values: Mapping[str, Any]) -> dict[str, Any]:
    """The judge's settings; what they mean for money is checked where it is spent."""
    url = outside_url(values, "judge_url").removesuffix("/v1") or Settings.judge_url
    effort = str(values.get("judge_effort", ""))
    if effort not in {"", "low", "medium", "high", "xhigh", "max"}:
        raise WrongConfiguration(
            f"PARAM_JUDGE_EFFORT: expected low, medium, high, xhigh or max, found {effort!r}"
        )
    price = str(values.get("judge_price", ""))
    if price and not re.fullmatch(r"\d{1,6}(\.\d{1,6})?/\d{1,6}(\.\d{1,6})?", price):
        raise WrongConfiguration(
            "PARAM_JUDGE_PRICE: expected US dollars for a million tokens as prompt/completion, "
            f"such as 2/10, found {price!r}"
        )
    return {
        "judge_url": url,
        "judge_model": str(values.get("judge_model", "")),
        "judge_api_key": str(values.get("judge_api_key", "")),
        "judge_price": price,
        "judge_effort": effort,
    }
