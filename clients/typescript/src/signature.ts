import { createPublicKey, verify } from "node:crypto";

/** Why nobody should believe that the holder of this key signed these bytes; undefined if he did. */
export function signatureFault(bytes: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): string | undefined {
  if (publicKey.length !== 32) return "the public key has not 32 bytes";
  const x = Buffer.from(publicKey).toString("base64url");
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  return verify(null, bytes, key, signature) ? undefined : "signature: is not from the holder of this public key";
}

/** The first of what is said beside signed bytes that is not what they say. */
export function claimFault(claims: readonly (readonly [field: string, holds: boolean])[]): string | undefined {
  const found = claims.find(([, holds]) => !holds);
  return found && `${found[0]}: is not what was signed`;
}
