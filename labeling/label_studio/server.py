"""A Label Studio server as we use it: few requests, one kind of error.

Nothing that makes something is tried twice on its own: when its answer is lost, whoever asked
looks first whether it is there.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from services.errors import NotFound, Unavailable, WrongConfiguration
from services.settings import Settings

TIMEOUT_S = 60.0
PAGE = 200
"""Tasks in one answer of a list."""

_ONCE: Any = {"max_retries": 0}
HOOK_HEADER = "X-Param-Hook"
HOOK_ACTIONS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")


@dataclass(frozen=True)
class RemoteTask:
    """One task as the server tells it.

    Attributes:
        data: What the annotators are shown, and our ids.
        annotations: As the server tells them; unchecked.
        is_labeled: The server serves it to nobody any more.
    """

    id: int
    data: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]]
    n_predictions: int
    is_labeled: bool
    updated_at: datetime


class Server:
    """One account on one server.

    Args:
        url: Address without a path at its end.
        token: Personal access token, or a legacy token where the server still takes these.

    Raises:
        WrongConfiguration: The SDK is not installed, or the token has expired.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._http = httpx.Client(timeout=TIMEOUT_S, follow_redirects=True)
        # The library's own types change with each release; what we use is checked below.
        self._sdk: Any = _sdk(url, token, self._http)

    @classmethod
    def of(cls, settings: Settings) -> Server:
        """The server that the settings name.

        Raises:
            WrongConfiguration: They name none, or no token.
        """
        for name in ("label_studio_url", "label_studio_token"):
            if not getattr(settings, name):
                raise WrongConfiguration(
                    f"PARAM_{name.upper()}: expected it to be set, since pairs are to be "
                    "synchronised with Label Studio"
                )
        return cls(settings.label_studio_url, settings.label_studio_token)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def find_project(self, description: str) -> int | None:
        """Number of the project with exactly this description; the oldest one of several."""
        with self._told():
            found = (one for one in self._sdk.projects.list() if one.description == description)
            return min((_number(one.id) for one in found), default=None)

    def make_project(self, *, title: str, description: str, config: str, **more: Any) -> int:
        """Make a project; its number."""
        with self._told():
            made = self._sdk.projects.create(
                title=title, description=description, label_config=config,
                show_skip_button=True, enable_empty_annotation=False, request_options=_ONCE, **more,
            )  # fmt: skip
        return _number(made.id)

    def set_overlap(self, project: int, overlap: int) -> None:
        """How many people the server asks about each task from now on."""
        with self._told(f"project {project}"):
            self._sdk.projects.update(id=project, maximum_annotations=overlap)

    def make_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Import tasks with their predictions. Asking again would make them twice."""
        with self._told(f"project {project}"):
            self._sdk.projects.import_tasks(
                id=project, request=[dict(one) for one in tasks],
                commit_to_project=True, return_task_ids=True, request_options=_ONCE,
            )  # fmt: skip

    def make_prediction(self, task: int, prediction: Mapping[str, Any]) -> None:
        """Add a prediction to a task that has none."""
        with self._told(f"task {task}"):
            self._sdk.predictions.create(task=task, request_options=_ONCE, **prediction)

    def tasks_after(self, project: int, task: int) -> Iterator[RemoteTask]:
        """Tasks with a higher number than this one."""
        return self._tasks(project, [_where("id", "greater", "Number", task)], "and")

    def judged(self, project: int, since: datetime | None) -> Iterator[RemoteTask]:
        """Tasks that changed since then; without a time all that have annotations."""
        if since is None:
            counts = ("total_annotations", "cancelled_annotations")
            wanted = [_where(name, "greater", "Number", 0) for name in counts]
            return self._tasks(project, wanted, "or")
        text = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        wanted = [_where("updated_at", "greater_or_equal", "Datetime", text)]
        return self._tasks(project, wanted, "and")

    def latest_change(self, project: int) -> datetime | None:
        """When some task of the project changed last; None where there is none."""
        query = json.dumps({"ordering": ["-tasks:updated_at"]})
        with self._told(f"project {project}"):
            listed = self._sdk.tasks.list(
                project=project, fields="task_only", query=query, page=1, page_size=1
            )
            return next((_time(one.updated_at) for one in listed), None)

    def close_task(self, task: int) -> None:
        """Have the server serve the task to nobody any more; what is there stays.

        Raises:
            NotFound: Somebody has deleted it.
        """
        with self._told(f"task {task}"):
            self._sdk.tasks.update(id=str(task), is_labeled=True)

    def people(self) -> dict[int, str]:
        """Address or name of each account, by its number."""
        with self._told():
            found = self._sdk.users.list()
        return {
            _number(one.id): _printable(one.email or one.username or f"account {one.id}")
            for one in found
        }

    def hook(self, project: int, url: str) -> int | None:
        """Number of the project's webhook to this address; None where there is none."""
        with self._told(f"project {project}"):
            found = self._sdk.webhooks.list(project=str(project))
        return min((_number(one.id) for one in found if one.url == url), default=None)

    def make_hook(self, project: int, url: str, secret: str) -> int:
        """Have the server tell us of new annotations.

        Raises:
            Refusal: It does not call such addresses.
        """
        with self._told(f"project {project}"):
            made = self._sdk.webhooks.create(
                url=url, project=project, send_payload=False, send_for_all_actions=False,
                actions=list(HOOK_ACTIONS), headers={HOOK_HEADER: secret}, is_active=True,
                request_options=_ONCE,
            )  # fmt: skip
        return _number(made.id)

    def _tasks(
        self, project: int, wanted: Sequence[Mapping[str, Any]], conjunction: str
    ) -> Iterator[RemoteTask]:
        filters = {"filters": {"conjunction": conjunction, "items": list(wanted)}}
        query = json.dumps({**filters, "ordering": ["tasks:id"]})
        with self._told(f"project {project}"):
            for one in self._sdk.tasks.list(
                project=project, fields="all", query=query, page_size=PAGE
            ):
                yield _task(one)

    @contextmanager
    def _told(self, what: str = "this") -> Iterator[None]:
        """Turn every way in which a request can fail into an error of ours."""
        from label_studio_sdk.core.api_error import ApiError

        try:
            yield
        except ApiError as error:
            if error.status_code == 404:
                raise NotFound(f"Label Studio at {self.url} has no {what}") from error
            if error.status_code == 401:
                raise Unavailable(
                    f"Label Studio at {self.url} refuses the token; see PARAM_LABEL_STUDIO_TOKEN"
                ) from error
            raise Refusal(self.url, error.status_code) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(
                f"no Label Studio answers at {self.url} ({type(error).__name__}); "
                "see PARAM_LABEL_STUDIO_URL"
            ) from error


class Refusal(Unavailable):
    """The server answered, but did not do it.

    Attributes:
        status: Its HTTP status; None for an answer that could not be read.
    """

    def __init__(self, url: str, status: int | None) -> None:
        # What it says beyond the status may repeat what was sent: texts of people.
        super().__init__(f"Label Studio at {url} answered with status {status}")
        self.status = status


def _number(value: Any) -> int:
    """What the server calls one of its things.

    Raises:
        Unavailable: It is no number; whatever answers there is no Label Studio.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Unavailable("expected a Label Studio server, found something that answers otherwise")


def _printable(text: Any) -> str:
    """What somebody calls themselves, without what steers a terminal or a line of text."""
    return "".join(char for char in str(text) if char.isprintable())[:200]


def _sdk(url: str, token: str, http: httpx.Client) -> Any:
    with warnings.catch_warnings():
        # The library still declares itself in the ways of older versions of pydantic.
        warnings.simplefilter("ignore")
        try:
            from label_studio_sdk import LabelStudio
            from label_studio_sdk.core.api_error import ApiError
        except ImportError as error:
            raise WrongConfiguration(
                "expected the library label-studio-sdk, found none: pip install "
                "'param-console[label-studio]'"
            ) from error
    try:
        sdk: Any = LabelStudio(  # type: ignore[no-untyped-call]
            base_url=url, api_key=token, httpx_client=http, timeout=TIMEOUT_S
        )
        return sdk
    except ApiError as error:
        raise WrongConfiguration(
            "PARAM_LABEL_STUDIO_TOKEN: expected a token that has not expired"
        ) from error


def _where(column: str, operator: str, kind: str, value: Any) -> dict[str, Any]:
    return {
        "filter": f"filter:tasks:{column}",
        "operator": operator,
        "type": kind,
        "value": value,
    }


def _task(one: Any) -> RemoteTask:
    annotations = one.annotations if isinstance(one.annotations, list) else []
    return RemoteTask(
        id=_number(one.id),
        data=dict(one.data or {}),
        annotations=[_plain(annotation) for annotation in annotations],
        n_predictions=int(one.total_predictions or 0),
        is_labeled=bool(one.is_labeled),
        updated_at=_time(one.updated_at),
    )


def _plain(annotation: Any) -> Mapping[str, Any]:
    """An annotation as the server's JSON had it, whatever the library made of it."""
    if isinstance(annotation, Mapping):
        return annotation
    found: Mapping[str, Any] = annotation.model_dump(mode="json")
    return found


def _time(value: Any) -> datetime:
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)
