// Runs the static page's own script over the shared vectors, with Node's WebCrypto.
// Usage: node run.mjs verify.html receipts.json; one line of JSON for each vector.
import { readFileSync } from "node:fs";

const [page, file] = process.argv.slice(2);
const script = /<script>([\s\S]*?)<\/script>/.exec(readFileSync(page, "utf8"))[1];
const { verifyFiles, sentence, WORDS } = new Function(`${script}; return { verifyFiles, sentence, WORDS };`)();
const { jwks, vectors } = JSON.parse(readFileSync(file, "utf8"));
const bytes = (text) => (text === null ? null : Uint8Array.from(Buffer.from(text, "base64")));

for (const one of vectors) {
  const texts = { request: bytes(one.request), response: bytes(one.response) };
  const utf8 = (text) => new TextEncoder().encode(text);
  const found = await verifyFiles(utf8(one.file), utf8(JSON.stringify(one.jwks ?? jwks)), texts);
  const said = (reason) => sentence(WORDS.en, reason);
  console.log(JSON.stringify({
    verdict: found.verdict,
    refusal: found.refusal && said(found.refusal),
    checks: found.checks.map((check) => [check.name, check.ok, said(check)]),
    limits: found.limits.map((name) => WORDS.en.limits[name]),
  }));
}
