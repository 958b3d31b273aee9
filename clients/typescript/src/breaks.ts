import { DeadlineExceededError, UnavailableError } from "./errors.js";
import { ATTEMPTS_MAX, isPassing, pauseMs, wait } from "./retry.js";

/** Counts how often a stream broke since it last got on. */
export class Breaks {
  #count = 0;

  gotOn(): void {
    this.#count = 0;
  }

  /** Waits before a stream is continued; throws the error if it should not be. */
  async orThrow(error: unknown, signal: AbortSignal | undefined): Promise<void> {
    this.#count++;
    // A stream that stood still too long is ended with DEADLINE_EXCEEDED; it goes on where it stood.
    const again = isPassing(error) || error instanceof DeadlineExceededError;
    if (!again || this.#count >= ATTEMPTS_MAX) throw error;
    await wait(pauseMs(this.#count), Infinity, signal);
  }
}

/** In place of the end where the vault's part of a stream ended too early. */
export function endedEarly(): UnavailableError {
  return new UnavailableError({ code: "UNAVAILABLE", message: "the stream ended too early" });
}
