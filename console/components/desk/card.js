// The card: what was asked, two answers, and whatever is said about them.

const SCALE = [["1", -3], ["2", -2], ["3", -1], ["4", 0], ["5", 1], ["6", 2], ["7", 3]];
const BOTH_BAD = "both_bad";

function drawTexts(desk, card) {
  const { words } = desk.data;
  const language = card.language === "other" ? null : card.language;
  const prompt = h("div", { class: "pc-desk-prompt", lang: language, html: card.turns });
  if (card.mode === "edit") return [prompt, drawEditor(desk, card, language)];
  const shown = card.compare
    ? h("div", { class: "pc-desk-compare" },
        h("p", { class: "pc-desk-hint" }, words.difference_caption),
        h("div", { lang: language, html: card.compare }))
    : h("div", { class: "pc-desk-answers" },
        drawAnswer(card.left, words.left, language), drawAnswer(card.right, words.right, language));
  const whole = card.is_cut
    ? keyButton("whole", "w", words.whole, () => desk.act({ do: "whole" })) : null;
  return [prompt, shown, whole, card.evidence ? drawEvidence(card.evidence, words) : null];
}

function drawAnswer(answer, label, language) {
  const notes = answer.notes.map((note) => h("span", { class: "pc-note" }, note));
  return h("article", { class: "pc-answer", "aria-label": label },
    h("header", {}, h("b", {}, label), h("span", { class: "pc-desk-notes" }, notes)),
    h("div", { lang: language, html: answer.html }));
}

function drawEvidence(evidence, words) {
  const head = h("tr", {}, h("td", {}), h("th", { scope: "col" }, words.left),
    h("th", { scope: "col" }, words.right));
  const rows = evidence.rows.map(([name, left, right]) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, left), h("td", {}, right)));
  const said = evidence.said.map(([who, why]) =>
    h("blockquote", {}, h("b", {}, who), " ", h("span", { dir: "auto" }, why)));
  return h("section", { class: "pc-desk-evidence", "aria-label": words.evidence },
    h("h6", {}, words.evidence), h("p", {}, evidence.verdict),
    rows.length ? h("table", {}, h("thead", {}, head), h("tbody", {}, rows)) : null, said);
}

// The seven grades stand under the answers that they favour.
function drawScale(desk, words) {
  const button = ([key, verdict]) =>
    h("button", {
      type: "button", class: "pc-grade", "data-verdict": verdict, "aria-keyshortcuts": key,
      "aria-pressed": String(desk.entry.verdict === verdict),
      "aria-label": verdict === 0 ? words.grade_0
        : `${verdict < 0 ? words.left_is : words.right_is} ${words[`grade_${Math.abs(verdict)}`]}`,
      onclick: () => desk.vote(verdict),
    }, kbd(key), h("span", {}, words[`grade_${Math.abs(verdict)}`]));
  const part = (name, caption, grades) =>
    h("div", { class: `pc-grades pc-grades-${name}` },
      h("span", { class: "pc-desk-hint", "aria-hidden": "true" }, caption),
      h("div", {}, grades.map(button)));
  return h("div", { class: "pc-scale", role: "group", "aria-label": words.question },
    part("left", words.left_is, SCALE.slice(0, 3)),
    part("tie", words.neither, SCALE.slice(3, 4)),
    part("right", words.right_is, SCALE.slice(4)));
}

function drawActions(desk, card, words) {
  const view = (name, key, on) =>
    keyButton(name, key, words[name], () => desk.act({ do: name }), { "aria-pressed": String(on) });
  const panel = (name, key, label) =>
    keyButton(name, key, label, () => openPanel(desk, name), { "aria-haspopup": "true" });
  const isRevising = card.mode === "revise";
  return h("div", { class: "pc-desk-actions", role: "toolbar", "aria-label": words.actions },
    keyButton("both_bad", "0", words.both_bad, () => desk.vote(BOTH_BAD),
      { "aria-pressed": String(desk.entry.verdict === BOTH_BAD) }),
    isRevising ? keyButton("keep", "Esc", words.keep, () => desk.act({ do: "keep" })) : null,
    isRevising ? null : panel("skip", "s", words.skip),
    panel("flags", "f", words.flag),
    panel("ratings", "q", words.rate),
    isRevising ? null : keyButton("edit", "e", words.edit, () => desk.act({ do: "edit" })),
    view("difference", "d", card.view.difference), view("markdown", "m", card.view.markdown),
    isRevising ? null : keyButton("undo", "z", words.undo, () => desk.act({ do: "undo" })));
}

function drawNote(desk, words) {
  const field = h("input", {
    type: "text", class: "pc-desk-field", "data-act": "note", maxlength: desk.data.max_note,
    "aria-label": words.note, placeholder: words.note, dir: "auto", autocomplete: "off",
    "aria-keyshortcuts": "n",
  });
  field.value = desk.entry.note;
  field.addEventListener("input", () => { desk.entry.note = field.value; });
  field.addEventListener("keydown", (event) => {
    if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    desk.focus();
  });
  return h("label", { class: "pc-desk-note" }, kbd("N"), field);
}
