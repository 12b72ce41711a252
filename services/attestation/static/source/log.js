// The log: RFC 6962 hashes, RFC 9162 inclusion, C2SP signed notes, RFC 3161 time stamps.
const ORIGIN = "param-console/audit";
const leafHash = (bytes) => sha256(Uint8Array.of(0), bytes);
const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);
async function included(leaf, index, size, path, root) {
  if (index < 0 || index >= size) return false;
  let place = BigInt(index), last = BigInt(size) - 1n, found = leaf;
  for (const node of path) {
    if (last === 0n) return false;
    if (place & 1n || place === last) {
      found = await nodeHash(node, found);
      while (!(place & 1n) && place) { place >>= 1n; last >>= 1n; }
    } else found = await nodeHash(found, node);
    place >>= 1n; last >>= 1n;
  }
  return last === 0n && same(found, root);
}
async function openNote(note, keys) {
  const cut = note.lastIndexOf("\n\n");
  const body = (cut < 0 ? "" : note.slice(0, cut)) + "\n", start = `— ${ORIGIN} `;
  for (const line of cut < 0 ? [] : note.slice(cut + 2).split("\n")) {
    if (!line.startsWith(start)) continue;
    const data = fromBase64(line.slice(start.length), "note signature");
    for (const key of keys.values()) {
      if (key.purpose !== "checkpoint") continue;
      const id = (await sha256(utf8(ORIGIN + "\n\u0001"), key.bytes)).slice(0, 4);
      if (!same(id, data.slice(0, 4))) continue;
      if (!(await ed25519(key.bytes, utf8(body), data.slice(4)))) refuse("note.signature", "note");
      if (key.last !== null) refuse("note.revoked", "checkpoint", { kid: key.kid });
      return body;
    }
  }
  return refuse("note.none", "note", { origin: ORIGIN });
}
function readCheckpoint(body) {
  const lines = body.split("\n"), none = () => refuse("checkpoint.form", "checkpoint", { origin: ORIGIN });
  const fits = lines.length === 4 && lines[0] === ORIGIN && /^(?:0|[1-9][0-9]{0,15})$/.test(lines[1]) && lines[3] === "";
  if (!fits || !Number.isSafeInteger(Number(lines[1]))) none();
  let root = null;
  try { root = fromBase64(lines[2], "checkpoint"); } catch { none(); }
  if (root.length !== 32) none();
  return { size: Number(lines[1]), root };
}
function number(value, what) {
  if (typeof value !== "string" || !/^(?:0|[1-9][0-9]{0,15})$/.test(value) || !Number.isSafeInteger(Number(value))) refuse("number", `proof bundle: ${what}`);
  return Number(value);
}
function pathOf(value) {
  if (!Array.isArray(value) || value.length > 64) refuse("list", "proof bundle: path", { least: 0, most: 64 });
  const path = value.map((node) => fromBase64(node, "proof bundle: path"));
  if (path.some((node) => node.length !== 32)) refuse("hash", "proof bundle: path");
  return path;
}
function shortText(value, what) {
  if (typeof value !== "string" || value.length > 32768 || [...value].length > 16384) refuse("text", `proof bundle: ${what}`);
  return value;
}
const ENTRY = ["action", "actor_id", "actor_name", "at", "details", "seq", "subject", "tenant_id"];
const readEntry = (bytes, what) => exactKeys(readJson(bytes, what), ENTRY, what);
function contradiction(body, entry) {
  const details = isObject(entry.details) ? entry.details : {}, model = body.model;
  const expected = [
    [entry, "seq", Number(body.audit.seq)], [entry, "subject", `request:${body.requestId}`],
    [entry, "tenant_id", body.tenant], [entry, "actor_id", body.actor],
    [details, "request_commitment", body.request.commitment], [details, "response_commitment", body.response.commitment],
    [details, "alias", model.alias], [details, "served", model.served],
    [details, "adapter_digest", model.adapter === null ? null : model.adapter.digest.sha256], [details, "arm", body.rollout.arm],
    [details, "prompt_tokens", Number(body.usage.promptTokens)], [details, "completion_tokens", Number(body.usage.completionTokens)],
    [details, "cost_micro", Number(body.cost.micro)],
  ];
  const other = expected.find(([where, name, value]) => where[name] !== value);
  return other === undefined ? null : other[1];
}

// One element of DER, in its one form; where it is constructed, everything in it as well.
function der(bytes, at = 0, end = bytes.length, depth = 0) {
  const none = () => refuse("stamp.der", "time stamp");
  if (end - at < 2 || (bytes[at] & 0x1f) === 0x1f || depth > 32) none();
  let length = bytes[at + 1], from = at + 2;
  if (length & 0x80) {
    const count = length & 0x7f;
    if (count < 1 || count > 3 || from + count > end || bytes[from] === 0) none();
    length = 0;
    for (const limit = from + count; from < limit; from += 1) length = length * 256 + bytes[from];
    if (length < 0x80) none();
  }
  const found = { tag: bytes[at], begin: at, end: from + length, body: bytes.subarray(from, from + length), parts: [] };
  if (found.end > end) none();
  if (found.tag & 0x20) for (let place = from; place < found.end;) { const part = der(bytes, place, found.end, depth + 1); found.parts.push(part); place = part.end; }
  return found;
}
// As much of a time stamp as can be told without its certificates: which digest it is over, and its time.
function stampedAt(response, imprint) {
  const none = () => refuse("stamp.der", "time stamp");
  const part = (from, place, tag) => { const found = from.parts[place]; if (found === undefined || found.tag !== tag) none(); return found; };
  const is = (from, text) => { if (hex(from.body) !== text) none(); };
  const whole = der(response);
  if (whole.tag !== 0x30 || whole.end !== response.length || whole.parts.length > 2) none();
  const status = part(part(whole, 0, 0x30), 0, 0x02);
  if (whole.parts.length === 1) refuse(hex(status.body) === "00" ? "stamp.der" : "stamp.refusal", "time stamp");
  const token = part(whole, 1, 0x30);
  is(part(token, 0, 0x06), "2a864886f70d010702");
  const signed = part(part(token, 1, 0xa0), 0, 0x30), content = part(signed, 2, 0x30);
  part(signed, 0, 0x02); part(signed, 1, 0x31); part(signed, signed.parts.length - 1, 0x31);
  is(part(content, 0, 0x06), "2a864886f70d0109100104");
  const info = der(part(part(content, 1, 0xa0), 0, 0x04).body);
  if (info.tag !== 0x30) none();
  is(part(info, 0, 0x02), "01");
  part(info, 1, 0x06); part(info, 3, 0x02);
  const digest = part(info, 2, 0x30), algorithm = part(part(digest, 0, 0x30), 0, 0x06);
  const when = String.fromCharCode(...part(info, 4, 0x18).body.subarray(0, 99));
  const parts = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:\.(\d*[1-9]))?Z$/.exec(when);
  if (!parts) none();
  const at = `${parts[1]}-${parts[2]}-${parts[3]}T${parts[4]}:${parts[5]}:${parts[6]}.${(parts[7] ?? "").padEnd(6, "0").slice(0, 6)}Z`;
  try { parseTime(at, ""); } catch { none(); }
  if (hex(status.body) !== "00") refuse("stamp.refusal", "time stamp");
  if (hex(algorithm.body) !== "608648016503040201" || !same(part(digest, 1, 0x04).body, imprint)) refuse("stamp.other", "time stamp");
  return at;
}

// The forms of the log's part, and its time stamp; what needs keys comes after.
async function readLog(log) {
  const out = {
    entry: fromBase64(log.entry, "proof bundle: entry"), index: number(log.leaf_index, "leaf_index"), size: number(log.tree_size, "tree_size"),
    path: pathOf(log.path), note: shortText(log.checkpoint, "checkpoint"), root: null, stamp: null, checks: [], open: ["compared"],
  };
  if (log.timestamp === null) { out.open.push("no_stamp"); return out; }
  exactKeys(log.timestamp, ["authority", "response"], "proof bundle: timestamp");
  const authority = shortText(log.timestamp.authority, "timestamp: authority");
  const response = fromBase64(log.timestamp.response, "proof bundle: timestamp: response");
  try {
    out.stamp = well("timestamp", "stamp.ok", { at: stampedAt(response, await sha256(utf8(out.note))), authority: plain(authority, 200) });
    out.open.push("unchecked_stamp");
  } catch (error) { out.stamp = failed("timestamp", error); }
  return out;
}
async function checkLog(out, keys, body) {
  const { entry, index, size, path, note } = out;
  try {
    const found = readCheckpoint(await openNote(note, keys));
    if (found.size === size) { out.root = found.root; out.checks.push(well("checkpoint", "checkpoint.ok", { size })); }
    else out.checks.push(wrong("checkpoint", "checkpoint.size", { found: found.size, size }));
  } catch (error) { out.checks.push(failed("checkpoint", error)); }
  const parsed = readEntry(entry, "log entry"), leaf = await leafHash(entry), seq = body.audit.seq, field = contradiction(body, parsed);
  if (hex(leaf) !== body.audit.leafHash) out.checks.push(wrong("entry", "entry.other", { seq }));
  else out.checks.push(field === null ? well("entry", "entry.ok", { seq }) : wrong("entry", "entry.says", { seq, field }));
  if (out.root === null) out.checks.push(wrong("inclusion", "inclusion.no_checkpoint"));
  else if (parsed.seq !== index + 1) out.checks.push(wrong("inclusion", "inclusion.other_entry"));
  else if (!(await included(leaf, index, size, path, out.root))) out.checks.push(wrong("inclusion", "inclusion.none"));
  else out.checks.push(well("inclusion", "inclusion.ok", { seq: index + 1, size }));
  return out;
}
