// Panels take the keys while the focus is in them: flags, reasons for a skip, ratings.

const PANELS = {
  flags: { draw: drawFlags, key: flagsKey, stays: (desk) => desk.entry.flags.size > 0 },
  skip: { draw: drawSkip, key: skipKey, stays: () => false },
  ratings: { draw: drawRatings, key: ratingsKey, stays: () => remembered("ratings") === "open" },
};

function drawPanels(desk) {
  return Object.keys(PANELS).map((name) => {
    const panel = h("div", { class: "pc-panel", "data-panel": name, tabindex: "-1" });
    panel.addEventListener("focusout", (event) => {
      if (!panel.contains(event.relatedTarget) && document.hasFocus()) panel.hidden = !PANELS[name].stays(desk);
    });
    fillPanel(desk, panel);
    panel.hidden = !PANELS[name].stays(desk);
    return panel;
  });
}

function fillPanel(desk, panel) {
  panel.replaceChildren(...PANELS[panel.dataset.panel].draw(desk, desk.data.words));
}

function panelOf(desk, name) {
  return desk.root.querySelector(`[data-panel="${name}"]`);
}

function openPanel(desk, name) {
  const panel = panelOf(desk, name);
  if (!panel) return;
  if (name === "ratings") remember("ratings", "open");
  panel.hidden = false;
  panel.querySelector("button, [tabindex='0']")?.focus();
}

function closePanel(desk, name) {
  const panel = panelOf(desk, name);
  desk.focus();
  if (name === "ratings") remember("ratings", "closed");
  panel.hidden = !PANELS[name].stays(desk);
}

function drawChoices(desk, title, choices, isOn, choose) {
  return [
    h("span", { class: "pc-desk-hint" }, title),
    ...choices.map(([name, label], at) =>
      h("button", {
        type: "button", class: "pc-key", "data-choice": name, "aria-keyshortcuts": String(at + 1),
        "aria-pressed": isOn ? String(isOn(name)) : null, onclick: () => choose(name),
      }, kbd(String(at + 1)), h("span", {}, label))),
    kbd("Esc"),
  ];
}

function choiceKey(desk, name, choices, key, choose) {
  if (key === "Escape") closePanel(desk, name);
  else if (choices[Number(key) - 1]) choose(desk, choices[Number(key) - 1][0]);
}

function drawFlags(desk, words) {
  return drawChoices(desk, words.flag_title, desk.data.flags, (name) => desk.entry.flags.has(name),
    (name) => toggleFlag(desk, name));
}

function toggleFlag(desk, name) {
  const { flags } = desk.entry;
  if (!flags.delete(name)) flags.add(name);
  for (const button of panelOf(desk, "flags").querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(flags.has(button.dataset.choice)));
  }
}

function flagsKey(desk, key) {
  if (key === "f") closePanel(desk, "flags");
  else choiceKey(desk, "flags", desk.data.flags, key, toggleFlag);
}

function drawSkip(desk, words) {
  return drawChoices(desk, words.skip_title, desk.data.reasons, null, (name) => skipFor(desk, name));
}

function skipFor(desk, reason) {
  desk.act({ do: "skip", reason, note: desk.entry.note });
}

function skipKey(desk, key) {
  if (key === "s") closePanel(desk, "skip");
  else choiceKey(desk, "skip", desk.data.reasons, key, skipFor);
}

// Ratings: a line for each criterion, left and right beside each other. One place is one tab stop.
function drawRatings(desk, words) {
  const { card, criteria } = desk.data;
  if (!card) return [];
  const sides = [[card.left.id, words.left], [card.right.id, words.right]];
  return [
    h("div", { class: "pc-rating pc-desk-hint" }, h("span", {}, words.rate_title),
      sides.map(([, label]) => h("span", { "aria-hidden": "true" }, label)), kbd("1…5", "↓", "Esc")),
    ...criteria.map(([name, label]) =>
      h("div", { class: "pc-rating" }, h("span", { "aria-hidden": "true" }, label),
        sides.map(([id, side]) => drawRating(desk, id, name, `${side}: ${label}`)))),
  ];
}

function drawRating(desk, id, criterion, label) {
  const given = desk.entry.ratings[id]?.[criterion];
  const grades = [1, 2, 3, 4, 5].map((grade) =>
    h("span", {
      role: "radio", "aria-checked": String(given === grade), "aria-label": String(grade),
      "data-grade": grade, onclick: (event) => rate(desk, event.target.closest("[role=radiogroup]"), grade),
    }, String(grade)));
  return h("div", {
    role: "radiogroup", tabindex: "0", "aria-label": label, "data-id": id, "data-criterion": criterion,
    "data-given": given ?? 0,
  }, grades);
}

function rate(desk, group, grade) {
  const { id, criterion } = group.dataset;
  const given = (desk.entry.ratings[id] ??= {});
  if (grade) given[criterion] = grade;
  else delete given[criterion];
  group.dataset.given = grade;
  for (const one of group.children) one.setAttribute("aria-checked", String(Number(one.dataset.grade) === grade));
}

function ratingsKey(desk, key) {
  const groups = [...panelOf(desk, "ratings").querySelectorAll("[role=radiogroup]")];
  const group = document.activeElement.closest("[role=radiogroup]");
  const step = (by) => groups[groups.indexOf(group) + by]?.focus();
  const given = Number(group?.dataset.given ?? 0);
  if (key === "Escape" || key === "q") closePanel(desk, "ratings");
  else if (!group) groups[0]?.focus();
  else if (/^[1-5]$/.test(key)) { rate(desk, group, Number(key)); step(1); }
  else if (["0", "Backspace", "Delete"].includes(key)) rate(desk, group, 0);
  else if (key === "ArrowRight") rate(desk, group, Math.min(5, given + 1));
  else if (key === "ArrowLeft") rate(desk, group, Math.max(1, given - 1));
  else if (key === "ArrowDown") step(2);
  else if (key === "ArrowUp") step(-2);
}
