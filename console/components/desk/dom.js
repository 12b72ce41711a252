// Small tools for the desk. Foreign text goes in as text; `html` takes only what the server escaped.

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "html") element.innerHTML = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function kbd(...keys) {
  return h("span", { class: "pc-kbds", "aria-hidden": "true" }, keys.map((key) => h("kbd", {}, key)));
}

// A button with the key that does the same. The key is told to screen readers by its own attribute.
function keyButton(name, key, label, onclick, more) {
  return h(
    "button",
    { type: "button", class: "pc-key", "data-act": name, "aria-keyshortcuts": key, onclick, ...more },
    kbd(key.length === 1 ? key.toUpperCase() : key), h("span", {}, label),
  );
}

function remembered(name, otherwise) {
  try {
    return localStorage.getItem(`param.desk.${name}`) ?? otherwise;
  } catch {
    return otherwise; // Storage can be closed to a page; the desk then forgets its panels.
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`param.desk.${name}`, value);
  } catch {
    // As above.
  }
}

// The guidelines stand beside the card from the start where there is room for both.
function isGuideOpen() {
  return remembered("guidelines", window.innerWidth > 900 ? "open" : "closed") === "open";
}
