"""The page: a door, a chat, and what is known of the last answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import gradio as gr

from console.playground import shown
from console.playground.client import Answer, Gateway
from console.playground.conversation import Choices, Conversation, sign_in
from console.playground.texts import TEXTS, preferred, sentence
from services.errors import ConsoleError

MAX_AT_ONCE = 64
"""Answers that stream at the same time; the gateway's own limits are per tenant."""


class Page:
    """The components of the page and what happens to them.

    Args:
        gateway: Whom it asks.
        console_url: Where the console's verify page is.
    """

    def __init__(self, gateway: Gateway, console_url: str) -> None:
        self._gateway = gateway
        self._console_url = console_url

    def build(self) -> gr.Blocks:
        """Lay the page out and connect it."""
        blocks: gr.Blocks
        with gr.Blocks(title="Param Console · Playground", analytics_enabled=False) as blocks:
            self.conversation = gr.State(None)
            with gr.Row(elem_id="pg-top"):
                self.heading = gr.HTML(shown.heading("en"), padding=False)
                self.language = gr.Radio(
                    [("English", "en"), ("Türkçe", "tr")], value="en", show_label=False,
                    container=False, elem_id="pg-language", scale=0, interactive=True,
                )  # fmt: skip
            self._lay_door()
            self._lay_room()
            self._connect(blocks)
        return blocks

    def _lay_door(self) -> None:
        texts = TEXTS["en"]
        with gr.Column(elem_id="pg-door") as self.door:
            self.key = gr.Textbox(
                label=texts["key"], info=texts["key_info"], type="password", autofocus=True,
                placeholder="pk_…", max_lines=1, elem_classes="pg-field", html_attributes=gr.InputHTMLAttributes(
                    autocomplete="off", spellcheck=False,
                ),
            )  # fmt: skip
            self.enter = gr.Button(texts["sign_in"], variant="primary")
            self.door_problem = gr.HTML("", padding=False, visible=False)

    def _lay_room(self) -> None:
        texts = TEXTS["en"]
        with gr.Column(visible=False) as self.room:
            with gr.Row(elem_id="pg-bar"):
                self.account = gr.HTML("", padding=False)
                self.new = gr.Button(texts["new"], size="sm", scale=0, min_width=150)
                self.leave = gr.Button(texts["sign_out"], size="sm", scale=0, min_width=110)
            with gr.Row():
                with gr.Column(scale=3, min_width=320):
                    self._lay_chat()
                with gr.Column(scale=2, min_width=300):
                    self._lay_side()

    def _lay_chat(self) -> None:
        texts = TEXTS["en"]
        self.chat = gr.Chatbot(
            label=texts["chat"], show_label=False, height="54vh", min_height=300,
            layout="bubble", elem_id="pg-chat",
            placeholder=texts["placeholder"], sanitize_html=True, allow_tags=False,
            allow_file_downloads=False, feedback_options=None, buttons=[],
            render_markdown=True, line_breaks=False, reasoning_tags=[], latex_delimiters=[],
        )  # fmt: skip
        self.problem = gr.HTML("", padding=False, visible=False)
        self.message = gr.Textbox(
            label=texts["message"], info=texts["message_hint"], lines=1, max_lines=8,
            max_length=100_000, elem_id="pg-message", elem_classes="pg-field",
        )  # fmt: skip
        with gr.Row(elem_id="pg-actions"):
            self.good = gr.Button(texts["good"], interactive=False, scale=0)
            self.bad = gr.Button(texts["bad"], interactive=False, scale=0)
            self.stop = gr.Button(texts["stop"], interactive=False, scale=0)
            self.send = gr.Button(texts["send"], variant="primary", scale=0)

    def _lay_side(self) -> None:
        texts = TEXTS["en"]
        self.facts = gr.HTML(shown.facts(None, "en"), padding=False)
        self.links = gr.HTML("", padding=False, visible=False)
        self.verify = gr.Button(texts["verify"], interactive=False)
        self.checks = gr.HTML("", padding=False, visible=False)
        with gr.Accordion(texts["settings"], open=False) as self.settings:
            self.alias = gr.Dropdown(label=texts["model_choice"], visible=False)
            self.system = gr.Textbox(
                label=texts["system"], info=texts["system_hint"], lines=2, max_lines=6,
                max_length=20_000,
            )  # fmt: skip
            self.temperature = gr.Slider(0, 2, value=0, step=0.1, label=texts["temperature"])
            self.max_tokens = gr.Slider(16, 1024, value=256, step=16, label=texts["max_tokens"])

    def _connect(self, blocks: gr.Blocks) -> None:
        hidden: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        wordy = self._wordy()
        blocks.load(_browser_language, None, self.language, **hidden)
        self.language.change(
            self._speak, [self.language, self.conversation], wordy, queue=False, **hidden
        )
        entered = [
            self.conversation, self.key, self.door, self.room, self.door_problem, self.account,
            self.alias, self.facts,
        ]  # fmt: skip
        gr.on(
            [self.enter.click, self.key.submit], self._enter, [self.key, self.language], entered,
            concurrency_limit=MAX_AT_ONCE, **hidden,
        ).then(  # In the language of now: the browser's may have arrived while the key was checked.
            self._name, [self.conversation, self.language], [self.account, self.facts],
            queue=False, **hidden,
        )  # fmt: skip
        answered = [
            self.conversation, self.chat, self.message, self.problem, self.facts, self.links,
            self.checks, self.send, self.stop, self.verify,
        ]  # fmt: skip
        asked = [
            self.conversation, self.message, self.alias, self.system, self.temperature,
            self.max_tokens, self.language,
        ]  # fmt: skip
        thumbs = [self.good, self.bad]
        rated = [*thumbs, self.problem]
        told = [self.conversation, self.language]
        gr.on(
            [self.send.click, self.message.submit], self._ask, asked, answered,
            concurrency_limit=MAX_AT_ONCE, trigger_mode="once", **hidden,
        ).then(self._thumbs, told, thumbs, queue=False, **hidden)  # fmt: skip
        for button, rate in ((self.good, self._good), (self.bad, self._bad)):
            button.click(rate, told, rated, concurrency_limit=MAX_AT_ONCE, **hidden)
        self.language.change(self._thumbs, told, thumbs, queue=False, **hidden)
        self.stop.click(_stop, self.conversation, None, queue=False, **hidden)
        gr.on(
            [self.new.click, self.chat.clear], self._new, [self.conversation, self.language],
            answered, **hidden,
        ).then(self._thumbs, told, thumbs, queue=False, **hidden)  # fmt: skip
        self.verify.click(
            self._verify, [self.conversation, self.language],
            [self.checks, self.links, self.problem], concurrency_limit=MAX_AT_ONCE, **hidden,
        )  # fmt: skip
        self.leave.click(
            self._leave, [self.conversation, self.language], [*entered, *answered[1:]], **hidden
        ).then(self._thumbs, told, thumbs, queue=False, **hidden)

    async def _enter(self, key: str | None, language: str) -> list[Any]:
        if not key or not key.strip():
            return self._at_door(TEXTS[language]["empty_key"])
        try:
            conversation = await sign_in(self._gateway, key)
        except ConsoleError as error:
            return self._at_door(sentence(error, language))
        aliases = list(conversation.account.aliases) or [conversation.account.tenant_id]
        return [
            conversation,
            "",  # The key leaves the page as soon as it was read.
            gr.update(visible=False),
            gr.update(visible=True),
            _html(""),
            shown.account(conversation.account.tenant_name, language),
            gr.update(choices=aliases, value=aliases[0], visible=len(aliases) > 1),
            shown.facts(None, language),
        ]

    def _name(self, conversation: Conversation | None, language: str) -> list[Any]:
        """Say whose conversation this is; at the door there is nothing to say."""
        if conversation is None:
            return [gr.skip(), gr.skip()]
        name = shown.account(conversation.account.tenant_name, language)
        return [name, shown.facts(conversation.last, language)]

    def _at_door(self, sentence_: str) -> list[Any]:
        door = [gr.update(visible=True), gr.update(visible=False), _html(shown.problem(sentence_))]
        return [None, "", *door, "", gr.update(), gr.update()]

    async def _ask(
        self,
        conversation: Conversation | None,
        message: str | None,
        alias: str,
        system: str | None,
        temperature: float,
        max_tokens: float,
        language: str,
    ) -> AsyncIterator[list[Any]]:
        if conversation is None:
            return
        if not message or not message.strip():
            yield self._resting(conversation, language, TEXTS[language]["empty_message"])
            return
        choices = Choices(alias, system or "", float(temperature), int(max_tokens))
        told, before = conversation.id, len(conversation.turns)
        yield self._answering(conversation, message, language)
        problem, left = "", ""
        try:
            async for _answer in conversation.ask(message, choices):
                yield self._answering(conversation, None, language)
        except ConsoleError as error:
            problem = sentence(error, language)
            # What was not answered at all goes back into the box, to be sent again.
            left = message if len(conversation.turns) == before else ""
        if conversation.id == told:  # A new conversation may have begun meanwhile.
            yield self._resting(conversation, language, problem, left)

    def _answering(self, conversation: Conversation, sent: str | None, language: str) -> list[Any]:
        turns = conversation.turns
        if sent is not None:
            turns = [*turns, {"role": "user", "content": sent}]
        off = gr.update(interactive=False)
        return [
            gr.skip(), _messages(turns), "" if sent is not None else gr.skip(), _html(""),
            shown.facts(conversation.last, language) if sent is None else gr.skip(),
            _html(""), _html(""), off, gr.update(interactive=True), off,
        ]  # fmt: skip

    def _resting(
        self, conversation: Conversation, language: str, problem: str = "", left: str = ""
    ) -> list[Any]:
        last = conversation.last
        return [
            gr.skip(),
            _messages(conversation.turns),
            left,
            _html(shown.problem(problem)),
            shown.facts(last, language),
            self._links(conversation, language),
            _html(""),
            gr.update(interactive=True),
            gr.update(interactive=False),
            gr.update(interactive=bool(last and last.receipt_id)),
        ]

    def _new(self, conversation: Conversation | None, language: str) -> list[Any]:
        if conversation is None:
            return [gr.skip()] * 10
        conversation.begin_again()
        return self._resting(conversation, language)

    async def _verify(self, conversation: Conversation | None, language: str) -> list[Any]:
        last = conversation.last if conversation else None
        problem = "" if last else "no_answer"
        if last and not last.receipt_id:
            problem = "no_receipt"
        if problem or conversation is None:
            return [_html(""), gr.skip(), _html(shown.problem(TEXTS[language][problem]))]
        try:
            found = await conversation.verified()
        except ConsoleError as error:
            return [_html(""), gr.skip(), _html(shown.problem(sentence(error, language)))]
        links = self._links(conversation, language)
        return [_html(shown.checks(found, language)), links, _html("")]

    def _thumbs(self, conversation: Conversation | None, language: str) -> list[Any]:
        """Both thumbs as they stand for the last answer."""
        last = conversation.last if conversation else None
        can_rate = bool(last and last.receipt_id)
        return [
            gr.update(
                value=TEXTS[language][word],
                interactive=can_rate,
                variant="primary" if last is not None and last.thumb == thumb else "secondary",
            )
            for word, thumb in (("good", "up"), ("bad", "down"))
        ]

    async def _good(self, conversation: Conversation | None, language: str) -> list[Any]:
        return await self._rate(conversation, language, "up")

    async def _bad(self, conversation: Conversation | None, language: str) -> list[Any]:
        return await self._rate(conversation, language, "down")

    async def _rate(
        self, conversation: Conversation | None, language: str, thumb: str
    ) -> list[Any]:
        problem = ""
        if conversation is not None:
            try:
                await conversation.rate(thumb)
            except ConsoleError as error:
                problem = sentence(error, language)
        return [*self._thumbs(conversation, language), _html(shown.problem(problem))]

    def _links(self, conversation: Conversation | None, language: str) -> Any:
        last, receipt = (conversation.last, conversation.receipt) if conversation else (None, None)
        return _html(shown.receipt_links(last, receipt, self._console_url, language))

    def _leave(self, conversation: Conversation | None, language: str) -> list[Any]:
        if conversation is not None:
            conversation.begin_again()
            conversation.key = ""
        door = self._at_door("")
        door[-1] = shown.facts(None, language)
        off = gr.update(interactive=False)
        empty = [_html("") for _ in range(3)]
        room = [[], "", empty[0], shown.facts(None, language), *empty[1:]]
        room += [gr.update(interactive=True), off, off]
        return [*door, *room]

    def _wordy(self) -> list[Any]:
        """Every component that says something, in the order of `_speak`."""
        return [
            self.heading, self.key, self.enter, self.account, self.new, self.leave, self.chat,
            self.message, self.send, self.stop, self.facts, self.links, self.verify, self.settings,
            self.alias, self.system, self.temperature, self.max_tokens, self.checks,
            self.door_problem, self.problem,
        ]  # fmt: skip

    def _speak(self, language: str, conversation: Conversation | None) -> list[Any]:
        """Say everything in another language."""
        texts = TEXTS[language]
        last: Answer | None = conversation.last if conversation else None
        return [
            shown.heading(language),
            gr.update(label=texts["key"], info=texts["key_info"]),
            gr.update(value=texts["sign_in"]),
            self._name(conversation, language)[0],
            gr.update(value=texts["new"]),
            gr.update(value=texts["sign_out"]),
            gr.update(label=texts["chat"], placeholder=texts["placeholder"]),
            gr.update(label=texts["message"], info=texts["message_hint"]),
            gr.update(value=texts["send"]),
            gr.update(value=texts["stop"]),
            shown.facts(last, language),
            self._links(conversation, language),
            gr.update(value=texts["verify"]),
            gr.update(label=texts["settings"]),
            gr.update(label=texts["model_choice"]),
            gr.update(label=texts["system"], info=texts["system_hint"]),
            gr.update(label=texts["temperature"]),
            gr.update(label=texts["max_tokens"]),
            _html(""), _html(""), _html(""),
        ]  # fmt: skip


def _html(html: str) -> Any:
    """HTML of a component that takes no room while it is empty."""
    return gr.update(value=html, visible=bool(html))


def _messages(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    return [
        {
            "role": turn["role"],
            "content": shown.text(turn["content"], as_markdown=turn["role"] == "assistant"),
        }
        for turn in turns
    ]


def _stop(conversation: Conversation | None) -> None:
    if conversation is not None:
        conversation.stop.set()


def _browser_language(request: gr.Request) -> str:
    return preferred(request.headers.get("accept-language", ""))
