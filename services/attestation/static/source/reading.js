// Reading evidence strictly: one meaning for each byte, or a refusal with a reason.
const MAX_BYTES = 262144, MAX_BUNDLE = 4194304, MOST_DEPTH = 64;
const TIME = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$/;
const HEX = /^[0-9a-f]{64}$/;

class Refused extends Error {
  constructor(reason, where = "", values = {}) {
    super(reason);
    Object.assign(this, { reason, where, values });
  }
  within(where) { return new Refused(this.reason, this.where ? `${where}: ${this.where}` : where, this.values); }
}
const refuse = (reason, where, values) => { throw new Refused(reason, where, values); };
const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const utf8 = (text) => new TextEncoder().encode(text);
const hex = (bytes) => Array.from(bytes, (one) => one.toString(16).padStart(2, "0")).join("");
const same = (a, b) => a.length === b.length && a.every((one, place) => one === b[place]);
// Foreign text as reasons may repeat it: short, and plain.
const plain = (value, most = 60) => typeof value === "string" ? Array.from(value.slice(0, 4 * most), (one) => / |[!-~]/.test(one) ? one : "?").slice(0, most).join("") : "";
function joined(...parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { out.set(part, at); at += part.length; }
  return out;
}
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", joined(...parts)));

// Looks at the brackets alone, texts left out: how deep a parser can go differs by what called it.
function refuseDeep(text, what) {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const sign = text[at];
    if (sign === '"') {
      for (at += 1; at < text.length && text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
    } else if (sign === "[" || sign === "{") {
      depth += 1;
      if (depth > MOST_DEPTH) refuse("json.deep", what, { most: MOST_DEPTH });
    } else if (sign === "]" || sign === "}") depth -= 1;
  }
}

// JSON that every reader reads alike: no key twice, whole numbers of at most 53 bits.
function readJson(bytes, what, most = MAX_BYTES) {
  if (bytes.length > most) refuse("json.size", what, { most, found: bytes.length });
  let text, at = 0, halves = false;
  try { text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes); }
  catch { refuse("json.utf8", what); }
  refuseDeep(text, what);
  const bad = () => refuse("json.syntax", what);
  const odd = (found) => refuse("json.number", what, { found: plain(found) });
  const blank = () => { while (at < text.length && " \t\n\r".includes(text[at])) at += 1; };
  const expect = (word) => { if (!text.startsWith(word, at)) bad(); at += word.length; };
  function string() {
    const begin = at;
    for (at += 1; text[at] !== '"'; at += 1) {
      if (at >= text.length || text[at] < " ") bad();
      if (text[at] !== "\\") continue;
      at += 1;
      if (text[at] === "u") {
        if (!/^[0-9a-fA-F]{4}$/.test(text.slice(at + 1, at + 5))) bad();
        at += 4;
      } else if (at >= text.length || !'"\\/bfnrt'.includes(text[at])) bad();
    }
    at += 1;
    const value = JSON.parse(text.slice(begin, at));
    halves ||= !value.isWellFormed();
    return value;
  }
  function number() {
    for (const word of ["NaN", "Infinity", "-Infinity"]) if (text.startsWith(word, at)) odd(word);
    const found = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;
    found.lastIndex = at;
    const match = found.exec(text);
    if (!match) bad();
    at += match[0].length;
    const whole = match[1] === undefined && match[2] === undefined;
    if (!whole || match[0] === "-0" || match[0].length > 17 || !Number.isSafeInteger(Number(match[0]))) odd(match[0]);
    return Number(match[0]);
  }
  function value() {
    blank();
    if (text[at] === "{") return object();
    if (text[at] === "[") return array();
    if (text[at] === '"') return string();
    for (const [word, meant] of [["true", true], ["false", false], ["null", null]]) {
      if (text.startsWith(word, at)) { at += word.length; return meant; }
    }
    return number();
  }
  function object() {
    const pairs = [], found = Object.create(null);
    expect("{"); blank();
    if (text[at] === "}") { at += 1; return found; }
    for (;;) {
      blank();
      if (text[at] !== '"') bad();
      const key = string();
      blank(); expect(":");
      pairs.push([key, value()]);
      blank();
      if (text[at] === "}") break;
      expect(",");
    }
    at += 1;
    const counts = new Map();
    for (const [key] of pairs) counts.set(key, (counts.get(key) ?? 0) + 1);
    const twice = pairs.find(([key]) => counts.get(key) > 1);
    if (twice !== undefined) refuse("json.twice", what, { key: plain(twice[0]) });
    for (const [key, one] of pairs) found[key] = one;
    return found;
  }
  function array() {
    const found = [];
    expect("["); blank();
    if (text[at] === "]") { at += 1; return found; }
    for (;;) {
      found.push(value());
      blank();
      if (text[at] === "]") { at += 1; return found; }
      expect(",");
    }
  }
  const found = value();
  blank();
  if (at !== text.length) bad();
  if (halves) refuse("json.surrogate", what);
  return found;
}

function exactKeys(value, keys, what) {
  if (!isObject(value)) refuse("object", what);
  const missing = keys.filter((key) => !(key in value)).sort();
  if (missing.length) refuse("field.missing", what, { field: missing[0] });
  const extra = Object.keys(value).filter((key) => !keys.includes(key)).map((key) => plain(key)).sort();
  if (extra.length) refuse("field.extra", what, { field: extra[0] });
  return value;
}
function fromBase64(value, what, urlSafe = false) {
  const form = urlSafe ? /^[A-Za-z0-9_-]*$/ : /^[A-Za-z0-9+/]*={0,2}$/;
  if (typeof value !== "string" || !form.test(value)) refuse("base64", what);
  const padded = urlSafe ? value.replace(/-/g, "+").replace(/_/g, "/") + "=".repeat((4 - (value.length % 4)) % 4) : value;
  let raw = null;
  try { raw = atob(padded); } catch { refuse("base64", what); }
  if (btoa(raw) !== padded) refuse("base64", what);
  return Uint8Array.from(raw, (one) => one.charCodeAt(0));
}
function toBase64Url(bytes) {
  let raw = "";
  for (const one of bytes) raw += String.fromCharCode(one);
  return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

// A time as microseconds since 1970.
function parseTime(value, what) {
  if (typeof value !== "string" || !TIME.test(value)) refuse("time", what);
  const [year, month, day, hour, minute, second] = value.slice(0, 19).split(/[-T:]/).map(Number);
  const date = new Date(Date.UTC(2000, month - 1, day, hour, minute, second));
  date.setUTCFullYear(year, month - 1, day);
  const fits = year > 0 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60;
  if (!fits) refuse("time", what);
  return BigInt(date.getTime()) * 1000n + BigInt(value.slice(20, 26));
}
