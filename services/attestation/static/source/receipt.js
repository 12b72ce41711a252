// The receipt: the exact form of its statement, its key's time, and the texts it commits to.
const STATEMENT = "https://in-toto.io/Statement/v1";
const PREDICATE = "https://param-console.dev/inference-receipt/v1";
const TOLERANCE = 300000000n;
const LIMITS = ["weights", "second", "clock", "stolen", "fresh"];
const well = (name, reason, values = {}) => ({ name, ok: true, reason, values, where: "" });
const wrong = (name, reason, values = {}) => ({ name, ok: false, reason, values, where: "" });
function failed(name, error) {
  if (!(error instanceof Refused)) throw error;
  return { name, ok: false, reason: error.reason, values: error.values, where: error.where };
}

const text = (reason, pattern, words = "") => (value, where) => {
  if (typeof value !== "string" || !pattern.test(value)) refuse(`form.${reason}`, `receipt: ${where}`, { words });
};
const word = (...words) => (value, where) => { if (!words.includes(value)) refuse("form.word", `receipt: ${where}`, { words: words.join(", ") }); };
const flag = (value, where) => { if (typeof value !== "boolean") refuse("form.flag", `receipt: ${where}`); };
const maybe = (shape) => (value, where) => { if (value !== null) checked(shape, value, where); };
const NAME = text("name", /^[^\x00-\x1f\x7f]{1,256}$/u), HASH = text("hex", HEX), NUMBER = text("number", /^(?:0|[1-9][0-9]{0,17})$/), MOMENT = text("time", TIME);
const SHAPE = {
  _type: word(STATEMENT),
  subject: [{ name: word("response"), digest: { sha256: HASH } }],
  predicateType: word(PREDICATE),
  predicate: {
    receiptId: NAME, requestId: NAME, issuer: NAME, tenant: NAME, actor: NAME,
    request: { commitment: HASH },
    response: { commitment: HASH, finishReason: text("reason", /^[^\x00-\x1f\x7f]{0,64}$/u), stream: flag, partial: flag },
    model: {
      alias: NAME, served: NAME, base: { name: NAME, digest: { sha256: text("hex_or_none", /^(?:[0-9a-f]{64})?$/) } },
      adapter: maybe({ name: NAME, digest: { sha256: HASH } }),
    },
    rollout: { id: maybe(NAME), arm: word("stable", "canary", "pinned", "fallback"), percent: text("percent", /^(?:100|[1-9]?[0-9])$/) },
    usage: { promptTokens: NUMBER, completionTokens: NUMBER },
    cost: { micro: NUMBER, currency: text("currency", /^[A-Z]{3}$/), priceVersion: NAME },
    guardrails: { policyVersion: NUMBER, policyDigest: { sha256: HASH }, findings: NUMBER },
    audit: { seq: NUMBER, leafHash: HASH },
    time: { received: MOMENT, completed: MOMENT },
  },
};
function checked(shape, value, where) {
  if (typeof shape === "function") return shape(value, where);
  if (Array.isArray(shape)) {
    if (!Array.isArray(value) || value.length !== 1) refuse("form.one", `receipt: ${where}`);
    return checked(shape[0], value[0], `${where}[0]`);
  }
  exactKeys(value, Object.keys(shape), `receipt: ${where || "statement"}`);
  for (const key of Object.keys(shape)) checked(shape[key], value[key], where ? `${where}.${key}` : key);
}
function readStatement(payload) {
  const found = readJson(payload, "receipt");
  checked(SHAPE, found, "");
  const body = found.predicate, adapter = body.model.adapter;
  parseTime(body.time.received, "receipt: time.received");
  parseTime(body.time.completed, "receipt: time.completed");
  const agrees = found.subject[0].digest.sha256 === body.response.commitment && (adapter === null || adapter.name === body.model.served);
  if (!agrees) refuse("receipt.contradiction", "receipt");
  return found;
}

function keyCheck(key, body, isLogged) {
  const said = parseTime(body.time.completed, "receipt: time.completed"), kid = key.kid, last = key.last;
  const isEarly = key.since - said > TOLERANCE, isLate = key.until !== null && said - key.until > TOLERANCE;
  const suffix = key.until === null ? "" : "_until", period = { kid, since: key.sinceText };
  if (key.until !== null) period.until = key.untilText;
  if (isEarly || isLate) return wrong("key", `key.off${suffix}`, { ...period, said: body.time.completed });
  if (last === null) return well("key", `key.ok${suffix}`, period);
  if (BigInt(body.audit.seq) > BigInt(last)) return wrong("key", "key.after", { kid, last, seq: body.audit.seq });
  if (!isLogged) return wrong("key", "key.unproven", { kid, last });
  return well("key", "key.older", { kid, last });
}
async function textCheck(kind, stated, bytes, salt) {
  if (salt === null) return wrong(kind, "no_salt");
  const found = hex(await sha256(utf8(`param.v1/${kind}\u0000`), salt, await sha256(bytes)));
  return found === stated ? well(kind, `${kind}.ok`, { count: bytes.length }) : wrong(kind, `${kind}.other`, { count: bytes.length });
}
