// Ed25519 with keys and signatures that every strict verifier judges alike. Browsers differ in
// whether they clear the cofactor; with all points in the main subgroup that makes no difference.
const IN_TOTO = "application/vnd.in-toto+json";
const P = (1n << 255n) - 19n, L = (1n << 252n) + 27742317777372353535851937790883648493n;
const modulo = (value) => { const found = value % P; return found < 0n ? found + P : found; };
function power(base, exponent) {
  let found = 1n;
  for (let square = modulo(base), rest = exponent; rest; rest >>= 1n, square = modulo(square * square)) if (rest & 1n) found = modulo(found * square);
  return found;
}
const D = modulo(-121665n * power(121666n, P - 2n)), ROOT = power(2n, (P - 1n) / 4n);
const little = (bytes) => BigInt("0x" + (hex(Uint8Array.from(bytes).reverse()) || "0"));
// Extended coordinates; RFC 8032, section 5.1.4.
function sum([x1, y1, z1, t1], [x2, y2, z2, t2]) {
  const a = modulo((y1 - x1) * (y2 - x2)), b = modulo((y1 + x1) * (y2 + x2)), c = modulo(2n * t1 * t2 * D), d = modulo(2n * z1 * z2);
  const e = b - a, f = d - c, g = d + c, h = b + a;
  return [modulo(e * f), modulo(g * h), modulo(f * g), modulo(e * h)];
}
// The point that 32 bytes encode in their one form; null for none. RFC 8032, section 5.1.3.
function point(bytes) {
  const whole = little(bytes), sign = whole >> 255n, y = whole & ((1n << 255n) - 1n);
  if (y >= P) return null;
  const u = modulo(y * y - 1n), v = modulo(D * y * y + 1n);
  let x = modulo(u * power(v, 3n) * power(u * power(v, 7n), (P - 5n) / 8n));
  if (modulo(v * x * x) === modulo(-u) && u !== 0n) x = modulo(x * ROOT);
  if (modulo(v * x * x) !== u || (x === 0n && sign === 1n)) return null;
  if ((x & 1n) !== sign) x = P - x;
  return [x, y, 1n, modulo(x * y)];
}
const known = new Map();
// Whether 32 bytes are a point of the main subgroup other than the neutral one.
function isSound(bytes) {
  if (bytes.length !== 32) return false;
  const name = hex(bytes);
  if (known.has(name)) return known.get(name);
  const begin = point(bytes);
  let found = begin !== null && !(begin[0] === 0n && begin[1] === 1n);
  if (found) {
    let all = [0n, 1n, 1n, 0n];
    for (let double = begin, rest = L; rest; rest >>= 1n, double = sum(double, double)) if (rest & 1n) all = sum(all, double);
    found = all[0] === 0n && all[1] === all[2];
  }
  if (known.size < 1000) known.set(name, found);
  return found;
}
async function ed25519(bytes, message, signature) {
  if (signature.length !== 64 || little(signature.slice(32)) >= L || !isSound(signature.slice(0, 32))) return false;
  const key = await crypto.subtle.importKey("raw", bytes, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
}

async function trustedKeys(jwks) {
  if (!isObject(jwks) || !Array.isArray(jwks.keys)) refuse("keys.none", "key set");
  const found = new Map();
  for (const jwk of jwks.keys) {
    if (!isObject(jwk) || jwk.kty !== "OKP" || jwk.crv !== "Ed25519") continue;
    const key = await trustedKey(jwk);
    if (found.has(key.kid)) refuse("keys.twice", "key set", { kid: key.kid });
    found.set(key.kid, key);
  }
  return found;
}
async function trustedKey(jwk) {
  const bytes = fromBase64(jwk.x ?? null, "key set: x", true);
  const kid = toBase64Url(await sha256(utf8(`{"crv":"Ed25519","kty":"OKP","x":"${toBase64Url(bytes)}"}`)));
  if (jwk.kid !== kid) refuse("keys.name", "key set", { kid });
  if (!isSound(bytes)) refuse("keys.weak", `key ${kid}`);
  if (typeof jwk.purpose !== "string") refuse("keys.purpose", `key ${kid}`);
  const last = jwk.last_valid_index ?? null, reason = jwk.revoked_reason ?? null, end = jwk.not_after ?? null;
  if (last !== null || reason !== null) {
    if (!Number.isSafeInteger(last) || last < 0) refuse("keys.index", `key ${kid}`);
    if (reason !== null && typeof reason !== "string") refuse("keys.reason", `key ${kid}`);
  }
  return {
    kid, bytes, last, purpose: jwk.purpose, since: parseTime(jwk.not_before, `key ${kid}: not_before`), sinceText: jwk.not_before,
    until: end === null ? null : parseTime(end, `key ${kid}: not_after`), untilText: end,
  };
}

async function openEnvelope(envelope, keys, purpose) {
  const fields = exactKeys(envelope, ["payload", "payloadType", "signatures"], "envelope");
  if (fields.payloadType !== IN_TOTO) refuse("payload_type", "envelope", { type: IN_TOTO });
  if (!Array.isArray(fields.signatures) || fields.signatures.length !== 1) refuse("one_signature", "envelope");
  const { keyid, sig } = exactKeys(fields.signatures[0], ["keyid", "sig"], "envelope signature");
  const key = typeof keyid === "string" ? keys.get(keyid) : undefined;
  if (key === undefined || key.purpose !== purpose) refuse("untrusted", "envelope", { purpose, kid: plain(keyid) });
  const payload = fromBase64(fields.payload, "envelope payload"), signature = fromBase64(sig, "signature");
  const head = utf8(`DSSEv1 ${utf8(IN_TOTO).length} ${IN_TOTO} ${payload.length} `);
  if (!(await ed25519(key.bytes, joined(head, payload), signature))) refuse("signature", "signature");
  return { payload, key };
}
