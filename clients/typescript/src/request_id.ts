import { randomUUID } from "node:crypto";

/** A random UUIDv4 in lower case, for request ids and import ids. */
export function newRequestId(): string {
  return randomUUID();
}
