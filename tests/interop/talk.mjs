// Answers questions about tokens with npm's jose: a line of JSON in, a line of JSON out.

import { createInterface } from "node:readline";
import {
  CompactEncrypt,
  SignJWT,
  compactDecrypt,
  createRemoteJWKSet,
  importJWK,
  jwtVerify,
} from "jose";

const answers = {
  // Verify an access token by the keys at a URL, as another service does.
  async verify({ url, token, options }) {
    const keys = createRemoteJWKSet(new URL(url));
    const { payload, protectedHeader } = await jwtVerify(token, keys, { typ: "at+jwt", ...options });
    return { payload, header: protectedHeader };
  },
  async decrypt({ jwk, alg, token }) {
    const { plaintext, protectedHeader } = await compactDecrypt(token, await importJWK(jwk, alg));
    return { plaintext: new TextDecoder().decode(plaintext), header: protectedHeader };
  },
  async sign({ jwk, header, claims }) {
    const key = await importJWK(jwk, header.alg);
    return { token: await new SignJWT(claims).setProtectedHeader(header).sign(key) };
  },
  async encrypt({ jwk, header, plaintext }) {
    const key = await importJWK(jwk, header.alg);
    const sealed = new CompactEncrypt(new TextEncoder().encode(plaintext));
    return { token: await sealed.setProtectedHeader(header).encrypt(key) };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...question } = JSON.parse(line);
  let answer;
  try {
    answer = await answers[ask](question);
  } catch (error) {
    answer = { error: error.code ?? String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
