import { setTimeout as sleep } from "node:timers/promises";

import { CancelledError, fromGrpc, ResourceExhaustedError, UnavailableError } from "./errors.js";

/** Calls in all, the first one included. */
export const ATTEMPTS_MAX = 4;
const PAUSE_FIRST_MS = 100;

/**
 * Whether a call may be made again. `safely`: it changes nothing, or it carries a request id, by which the vault knows
 * it again. `never`: after UNAVAILABLE nobody knows whether it took effect.
 */
export type Repeat = "safely" | "never";

/** Makes a call, again where that is safe and may help, until `end` (milliseconds as of Date.now). */
export async function retry<T>(
  repeat: Repeat, end: number, signal: AbortSignal | undefined, call: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (cause) {
      const error = fromGrpc(cause);
      const again = repeat === "safely" && attempt < ATTEMPTS_MAX && isPassing(error);
      if (!again || !(await wait(pauseMs(attempt), end, signal))) throw error;
    }
  }
}

/** Whether a later attempt may fare better. */
export function isPassing(error: unknown): boolean {
  return error instanceof UnavailableError || error instanceof ResourceExhaustedError;
}

/** Doubles with each attempt. A random half of it keeps clients from coming back in step. */
export function pauseMs(attempt: number): number {
  const half = (PAUSE_FIRST_MS * 2 ** Math.min(attempt - 1, 6)) / 2;
  return half + Math.random() * half;
}

/** False at once if `end` would pass meanwhile, so that the caller hears the vault's error. */
export async function wait(ms: number, end: number, signal: AbortSignal | undefined): Promise<boolean> {
  if (Date.now() + ms >= end) return false;
  try {
    await sleep(ms, undefined, { signal });
    return true;
  } catch {
    throw new CancelledError({ code: "CANCELLED", message: "the caller gave up" });
  }
}
