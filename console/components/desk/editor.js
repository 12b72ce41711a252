// Mending answers. What is typed is kept as a draft after each pause, so that nothing is lost with
// the card, the window or the connection.

const PAUSE_MS = 700;

function drawEditor(desk, card, language) {
  const { words } = desk.data;
  const reason = h("input", {
    type: "text", class: "pc-desk-field", "data-act": "edit_reason", maxlength: desk.data.max_note,
    "aria-label": words.edit_reason, placeholder: words.edit_reason, dir: "auto", autocomplete: "off",
  });
  const leave = (event) => {
    if (event.isComposing || event.key !== "Escape") return;
    event.preventDefault();
    closeEditor(desk);
  };
  reason.addEventListener("keydown", leave);
  const column = (answer, label) => {
    const field = h("textarea", {
      class: "pc-desk-field", rows: "12", dir: "auto", lang: language, spellcheck: "true",
      "aria-label": label, "data-response": answer.id, "aria-keyshortcuts": "Control+Enter",
    });
    field.value = answer.draft ?? answer.text;
    field.dataset.kept = field.value;
    const save = () => {
      clearTimeout(desk.drafting);
      const drafts = allDrafts(desk);
      delete drafts[answer.id];
      desk.act({ do: "save", response: answer.id, text: field.value, reason: reason.value, drafts });
    };
    field.addEventListener("input", () => {
      clearTimeout(desk.drafting);
      desk.drafting = setTimeout(() => keepDrafts(desk), PAUSE_MS);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) {
        event.preventDefault();
        if (!event.repeat) save();
      }
      leave(event);
    });
    return h("div", { class: "pc-desk-edit" },
      h("b", {}, label), field,
      h("div", { class: "pc-desk-change", "data-change": answer.id, lang: language, html: answer.change }),
      h("button", { type: "button", class: "pc-key pc-primary", onclick: save }, words.save_edit, kbd("Ctrl", "↵")));
  };
  return h("div", { class: "pc-desk-editor" },
    h("div", { class: "pc-desk-answers" }, column(card.left, words.left), column(card.right, words.right)),
    h("div", { class: "pc-desk-actions" }, reason,
      keyButton("close", "Esc", words.cancel_edit, () => closeEditor(desk))));
}

function fields(desk) {
  return [...desk.root.querySelectorAll("textarea[data-response]")];
}

function changed(desk) {
  return fields(desk).filter((field) => field.value !== field.dataset.kept);
}

function keepDrafts(desk) {
  clearTimeout(desk.drafting);
  if (!changed(desk).length) return;
  for (const field of fields(desk)) field.dataset.kept = field.value;
  desk.tell({ do: "draft", drafts: allDrafts(desk) });
}

// Both fields each time: of two messages in a row the server may see only the later one. A text as
// it was before is no draft.
function allDrafts(desk) {
  const { left, right } = desk.data.card;
  const before = { [left.id]: left.text, [right.id]: right.text };
  return Object.fromEntries(fields(desk).map((field) => {
    const id = field.dataset.response;
    return [id, field.value === before[id] ? "" : field.value];
  }));
}

function closeEditor(desk) {
  clearTimeout(desk.drafting);
  desk.act({ do: "close", drafts: allDrafts(desk) });
}

// The same card again while somebody types: only what changed beside the text is drawn.
function refreshEditor(desk, card) {
  for (const answer of [card.left, card.right]) {
    const place = desk.root.querySelector(`[data-change="${CSS.escape(answer.id)}"]`);
    if (place && place.innerHTML !== answer.change) place.innerHTML = answer.change;
  }
  if (changed(desk).length) desk.drafting = setTimeout(() => keepDrafts(desk), PAUSE_MS);
}
