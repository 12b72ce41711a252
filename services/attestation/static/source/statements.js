// The further statements of a bundle: each signed, in the log, and tied to the receipt by digests.
function namedDigests(listed, where, least) {
  if (!Array.isArray(listed) || listed.length < least || listed.length > 1000) refuse("list", `statement: ${where}`, { least, most: 1000 });
  return listed.map((one) => {
    exactKeys(one, ["name", "digest"], `statement: ${where}`);
    const { sha256: digest } = exactKeys(one.digest, ["sha256"], `statement: ${where}`);
    const fits = typeof one.name === "string" && /^[^\x00-\x1f\x7f]{1,256}$/u.test(one.name) && typeof digest === "string" && HEX.test(digest);
    if (!fits) refuse("statement.digest", `statement: ${where}`);
    return digest;
  });
}
async function openStatement(envelope, keys) {
  const { payload, key } = await openEnvelope(envelope, keys, "event");
  const found = exactKeys(readJson(payload, "statement"), ["_type", "subject", "predicateType", "predicate"], "statement");
  if (found._type !== STATEMENT) refuse("statement.type", "statement", { type: STATEMENT });
  if (typeof found.predicateType !== "string" || !/^[^\x00-\x1f\x7f]{1,256}$/u.test(found.predicateType)) refuse("statement.kind", "statement");
  if (!isObject(found.predicate)) refuse("object", "statement: predicate");
  const subjects = namedDigests(found.subject, "subject", 1);
  const digests = namedDigests("materials" in found.predicate ? found.predicate.materials : [], "materials", 0);
  const previous = found.predicate.previous ?? null;
  if (previous !== null) {
    const { sha256: digest } = exactKeys(previous, ["sha256"], "statement: previous");
    if (typeof digest !== "string" || !HEX.test(digest)) refuse("form.hex", "statement: previous");
    digests.push(digest);
  }
  const own = hex(await sha256(payload));
  const kind = /\/([a-z0-9-]{1,40})\/v[0-9]{1,3}$/.exec(found.predicateType)?.[1] ?? "other";
  return { own, key, kind, digests: [own, ...subjects, ...digests] };
}
async function loggedAt(fields, statement, log) {
  if (fields === null) return null;
  exactKeys(fields, ["entry", "leaf_index", "path"], "log");
  const data = fromBase64(fields.entry, "log: entry"), entry = readEntry(data, "log: entry");
  const index = number(fields.leaf_index, "leaf_index"), path = pathOf(fields.path);
  const names = isObject(entry.details) && Object.values(entry.details).includes(statement.own);
  if (log.root === null || !names) refuse("statement.entry", "log");
  if (!(await included(await leafHash(data), index, log.size, path, log.root))) refuse("inclusion.none", "log");
  return index + 1;
}
async function statementsCheck(listed, log, keys, body) {
  const found = [];
  for (const [before, one] of listed.entries()) {
    const place = before + 1;
    exactKeys(one, ["name", "envelope", "log"], `statement ${place}`);
    shortText(one.name, `statement ${place}: name`);
    try {
      const statement = await openStatement(one.envelope, keys), seq = await loggedAt(one.log, statement, log);
      if (statement.key.last !== null && (seq === null || seq > statement.key.last)) return wrong("statements", "statements.revoked", { place });
      if (found.some((other) => other.own === statement.own)) return wrong("statements", "statements.twice", { place });
      found.push(statement);
    } catch (error) { return failed("statements", error instanceof Refused ? error.within(`statement ${place}`) : error); }
  }
  const adapter = body.model.adapter, base = body.model.base.digest.sha256;
  const tied = new Set([adapter === null ? base : adapter.digest.sha256, body.guardrails.policyDigest.sha256].filter(Boolean));
  const open = new Set(found);
  for (let grew = true; grew;) {
    grew = false;
    for (const one of [...open]) if (one.digests.some((digest) => tied.has(digest))) {
      one.digests.forEach((digest) => tied.add(digest)); open.delete(one); grew = true;
    }
  }
  if (open.size) return wrong("statements", "statements.loose", { place: found.indexOf([...open][0]) + 1 });
  const counted = new Map();
  for (const one of found) counted.set(one.kind, (counted.get(one.kind) ?? 0) + 1);
  const kinds = [...counted].map(([kind, n]) => n === 1 ? kind : `${kind} (${n})`).join(", ");
  return well("statements", "statements.ok", { count: found.length, kinds });
}
