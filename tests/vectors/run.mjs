// Runs the static page's own script over the shared vectors, with Node's WebCrypto.
// Usage: node run.mjs verify.html receipts.json; one line of JSON for each vector.
import { readFileSync } from "node:fs";

const [page, file] = process.argv.slice(2);
const script = /<script>([\s\S]*?)<\/script>/.exec(readFileSync(page, "utf8"))[1];
const { verify } = new Function(`${script}; return ParamVerify;`)();
const { jwks, vectors } = JSON.parse(readFileSync(file, "utf8"));
const bytes = (text) => (text === null ? null : Uint8Array.from(Buffer.from(text, "base64")));

for (const one of vectors) {
  const texts = { request: bytes(one.request), response: bytes(one.response) };
  const found = await verify(new TextEncoder().encode(one.file), one.jwks ?? jwks, texts);
  const failed = found.checks.filter((check) => !check.ok).map((check) => check.name).sort();
  console.log(JSON.stringify({ verdict: found.verdict, failed, open: found.notEstablished.length, error: found.error }));
}
