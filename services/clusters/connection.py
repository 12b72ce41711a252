"""One cluster, spoken to through the official Kubernetes client.

The client defaults to a lenient server, drops the server's warnings, and patches custom objects by
merging, which replaces lists whole. Here every write is strict, names this program as the field
manager, hands the warnings back, and a patch is a JSON Patch.
"""

from __future__ import annotations

import builtins
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import yaml

from services.clusters.kinds import DEFINITION, Kind
from services.clusters.refusals import ClusterForbids, translate
from services.clusters.schema import Schema
from services.errors import NotFound, WrongConfiguration

MANAGER = "param-console"
IN_CLUSTER = "in-cluster"
"""Instead of a kubeconfig: the account of the pod that this program runs in."""
JSON_PATCH = "application/json-patch+json"
T = TypeVar("T")
Operations = list[dict[str, Any]]


@dataclass(frozen=True)
class Written:
    """What the server made of a write.

    Attributes:
        thing: The object as it is now, or would be after a dry run.
        warnings: What the server remarked, unescaped.
    """

    thing: dict[str, Any]
    warnings: tuple[str, ...]


class Cluster:
    """A connection that is opened when it is first used, and may be shared by threads.

    Args:
        kubeconfig: Path of a kubeconfig file, or `in-cluster`.
        context: Name of a context in it; its current one if empty.
        timeout_s: Longest wait for one answer, seconds.
    """

    def __init__(self, kubeconfig: str, *, context: str = "", timeout_s: float = 10.0) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._opened: Any = None
        self._schemas: dict[Kind, Schema | None] = {}

    def __repr__(self) -> str:
        return f"Cluster({self._kubeconfig!r}, context={self._context!r})"

    def version(self) -> str:
        """The server's version, such as `v1.34.1`; the cheapest proof that it answers."""
        found = self._raw("ask for the version", "GET", "/version")
        return str(found.get("gitVersion", ""))

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]:
        """One object.

        Raises:
            NotFound: There is none, or the kind is not installed.
            ClusterUnavailable: The cluster does not answer or does not let us read it.
        """
        doing = _doing("read", kind, namespace, name)
        found: dict[str, Any] = self._raw(doing, "GET", _path(kind, namespace, name))
        return found

    def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """One object, or None where there is none or its kind is not installed."""
        try:
            return self.get(kind, namespace, name)
        except NotFound:
            return None

    def list(
        self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """The objects of one namespace that bear all the labels; none of a kind not installed."""
        selector = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        query = [("labelSelector", selector)] if selector else []
        try:
            found = self._raw(
                _doing("list", kind, namespace, ""), "GET", _path(kind, namespace), query=query
            )
        except NotFound:
            return []
        return list(found.get("items", []))

    def create(
        self, kind: Kind, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False
    ) -> Written:
        """Make an object.

        Raises:
            ClusterRefused: It is not valid there, or one of that name exists.
            ClusterUnavailable: The cluster does not answer or does not let us.
        """
        name = str(body.get("metadata", {}).get("name", ""))
        return self._write(
            _doing("create", kind, namespace, name),
            "POST",
            _path(kind, namespace),
            dict(body),
            "application/json",
            dry_run=dry_run,
        )

    def patch(
        self, kind: Kind, namespace: str, name: str, operations: Operations, *, dry_run: bool
    ) -> Written:
        """Change an object by a JSON Patch: all of it, or nothing.

        Raises:
            ObjectChanged: A `test` operation failed, or somebody wrote at the same time.
            ClusterRefused: The result would not be valid there.
            NotFound: There is no such object.
            ClusterUnavailable: The cluster does not answer or does not let us.
        """
        return self._write(
            _doing("patch", kind, namespace, name),
            "PATCH",
            _path(kind, namespace, name),
            operations,
            JSON_PATCH,
            dry_run=dry_run,
        )

    def delete(self, kind: Kind, namespace: str, name: str, *, grace_s: int | None = None) -> bool:
        """Delete an object and what it owns; whether there was one.

        Args:
            grace_s: Seconds that pods get to end, instead of their own.
        """
        query = [("propagationPolicy", "Background")]
        if grace_s is not None:
            query.append(("gracePeriodSeconds", str(grace_s)))
        try:
            doing = _doing("delete", kind, namespace, name)
            self._raw(doing, "DELETE", _path(kind, namespace, name), query=query)
        except NotFound:
            return False
        return True

    def may(self, verb: str, kind: Kind, namespace: str) -> bool:
        """Whether the console's account may do something there, as the server says itself."""
        attributes = {
            "verb": verb, "group": kind.group, "resource": kind.plural, "namespace": namespace,
        }  # fmt: skip
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        answer = self._raw(f"ask whether {verb} {kind.plural} is allowed", "POST", path, body=body)
        return bool(answer.get("status", {}).get("allowed"))

    def schema(self, kind: Kind) -> Schema | None:
        """The schema of a custom kind; None where the kind or this version is not installed.

        It is read once: an operator that is upgraded meanwhile needs a new connection.
        """
        if kind not in self._schemas:
            found = self._read_schema(kind)
            if found is None:
                return None  # it may be installed later
            self._schemas[kind] = found
        return self._schemas[kind]

    def _read_schema(self, kind: Kind) -> Schema | None:
        try:
            definition = self.find(DEFINITION, "", kind.full_name)
        except ClusterForbids:
            return self._published_schema(kind)
        for version in (definition or {}).get("spec", {}).get("versions", []):
            if version["name"] == kind.version and version.get("served"):
                return Schema(version.get("schema", {}).get("openAPIV3Schema", {}))
        return None

    def _published_schema(self, kind: Kind) -> Schema | None:
        """The same from the server's OpenAPI document, which every account may read."""
        try:
            path = f"/openapi/v3/apis/{kind.group}/{kind.version}"
            document = self._raw(f"read the schema of {kind.kind}", "GET", path)
        except NotFound:
            return None
        named = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        for schema in document.get("components", {}).get("schemas", {}).values():
            if named in schema.get("x-kubernetes-group-version-kind", []):
                return Schema(schema)
        return None

    def pods(self, namespace: str, labels: Mapping[str, str]) -> builtins.list[dict[str, Any]]:
        """Pods of one namespace that bear all the labels, oldest first."""
        found = self.list(Kind("", "v1", "pods", "Pod"), namespace, labels=labels)
        return sorted(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))

    def log_tail(self, namespace: str, pod: str, max_bytes: int) -> str:
        """The end of what a pod printed; empty while it prints nothing."""
        # The API has no "last bytes": ask for enough lines, cut here.
        query = [("tailLines", str(max(max_bytes // 40, 1))), ("limitBytes", str(max_bytes * 8))]
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        data = self._request(f"read the log of pod {namespace}/{pod}", "GET", path, query=query)
        return data.data.decode("utf-8", errors="replace")[-max_bytes:] if data.data else ""

    def _write(
        self, doing: str, method: str, path: str, body: Any, content_type: str, *, dry_run: bool
    ) -> Written:
        query = [("fieldManager", MANAGER), ("fieldValidation", "Strict")]
        if dry_run:
            query.append(("dryRun", "All"))
        response = self._request(doing, method, path, query=query, body=body, kind=content_type)
        warnings = response.headers.getlist("warning")
        return Written(json.loads(response.data), tuple(_unescaped(one) for one in warnings))

    def _raw(self, doing: str, method: str, path: str, *, query: Any = (), body: Any = None) -> Any:
        response = self._request(doing, method, path, query=query, body=body)
        return json.loads(response.data or b"{}")

    def _request(
        self,
        doing: str,
        method: str,
        path: str,
        *,
        query: Any = (),
        body: Any = None,
        kind: str = "application/json",
    ) -> Any:
        """The raw answer of one request.

        Raises:
            ConsoleError: As `refusals.translate` has it.
        """
        api = self._client()

        def send() -> Any:
            arguments = api.param_serialize(
                method=method,
                resource_path=path,
                query_params=list(query),
                header_params={"Accept": "application/json", "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = api.call_api(*arguments, _request_timeout=self._timeout_s)
            answer.read()
            if not 200 <= answer.status <= 299:
                api.response_deserialize(answer, {})
            return answer.response

        return _translated(doing, send)

    def _client(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = _open(self._kubeconfig, self._context)
            return self._opened


def _open(kubeconfig: str, context: str) -> Any:
    try:
        client, config = (import_module(f"kubernetes.{part}") for part in ("client", "config"))
    except ImportError as error:
        raise WrongConfiguration(
            "a cluster is configured: expected the package kubernetes, found none; "
            "install param-console[kubernetes]"
        ) from error
    configuration = client.Configuration()
    try:
        if kubeconfig == IN_CLUSTER:
            config.load_incluster_config(client_configuration=configuration)
        else:
            path = Path(kubeconfig).expanduser()
            if not path.is_file():
                raise WrongConfiguration(f"PARAM_KUBECONFIG: expected a file, found none at {path}")
            config.load_kube_config(
                str(path),
                context=context or None,
                client_configuration=configuration,
                persist_config=False,
            )
    except config.ConfigException as error:
        raise WrongConfiguration(f"PARAM_KUBECONFIG: {error}") from error
    except (yaml.YAMLError, ValueError, LookupError, TypeError, OSError) as error:
        # The library's own words may quote the file, and with it a secret.
        raise WrongConfiguration(
            f"PARAM_KUBECONFIG: expected a kubeconfig, found {type(error).__name__} in {kubeconfig}"
        ) from None
    # One retry of a connection that the server has closed meanwhile; the callers do the rest.
    retry = import_module("urllib3").Retry
    configuration.retries = retry(total=1, connect=0, redirect=0, backoff_factor=0)
    return client.ApiClient(configuration)


def _translated(doing: str, send: Callable[[], T]) -> T:
    refused = import_module("kubernetes.client.exceptions").ApiException
    cut_off = import_module("urllib3.exceptions").HTTPError
    try:
        return send()
    except (refused, cut_off, OSError) as error:
        raise translate(error, doing) from error


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    parts = ["", "apis", kind.group, kind.version] if kind.group else ["", "api", kind.version]
    if kind.namespaced:
        parts += ["namespaces", namespace]
    parts += [kind.plural, *([name] if name else [])]
    return "/".join(quote(part, safe="") for part in parts)


def _doing(what: str, kind: Kind, namespace: str, name: str) -> str:
    where = "/".join(part for part in (namespace, name) if part)
    return f"{what} {kind.kind} {where}".rstrip()


def _unescaped(warning: str) -> str:
    """The text of a `Warning` header, which is quoted and escaped."""
    text = warning.partition('"')[2].rpartition('"')[0] or warning
    return text.replace('\\"', '"').replace("\\\\", "\\")
