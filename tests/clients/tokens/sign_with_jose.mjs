// Signs tokens with jose and three new keys. Writes the JWK Set, and the tokens by algorithm, as JSON.
import { SignJWT, exportJWK, generateKeyPair } from "jose";

const claims = JSON.parse(process.argv[2]);
const keys = [];
const tokens = {};
for (const alg of ["RS256", "ES256", "EdDSA"]) {
  const kid = `jose-${alg}`;
  const { privateKey, publicKey } = await generateKeyPair(alg);
  keys.push({ ...(await exportJWK(publicKey)), kid, alg, use: "sig" });
  const token = new SignJWT(claims).setProtectedHeader({ alg, kid, typ: "at+jwt" });
  tokens[alg] = await token.setIssuedAt().setNotBefore("0s").setExpirationTime("10m").sign(privateKey);
}
console.log(JSON.stringify({ jwks: { keys }, tokens }));
