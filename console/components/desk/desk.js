// The desk: draws what the server sends, and tells it what the person did, one act at a time.

const GUARD_MS = 200; // Nobody has read a card in that time: such a key was meant for the one before.
const PATIENCE_MS = 15_000;
const TOUCH_MS = 90_000;

class Desk {
  constructor(root) {
    this.root = root;
    this.clock = makeClock();
    this.name = Math.random().toString(36).slice(2);
    this.count = 0;
    this.awaited = null;
    this.entry = { pair: null };
    this.drawn = "";
    this.onKey = (event) => this.key(event);
    this.onTurn = () => this.turned();
    document.addEventListener("keydown", this.onKey);
    document.addEventListener("visibilitychange", this.onTurn);
    this.touching = setInterval(() => { if (this.clock.isAwake()) this.touch(); }, TOUCH_MS);
  }

  close() {
    document.removeEventListener("keydown", this.onKey);
    document.removeEventListener("visibilitychange", this.onTurn);
    clearInterval(this.touching);
    for (const timer of [this.drafting, this.waiting, this.guarding]) clearTimeout(timer);
    this.clock.stop();
  }

  // --- to the server ---

  tell(act) {
    const { card } = this.data;
    this.told = performance.now();
    this.send({
      n: `${this.name}-${++this.count}`, pair: card?.pair ?? "", left: card?.left.id ?? "",
      right: card?.right.id ?? "", ...act,
    });
  }

  // One act at a time: until the server has answered, nothing else is done.
  act(act) {
    if (this.awaited) return;
    this.tell(act);
    this.awaited = `${this.name}-${this.count}`;
    this.state("busy");
    this.waiting = setTimeout(() => this.free(this.data.words.slow), PATIENCE_MS);
  }

  vote(verdict) {
    const { card } = this.data;
    if (this.awaited || !card || card.mode === "edit" || this.root.dataset.state === "fresh") return;
    const { note, flags, ratings } = this.entry;
    this.entry.verdict = verdict;
    for (const button of this.root.querySelectorAll("[data-verdict], [data-act=both_bad]")) {
      button.setAttribute("aria-pressed", String((button.dataset.verdict ?? BOTH_BAD) === String(verdict)));
    }
    const given = Object.entries(ratings).filter(
      ([id, grades]) => [card.left.id, card.right.id].includes(id) && Object.keys(grades).length);
    this.act({
      do: card.mode === "revise" ? "revote" : "vote", verdict, note, flags: [...flags],
      ratings: Object.fromEntries(given), active_ms: this.clock.milliseconds(),
    });
  }

  touch() {
    if (this.data?.card && !this.awaited) this.tell({ do: "touch" });
  }

  turned() {
    if (document.hidden && this.data?.card?.mode === "edit") keepDrafts(this);
    else if (!document.hidden && performance.now() - this.told > TOUCH_MS) this.touch();
  }

  state(name) {
    this.root.dataset.state = name;
    this.root.setAttribute("aria-busy", String(name === "busy"));
  }

  free(message) {
    clearTimeout(this.waiting);
    this.awaited = null;
    this.state("ready");
    if (message) this.say(message);
  }

  // --- keys ---

  key(event) {
    const key = meantKey(event);
    if (key === null || !this.data) return;
    if (key === "?") {
      event.preventDefault();
      this.sheet();
      return;
    }
    // What is struck while an act is on its way belongs to a card that may be gone by then.
    if (this.awaited) return;
    const panel = document.activeElement?.closest("[data-panel]");
    if (panel && this.root.contains(panel)) {
      if (key === "Tab" || key === "Enter" || key === " ") return;
      event.preventDefault();
      PANELS[panel.dataset.panel].key(this, key);
      return;
    }
    const meant = this.meaning(key);
    if (!meant) return;
    event.preventDefault();
    meant();
  }

  meaning(key) {
    const { card, last } = this.data;
    const ask = (act) => () => this.act(act);
    if (key === "g" && this.data.guidelines) return () => this.guide();
    if (card?.mode === "edit") return key === "Escape" ? () => closeEditor(this) : null;
    const revising = card?.mode === "revise";
    if (!revising && key === "z") return ask({ do: "undo" });
    if (!revising && key === "v" && last) return ask({ do: "revise" });
    if (!card) return null;
    const grade = SCALE.find(([digit]) => digit === key);
    if (grade) return () => this.vote(grade[1]);
    return {
      0: () => this.vote(BOTH_BAD),
      f: () => openPanel(this, "flags"),
      q: () => openPanel(this, "ratings"),
      n: () => this.root.querySelector("[data-act=note]")?.focus(),
      d: ask({ do: "difference" }),
      m: ask({ do: "markdown" }),
      w: card.is_cut ? ask({ do: "whole" }) : null,
      ...(revising ? { Escape: ask({ do: "keep" }) } : { s: () => openPanel(this, "skip"), e: ask({ do: "edit" }) }),
    }[key] ?? null;
  }

  sheet() {
    const { words, keys } = this.data;
    const rows = keys.flatMap(([names, text]) =>
      [h("span", { class: "pc-kbds" }, names.split(" ").map((name) => h("kbd", {}, name))), h("span", {}, text)]);
    const sheet = h("dialog", { class: "pc-sheet", "aria-label": words.keys },
      h("h4", {}, words.keys), h("div", { class: "pc-keys" }, rows), h("p", { class: "pc-desk-hint" }, words.keys_note),
      h("button", { type: "button", class: "pc-key", autofocus: true, onclick: () => sheet.close() }, kbd("Esc"), words.close));
    sheet.addEventListener("close", () => sheet.remove());
    sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });
    sheet.addEventListener("keydown", (event) => {
      if (event.key !== "?") return;
      event.preventDefault();
      event.stopPropagation();
      sheet.close();
    });
    this.root.append(sheet);
    sheet.showModal();
  }

  guide() {
    const open = !isGuideOpen();
    remember("guidelines", open ? "open" : "closed");
    this.root.querySelector(".pc-desk-guide").hidden = !open;
    this.root.querySelector("[data-act=guidelines]").setAttribute("aria-expanded", String(open));
  }

  // --- drawing ---

  focus() {
    this.root.querySelector(".pc-desk-card")?.focus({ preventScroll: true });
  }

  say(text) {
    this.root.querySelector(".pc-desk-said").textContent = text;
  }

  draw(data) {
    const before = this.data;
    this.data = data;
    const { card } = data;
    const answered = !this.awaited || data.seen === this.awaited;
    const is_new = card?.pair !== before?.card?.pair || card?.mode !== before?.card?.mode;
    if (card && (this.entry.pair !== card.pair || (is_new && card.mode === "revise"))) this.begin(card);
    const what = JSON.stringify([
      card && [card.pair, card.mode, card.left.id, card.right.id, card.left.notes, card.right.notes, card.view],
      data.empty, data.words.keys, data.guidelines,
    ]);
    if (what !== this.drawn) {
      this.drawn = what;
      this.fill(is_new);
    } else {
      this.fillLast();
      if (card?.mode === "edit") refreshEditor(this, card);
    }
    if (answered) {
      this.free();
      this.release();
    }
    if (is_new) this.arrive(before);
  }

  // The verdict that was struck is marked only while it is on its way, or while it is revised.
  release() {
    const verdict = this.data.card?.mode === "revise" ? this.entry.verdict : undefined;
    for (const button of this.root.querySelectorAll("[data-verdict], [data-act=both_bad]")) {
      button.setAttribute("aria-pressed", String((button.dataset.verdict ?? BOTH_BAD) === String(verdict)));
    }
  }

  begin(card) {
    const { note = "", flags = [], ratings = {}, verdict } = card.vote ?? {};
    this.entry = { pair: card.pair, note, flags: new Set(flags), ratings: structuredClone(ratings), verdict };
    this.clock.restart();
  }

  fill(is_new) {
    const { card, words, empty, guidelines } = this.data;
    const inside = this.root.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    const body = card
      ? [
          card.mode === "revise" ? h("p", { class: "pc-desk-again" }, card.evidence ? words.revising : words.revising_blind) : null,
          ...drawTexts(this, card),
        ]
      : [h("div", { class: "pc-desk-empty pc-empty" }, h("h4", {}, empty.title), h("p", {}, empty.text))];
    const bar = card && card.mode !== "edit"
      ? h("div", { class: "pc-desk-bar" }, drawPanels(this), drawScale(this, words),
          h("div", { class: "pc-desk-below" }, drawNote(this, words), drawActions(this, card, words)))
      : null;
    const open = isGuideOpen();
    const guide = guidelines
      ? h("aside", { class: "pc-desk-guide", "aria-label": words.guidelines, ...(open ? {} : { hidden: true }) },
          h("h6", {}, words.guidelines), h("div", { html: guidelines }))
      : null;
    this.root.replaceChildren(
      h("div", { class: "pc-desk-said pc-unseen", role: "status", "aria-live": "polite" }),
      h("div", { class: "pc-desk-top" }, h("div", { class: "pc-desk-progress" }), h("div", { class: "pc-desk-tools" },
        guidelines ? keyButton("guidelines", "g", words.guidelines, () => this.guide(), { "aria-expanded": String(open) }) : null,
        keyButton("keys", "?", words.keys, () => this.sheet(), { "aria-haspopup": "dialog" }))),
      h("div", { class: "pc-desk-last" }),
      h("div", { class: "pc-desk-main" },
        h("section", { class: "pc-desk-card", tabindex: "-1", "aria-label": words.card, "data-pair": card?.pair }, ...body.filter(Boolean)),
        ...(guide ? [guide] : [])),
      ...(bar ? [bar] : []),
    );
    this.fillLast();
    if (inside && !is_new) this.root.querySelector(`[data-act="${inside}"]`)?.focus({ preventScroll: true });
  }

  fillLast() {
    const { last, progress, words, card } = this.data;
    const bar = h("div", { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": Math.round(progress.value * 100), "aria-label": progress.text }, h("i", {}));
    bar.firstChild.style.width = `${progress.value * 100}%`;
    this.root.querySelector(".pc-desk-progress").replaceChildren(
      h("span", { class: "pc-desk-hint" }, progress.text), bar);
    const strip = this.root.querySelector(".pc-desk-last");
    strip.hidden = !last || card?.mode === "revise";
    if (strip.hidden) return;
    strip.dataset.tone = last.tone;
    const can_revise = card?.mode !== "edit";
    strip.replaceChildren(...[
      h("span", {}, h("b", {}, words.last), " ", last.you),
      last.ai && h("span", { class: "pc-desk-ai" }, last.ai),
      last.facts && h("span", { class: "pc-desk-hint" }, last.facts),
      can_revise && keyButton("revise", "v", words.revise, () => this.act({ do: "revise" })),
    ].filter(Boolean));
  }

  // A new card: seen from its beginning, told to who cannot see it, deaf to keys struck too early.
  arrive(before) {
    const { card, last, progress, words, empty } = this.data;
    if (before) {
      const top = this.root.getBoundingClientRect().top;
      if (top < 0) this.root.scrollIntoView({ block: "start" });
      const said = last && last.review !== before.last?.review ? `${words.last} ${last.you}. ${last.ai}. ` : "";
      this.say(said + (card ? `${words.next} ${progress.text}` : `${empty.title}. ${empty.text}`));
    }
    if (card?.mode === "edit") this.root.querySelector("textarea")?.focus();
    else if (before) this.focus();
    if (!card || !before || card.mode === "edit") return;
    this.state("fresh");
    clearTimeout(this.guarding);
    this.guarding = setTimeout(() => { if (this.root.dataset.state === "fresh") this.state("ready"); }, GUARD_MS);
  }
}

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  if (!parentElement.paramDesk) {
    const root = h("div", { class: "pc-desk", role: "region" });
    parentElement.append(root);
    parentElement.paramDesk = new Desk(root);
  }
  const desk = parentElement.paramDesk;
  desk.send = (act) => setTriggerValue("act", act);
  desk.root.setAttribute("aria-label", data.words.desk);
  desk.draw(data);
  return () => {
    desk.close();
    desk.root.remove();
    delete parentElement.paramDesk;
  };
}
