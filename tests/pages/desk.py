"""The review desk without a browser: what it is sent, and what it would say."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from streamlit.proto.WidgetStates_pb2 import WidgetState
from streamlit.testing.v1 import AppTest


class DeskPage:
    """The review page, seen from the script in the browser.

    Attributes:
        page: The page as it was drawn last.
    """

    def __init__(self, page: AppTest) -> None:
        self.page = page

    @property
    def sent(self) -> dict[str, Any]:
        """What the script was given."""
        data: dict[str, Any] = json.loads(self._component().json or self._component().mixed.json)
        return data

    @property
    def card(self) -> dict[str, Any]:
        """The card; there must be one."""
        card: dict[str, Any] = self.sent["card"]
        assert card
        return card

    def act(self, do: str, **said: Any) -> DeskPage:
        """Say that the person did something with the card on the screen, and draw the page again."""
        card = self.sent["card"] or {"pair": "", "left": {"id": ""}, "right": {"id": ""}}
        act = {
            "do": do, "n": uuid4().hex, "pair": card["pair"], "left": card["left"]["id"],
            "right": card["right"]["id"], **said,
        }  # fmt: skip
        return self.say(act)

    def say(self, value: object) -> DeskPage:
        """Send any value as the script would."""
        tree = self.page._tree
        states = tree.get_widget_states()
        told = WidgetState(id=f"$$STREAMLIT_INTERNAL_KEY_{self._component().id}__events")
        told.json_trigger_value = json.dumps([{"event": "act", "value": value}])
        states.widgets.append(told)
        self.page._run(states)
        assert not self.page.exception, self.page.exception
        return self

    def _component(self) -> Any:
        (found,) = self.page.get("bidi_component")
        return found.proto
