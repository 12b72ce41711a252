// What people see: one verdict, each check, what the receipt says, and what nothing here can show.
const at = (id) => document.getElementById(id);
const LANGUAGES = Object.keys(WORDS);
let language = (navigator.languages ?? [navigator.language]).map((one) => one.slice(0, 2)).find((one) => LANGUAGES.includes(one)) ?? "en";
let dropped = null, shown = null, turn = 0;
const t = (key) => WORDS[language].page[key];
const bytesOf = async (input) => input.files.length ? new Uint8Array(await input.files[0].arrayBuffer()) : null;
function element(name, content, kind) {
  const made = document.createElement(name);
  made.textContent = content;
  if (kind) made.className = kind;
  return made;
}
function table(id, head, rows) {
  const line = (cells, name) => { const row = document.createElement("tr"); for (const [content, kind] of cells) row.append(element(name, content, kind)); return row; };
  at(id).replaceChildren(line(head.map((one) => [t(one)]), "th"), ...rows.map((cells) => line(cells, "td")));
}
function facts(value, name = "") {
  if (value !== null && typeof value === "object") return Object.keys(value).flatMap((key) => facts(value[key], name ? `${name}.${key}` : key));
  const known = { true: t("true"), false: t("false"), null: t("nothing"), "": t("nothing") };
  return [[WORDS[language].facts[name] ?? name, typeof value === "string" && value !== "" ? value : known[value] ?? String(value)]];
}
// What matters most comes first, as the words have it.
function ordered(rows) {
  const rank = new Map(Object.values(WORDS[language].facts).map((name, place) => [name, place]));
  return rows.sort(([a], [b]) => (rank.get(a) ?? rank.size) - (rank.get(b) ?? rank.size));
}
function verdictText(kind) {
  if (kind === "refused") return shown.said === undefined ? sentence(WORDS[language], shown.refusal) : t(shown.said);
  return kind === "unpinned" ? `${t("unpinned_text")} ${shown.kid}` : t(`${kind}_text`);
}
function draw() {
  document.documentElement.lang = language;
  document.title = t("title");
  at("language").textContent = t("language");
  at("language").lang = LANGUAGES.find((one) => one !== language);
  for (const place of document.querySelectorAll("[data-t]")) place.textContent = t(place.dataset.t);
  at("result").hidden = shown === null;
  if (shown === null) return;
  const kind = shown.verdict === "holds" && !shown.isPinned ? "unpinned" : shown.verdict;
  at("verdict").className = `verdict ${kind}`;
  at("verdict").dataset.verdict = kind;
  at("verdict").firstElementChild.textContent = t(kind);
  at("verdict").lastElementChild.textContent = verdictText(kind);
  table("checks", ["result", "check", "detail"], shown.checks.map((check) => [
    [`${check.ok ? "✓" : "✗"} ${t(check.ok ? "yes" : "no")}`, check.ok ? "yes" : "no"], [WORDS[language].checks[check.name]], [sentence(WORDS[language], check)],
  ]));
  table("facts", ["what", "value"], shown.statement === null ? [] : ordered(facts(shown.statement.predicate)).map(([name, value]) => [[name], [value]]));
  at("limits").replaceChildren(...shown.limits.map((name) => { const said = WORDS[language].limits[name]; return element("li", said[0].toUpperCase() + said.slice(1) + "."); }));
  at("details").hidden = shown.verdict === "refused";
}
async function canVerify() {
  try { await crypto.subtle.importKey("raw", Uint8Array.of(0x58, ...new Array(31).fill(0x66)), { name: "Ed25519" }, false, ["verify"]); return true; }
  catch { return false; }
}
async function verdict() {
  const file = dropped ?? (await bytesOf(at("file")));
  if (file === null) return null;
  if (!(await canVerify())) return { ...refused(new Refused("unexpected")), said: "old_browser" };
  const given = await bytesOf(at("keys"));
  const found = await verifyFiles(file, given, { request: await bytesOf(at("request")), response: await bytesOf(at("response")) });
  const hasNoKeys = given === null && found.refusal?.reason === "keys.none";
  return hasNoKeys ? { ...found, said: "no_keys" } : found;
}
async function run() {
  // What was shown is about something else from now on; only the newest question is answered.
  const mine = turn += 1;
  shown = null;
  draw();
  const found = await verdict().catch(() => refused(new Refused("unexpected")));  // such as a file that is gone
  if (mine !== turn) return;
  shown = found;
  draw();
}
for (const id of ["file", "keys", "request", "response"]) at(id).addEventListener("change", () => { if (id === "file") dropped = null; run(); });
at("language").addEventListener("click", () => { language = LANGUAGES[(LANGUAGES.indexOf(language) + 1) % LANGUAGES.length]; draw(); });
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, async (event) => {
  event.preventDefault();
  at("drop").classList.toggle("over", kind === "dragover");
  if (kind !== "drop" || !event.dataTransfer.files.length) return;
  dropped = new Uint8Array(await event.dataTransfer.files[0].arrayBuffer());
  at("file").value = "";
  run();
});
draw();
