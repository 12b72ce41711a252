// The verdict over a file: {verdict: "holds" | "fails" | "refused", refusal, checks, limits, statement, kid}.
const FORMAT = "https://param-console.dev/proof-bundle/v1", MOST_STATEMENTS = 200;
function readSalt(value) {
  if (value === null) return null;
  if (typeof value !== "string" || !HEX.test(value)) refuse("file.salt", "receipt file");
  return Uint8Array.from(value.match(/../g), (pair) => parseInt(pair, 16));
}
function readFile(bytes) {
  const isMarked = new TextDecoder("latin1").decode(bytes).includes('"format"');
  const found = readJson(bytes, "receipt file", isMarked ? MAX_BUNDLE : MAX_BYTES);
  if (isObject(found) && "format" in found) {
    exactKeys(found, ["format", "receipt", "salt", "log", "keys", "statements"], "proof bundle");
    if (found.format !== FORMAT) refuse("bundle.format", "proof bundle", { format: FORMAT });
    if (!Array.isArray(found.statements) || found.statements.length > MOST_STATEMENTS) refuse("list", "proof bundle: statements", { least: 0, most: MOST_STATEMENTS });
    const salt = readSalt(found.salt);
    exactKeys(found.log, ["entry", "leaf_index", "tree_size", "path", "checkpoint", "timestamp"], "proof bundle: log");
    return { envelope: found.receipt, salt, bundle: found, receiptId: null };
  }
  if (!isObject(found) || !("envelope" in found)) return { envelope: found, salt: null, bundle: null, receiptId: null };
  exactKeys({ salt: null, ...found }, ["receipt_id", "envelope", "salt"], "receipt file");
  if (typeof found.receipt_id !== "string") refuse("text", "receipt file: receipt_id");
  return { envelope: found.envelope, salt: readSalt(found.salt ?? null), bundle: null, receiptId: found.receipt_id };
}
const refused = (error) => ({ verdict: "refused", refusal: { reason: error.reason, where: error.where, values: error.values }, checks: [], limits: [], statement: null, kid: null, isPinned: true });
async function judged(file, jwks, { request, response }) {
  const given = readFile(file), bundle = given.bundle;
  const trusted = jwks ?? bundle?.keys ?? null;
  const log = bundle === null ? null : await readLog(bundle.log);
  const keys = await trustedKeys(trusted);
  const { payload, key } = await openEnvelope(given.envelope, keys, "receipt");
  const statement = readStatement(payload), body = statement.predicate;
  const found = log === null ? null : await checkLog(log, keys, body);
  const isLogged = found !== null && found.checks.every((check) => check.ok);
  const checks = [well("form", "form.ok"), well("signature", "signature.ok"), keyCheck(key, body, isLogged), ...(found?.checks ?? [])];
  if (request !== null) checks.push(await textCheck("request", body.request.commitment, request, given.salt));
  if (response !== null) checks.push(await textCheck("response", body.response.commitment, response, given.salt));
  if (found?.stamp) checks.push(found.stamp);
  if (bundle !== null && bundle.statements.length) checks.push(await statementsCheck(bundle.statements, found, keys, body));
  if (given.receiptId !== null && given.receiptId !== body.receiptId) refuse("file.id", "receipt file");
  const verdict = checks.every((check) => check.ok) ? "holds" : "fails";
  return { verdict, refusal: null, checks, limits: [...LIMITS, ...(found?.open ?? [])], statement, kid: key.kid, isPinned: jwks !== null };
}
async function verify(file, jwks = null, { request = null, response = null } = {}) {
  try { return await judged(file, jwks ?? null, { request, response }); }
  catch (error) {
    // Whatever goes wrong, nothing holds: also where this program did not foresee it.
    return refused(error instanceof Refused ? error : new Refused("unexpected"));
  }
}
// The same with the key set as its file has it; without one, the keys that came along are tried.
async function verifyFiles(file, keys, texts) {
  let jwks = null;
  try { if (keys !== null) jwks = readJson(keys, "key set"); }
  catch (error) { return refused(error instanceof Refused ? error : new Refused("unexpected")); }
  return verify(file, jwks, texts);
}
const sentence = (words, { reason, values, where }) => {
  const said = (words.reasons[reason] ?? reason).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
  return where ? `${where}: ${said}` : said;
};
