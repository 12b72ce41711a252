// A list of which one row is chosen: sorted, searched and chosen from without the server's help.
// Foreign text goes in as text, never as HTML.

const AT_ONCE = 40; // Rows of the first frame; the others follow as soon as it is painted.
const PAGE = 6; // Rows that Page Up and Page Down pass.
const MANY = 8; // Fewer rows are seen at a glance and need no search.

// Safari has no idle callbacks; a page that is never idle gets its rows all the same.
const PATIENCE_MS = 300;
const whenIdle = (act) => (window.requestIdleCallback ? requestIdleCallback(act, { timeout: PATIENCE_MS }) : setTimeout(act, 50));
const forget = window.cancelIdleCallback ?? clearTimeout;

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

const DRAW = {
  text: (value) => [value, value],
  code: (value) => [element("code", {}, value), value],
  newest: (value) => [value, value],
  status: ([word, colour]) => [element("span", { class: "pc-list-status", "data-colour": colour }, word), word],
  share: ([fraction, said]) => [
    element("span", { class: "pc-list-share" },
      element("span", { class: "pc-list-bar", "aria-hidden": "true" },
        element("i", { style: `width:${Math.round(100 * fraction)}%` })), said),
    said,
  ],
};

class PickList {
  constructor(parent) {
    this.lines = new Map();
    this.sorted = { column: -1, down: false };
    this.search = element("input", { type: "search", class: "pc-list-search", oninput: () => this.lay() });
    this.told = element("span", { class: "pc-list-told", role: "status" });
    this.tools = element("div", { class: "pc-list-tools" }, this.search, this.told);
    this.sizes = element("colgroup");
    this.head = element("tr", { role: "row", "aria-rowindex": 1 });
    this.body = element("tbody", { role: "rowgroup", onclick: (event) => this.clicked(event), onkeydown: (event) => this.struck(event) });
    this.table = element("table", { role: "grid" }, this.sizes, element("thead", { role: "rowgroup" }, this.head), this.body);
    this.frame = element("div", { class: "pc-list-frame" }, this.table);
    this.root = element("div", { class: "pc-list" }, this.tools, this.frame);
    parent.append(this.root);
  }

  close() {
    forget(this.later);
    this.root.remove();
  }

  draw(data) {
    const columns = JSON.stringify([data.columns, data.language]);
    this.data = data;
    this.chosen = data.chosen;
    this.table.setAttribute("aria-label", data.name);
    this.search.placeholder = data.words.search;
    this.search.setAttribute("aria-label", data.words.search);
    this.tools.hidden = data.rows.length <= MANY;
    if (columns !== this.columns) this.titles();
    this.columns = columns;
    const fresh = !this.body.firstChild;
    this.lay();
    if (fresh) this.show(this.lines.get(this.chosen)?.line);
  }

  titles() {
    this.lines.clear();
    const total = this.data.columns.reduce((sum, column) => sum + column.width_rem, 0);
    this.table.style.minWidth = `${total}rem`;
    this.sizes.replaceChildren(...this.data.columns.map(
      (column) => element("col", { style: `width:${(100 * column.width_rem) / total}%` })));
    this.head.replaceChildren(...this.data.columns.map((column, index) =>
      element("th", { role: "columnheader", scope: "col", "aria-sort": "none" },
        element("button", { type: "button", onclick: () => this.sort(index) }, column.title))));
  }

  // --- which rows, in which order ---

  sort(column) {
    const down = this.sorted.column === column && !this.sorted.down;
    this.sorted = { column, down };
    [...this.head.children].forEach((title, index) => title.setAttribute(
      "aria-sort", index !== column ? "none" : down ? "descending" : "ascending"));
    this.lay();
  }

  order() {
    const { columns, rows, language } = this.data;
    const asked = this.search.value.trim().toLocaleLowerCase(language);
    const found = asked
      ? rows.filter((row) => this.words(row).toLocaleLowerCase(language).includes(asked))
      : [...rows];
    const { column, down } = this.sorted;
    if (column < 0) return found;
    const { kind } = columns[column];
    if (kind === "newest") return down ? found : found.reverse();
    const { compare } = new Intl.Collator(language, { numeric: true });
    const by = (row) => (Array.isArray(row[column + 1]) ? row[column + 1][0] : row[column + 1]);
    const way = down ? -1 : 1;
    return found.sort((one, two) => way * (kind === "share" ? by(one) - by(two) : compare(by(one), by(two))));
  }

  words(row) {
    return this.data.columns.map(({ kind }, index) => DRAW[kind](row[index + 1])[1]).join("\n");
  }

  // --- drawing ---

  lay() {
    forget(this.later);
    const rows = this.order();
    const held = document.activeElement?.closest?.("tr")?.dataset.id;
    this.table.setAttribute("aria-rowcount", rows.length + 1);
    const place = rows.findIndex(([id]) => id === this.chosen);
    const now = Math.max(AT_ONCE, place + AT_ONCE / 2, this.body.childElementCount);
    this.body.replaceChildren(...rows.slice(0, now).map((row, index) => this.line(row, index)));
    this.rest(rows, now);
    this.mark(rows.length ? (place < 0 ? rows[0][0] : this.chosen) : null);
    if (held && this.lines.get(held)?.line.isConnected) this.lines.get(held).line.focus({ preventScroll: true });
    const { found, none } = this.data.words;
    const asked = this.search.value.trim() !== "";
    this.told.textContent = rows.length === 0 ? none : !asked ? ""
      : found.replace("{count}", rows.length).replace("{all}", this.data.rows.length);
  }

  // The rest comes in small parts whenever nothing else is to be done, so that no frame waits.
  rest(rows, from) {
    if (from >= rows.length) return;
    this.later = whenIdle(() => {
      const to = from + AT_ONCE;
      this.body.append(...rows.slice(from, to).map((row, index) => this.line(row, from + index)));
      this.rest(rows, to);
    });
  }

  line(row, index) {
    const drawn = JSON.stringify(row);
    const known = this.lines.get(row[0]) ?? { line: element("tr", { role: "row", "data-id": row[0], tabindex: -1 }) };
    if (known.drawn !== drawn) {
      known.drawn = drawn;
      known.line.replaceChildren(...this.data.columns.map(({ kind }, column) => {
        const [content, said] = DRAW[kind](row[column + 1]);
        return element("td", { role: "gridcell", title: said, "data-kind": kind }, content);
      }));
      this.lines.set(row[0], known);
    }
    known.line.setAttribute("aria-rowindex", index + 2);
    known.line.setAttribute("aria-selected", String(row[0] === this.chosen));
    return known.line;
  }

  // One row of the list is reached by Tab, as in every grid.
  mark(id) {
    this.stop?.setAttribute("tabindex", -1);
    this.stop = this.lines.get(id)?.line;
    this.stop?.setAttribute("tabindex", 0);
  }

  show(line) {
    if (!line) return;
    const above = line.offsetTop - this.head.offsetHeight;
    const below = line.offsetTop + line.offsetHeight - this.frame.clientHeight;
    if (this.frame.scrollTop > above) this.frame.scrollTop = above;
    else if (this.frame.scrollTop < below) this.frame.scrollTop = below;
  }

  // --- choosing ---

  clicked(event) {
    const line = event.target.closest("tr");
    if (line) this.choose(line);
  }

  choose(line) {
    const { id } = line.dataset;
    line.focus({ preventScroll: true });
    this.mark(id);
    if (id === this.chosen) return;
    this.lines.get(this.chosen)?.line.setAttribute("aria-selected", "false");
    this.chosen = id;
    line.setAttribute("aria-selected", "true");
    this.tell(id);
  }

  struck(event) {
    const line = event.target.closest("tr");
    if (!line || event.ctrlKey || event.metaKey || event.altKey) return;
    const lines = [...this.body.children];
    const at = lines.indexOf(line);
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + PAGE, PageUp: at - PAGE, Home: 0, End: lines.length - 1,
    }[event.key];
    if (to !== undefined) {
      const next = lines[Math.min(Math.max(to, 0), lines.length - 1)];
      this.mark(next.dataset.id);
      next.focus({ preventScroll: true });
      this.show(next);
    } else if (event.key === "Enter" || event.key === " ") this.choose(line);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}

export default function (component) {
  const { parentElement, data, setStateValue } = component;
  parentElement.paramList ??= new PickList(parentElement);
  const list = parentElement.paramList;
  list.tell = (id) => setStateValue("chosen", id);
  list.draw(data);
  return () => {
    list.close();
    delete parentElement.paramList;
  };
}
