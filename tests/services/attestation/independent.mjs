// Verifies receipts with nothing but WebCrypto: DSSE 1.0 over an in-toto statement, Ed25519.
// Reads one JSON object a line, {"envelope", "jwks"}, and answers each with true or false.
import { createInterface } from "node:readline";

const TYPE = "application/vnd.in-toto+json";
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));

function pae(type, payload) {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

async function holds({ envelope, jwks }) {
  const { keyid, sig } = envelope.signatures[0];
  const jwk = jwks.keys.find((key) => key.kid === keyid && key.purpose === "receipt");
  if (!jwk || envelope.payloadType !== TYPE || envelope.signatures.length !== 1) return false;
  const { kty, crv, x } = jwk;
  const key = await crypto.subtle.importKey("jwk", { kty, crv, x }, "Ed25519", false, ["verify"]);
  const payload = bytes(envelope.payload);
  return crypto.subtle.verify("Ed25519", key, bytes(sig), pae(envelope.payloadType, payload));
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(await holds(JSON.parse(line)).catch(() => false));
}
