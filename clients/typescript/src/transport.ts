import { create, type DescMessage, type DescMethod, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { ChannelCredentials, Client, Metadata } from "@grpc/grpc-js";

import { authority, type Config, secureContext, tlsName } from "./config.js";
import {
  broken, CancelledError, DeadlineExceededError, fromGrpc, invalid, ResourceExhaustedError,
} from "./errors.js";
import { type Repeat, retry } from "./retry.js";

/** How long a call may take if nobody says. */
export const TIMEOUT_DEFAULT_MS = 30_000;
/** How long a call may take at most: the vault grants no more. */
export const TIMEOUT_MAX_MS = 60_000;
/** The vault's own bound of a message, either way. */
const MESSAGE_BYTES_MAX = 4 << 20;

/** What a single call may be given. */
export interface CallOptions {
  /**
   * The time for the call, all its attempts together; for a stream, the time that it waits for the vault's next
   * message. More than 60,000 is refused.
   */
  readonly timeoutMs?: number | undefined;
  /** Gives the call up. */
  readonly signal?: AbortSignal | undefined;
}

/** A method of a service as the generated code describes it. */
export type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { input: I; output: O };

const same = (bytes: Buffer): Buffer => bytes;

/** Calls and streams over one connection: deadlines, bounds, retries and errors in one place. */
export class Transport {
  readonly #grpc: Client;
  readonly #timeoutMs: number;

  constructor(config: Config, timeoutMs: number | undefined) {
    this.#timeoutMs = checkTimeout(timeoutMs ?? TIMEOUT_DEFAULT_MS);
    const name = tlsName(config);
    const credentials = ChannelCredentials.createFromSecureContext(secureContext(config), {
      // Said aloud, since NODE_TLS_REJECT_UNAUTHORIZED would otherwise decide.
      rejectUnauthorized: true,
    });
    this.#grpc = new Client(authority(config), credentials, {
      ...(config.serverName === undefined
        ? {}
        : { "grpc.ssl_target_name_override": name, "grpc.default_authority": name }),
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
      // The vault is called where the configuration says, not where the environment or DNS does, and what is made
      // again is decided in retry.ts alone.
      "grpc.enable_http_proxy": 0,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_retries": 0,
      // A watch may be silent for long: a peer that is gone is noticed all the same.
      "grpc.keepalive_time_ms": 30_000,
      "grpc.keepalive_timeout_ms": 10_000,
      // The wait before a new connection; a call's own attempts are over within a second.
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 5_000,
    });
  }

  close(): void {
    this.#grpc.close();
  }

  timeoutOf(options: CallOptions): number {
    return options.timeoutMs === undefined ? this.#timeoutMs : checkTimeout(options.timeoutMs);
  }

  /** Makes a unary call, again where `repeat` says that this is safe. */
  async unary<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>, repeat: Repeat, request: MessageInitShape<I>, options: CallOptions,
  ): Promise<MessageShape<O>> {
    const end = Date.now() + this.timeoutOf(options);
    const bytes = encode(method.input, request);
    const answer = await retry(repeat, end, options.signal, () => this.#once(method, bytes, end, options.signal));
    return decode(method.output, answer);
  }

  #once(method: DescMethod, bytes: Buffer, end: number, signal: AbortSignal | undefined): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(givenUp());
      const call = this.#grpc.makeUnaryRequest(
        pathOf(method), same, same, bytes, new Metadata(), { deadline: end },
        (error, answer) => {
          signal?.removeEventListener("abort", cancel);
          if (error) reject(error);
          else if (answer === undefined) reject(broken("is missing"));
          else resolve(answer);
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Opens a stream. It has no end of its own; each wait for a message has. */
  stream<I extends DescMessage, O extends DescMessage>(method: Method<I, O>, options: CallOptions): Stream<I, O> {
    if (options.signal?.aborted) throw givenUp();
    return new Stream(this.#grpc, method, this.timeoutOf(options), options.signal);
  }
}

/** One stream: requests go out, answers come in one by one and no faster than they are taken. */
export class Stream<I extends DescMessage, O extends DescMessage> {
  readonly #method: Method<I, O>;
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  readonly #call: import("@grpc/grpc-js").ClientDuplexStream<Buffer, Buffer>;
  readonly #come: Buffer[] = [];
  #error: unknown;
  #ended = false;
  #wake: () => void = () => {};

  constructor(grpc: Client, method: Method<I, O>, timeoutMs: number, signal: AbortSignal | undefined) {
    this.#method = method;
    this.#timeoutMs = timeoutMs;
    this.#signal = signal;
    // On the wire a stream of one request is a stream of requests that ends after the first.
    this.#call = grpc.makeBidiStreamRequest(pathOf(method), same, same, new Metadata(), {});
    this.#call.on("data", (bytes: Buffer) => {
      this.#call.pause();
      this.#come.push(bytes);
      this.#wake();
    });
    this.#call.on("error", (error) => {
      this.#error ??= error;
      this.#wake();
    });
    this.#call.on("end", () => {
      this.#ended = true;
      this.#wake();
    });
    this.#call.pause();
    signal?.addEventListener("abort", this.close, { once: true });
  }

  /** Sends a message. Whether it arrived, the answer says. */
  send(request: MessageInitShape<I>): void {
    this.#call.write(encode(this.#method.input, request));
  }

  /** Says that no more requests follow. */
  endRequests(): void {
    this.#call.end();
  }

  /** The next message; undefined at the end. Without `isBounded` it waits as long as the connection lives. */
  async next(isBounded = true): Promise<MessageShape<O> | undefined> {
    let timer: NodeJS.Timeout | undefined;
    if (isBounded) {
      timer = setTimeout(() => {
        this.#error ??= new DeadlineExceededError({
          code: "DEADLINE_EXCEEDED", message: "the vault sent nothing for too long",
        });
        this.#call.cancel();
        this.#wake();
      }, this.#timeoutMs);
    }
    try {
      for (;;) {
        const bytes = this.#come.shift();
        if (bytes !== undefined) return decode(this.#method.output, bytes);
        // What came before an error is still given.
        if (this.#error !== undefined && (this.#ended || this.#call.readableLength === 0)) {
          throw this.#signal?.aborted ? givenUp() : fromGrpc(this.#error);
        }
        if (this.#ended) return undefined;
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          this.#call.resume();
        });
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends the stream, whatever is under way. */
  readonly close = (): void => {
    this.#signal?.removeEventListener("abort", this.close);
    this.#call.cancel();
  };
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

function checkTimeout(ms: number): number {
  if (!(ms > 0 && ms <= TIMEOUT_MAX_MS)) throw new RangeError(`timeoutMs must be above 0 and at most ${TIMEOUT_MAX_MS}`);
  return ms;
}

function givenUp(): CancelledError {
  return new CancelledError({ code: "CANCELLED", message: "the caller gave up" });
}

/** Refuses what the vault would not read, before it is sent. */
function encode<I extends DescMessage>(schema: I, request: MessageInitShape<I>): Buffer {
  let bytes: Uint8Array;
  try {
    bytes = toBinary(schema, create(schema, request));
  } catch {
    // The library's error repeats the value that it cannot write.
    throw invalid({ field: "request", description: "has a part of a wrong type" });
  }
  if (bytes.length > MESSAGE_BYTES_MAX) {
    throw new ResourceExhaustedError({
      code: "RESOURCE_EXHAUSTED",
      message: `the request has ${bytes.length} bytes, the vault takes at most ${MESSAGE_BYTES_MAX}`,
    });
  }
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function decode<O extends DescMessage>(schema: O, bytes: Buffer): MessageShape<O> {
  try {
    return fromBinary(schema, bytes);
  } catch {
    throw broken("cannot be read");
  }
}
