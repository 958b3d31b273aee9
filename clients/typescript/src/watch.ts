import { endedEarly } from "./breaks.js";
import { ChangeKind as WireKind, RecordService, type WatchRecordsRequestSchema, type WatchRecordsResponseSchema } from "./gen/lethe/v1/record_pb.js";
import { dateOf } from "./paging.js";
import { type CallOptions, type Stream, type Transport } from "./transport.js";

/** What happened to a record. */
export type ChangeKind = Exclude<keyof typeof WireKind, "UNSPECIFIED">;

/** One change of a tenant: a name and a kind, no values. */
export interface ChangeEvent {
  readonly kind: ChangeKind;
  /** Of the record or subject; empty for a bucket. */
  readonly name: string;
  readonly schema: string;
  /** The bucket's. */
  readonly expireDate: string;
  readonly time: Date | undefined;
}

/** A little more than the time after which the vault ends a watch. */
const WATCH_MAX_MS = 61 * 60_000;

/**
 * Hears what changes in a tenant, from when it was made. It ends after an hour, when the vault ends it, and after
 * close. However it ends, changes may be missed until another watch has begun: list what there is then.
 */
export class Watch implements AsyncIterable<ChangeEvent> {
  readonly #stream: Stream<typeof WatchRecordsRequestSchema, typeof WatchRecordsResponseSchema>;
  readonly #timer: NodeJS.Timeout;
  #isClosed = false;

  constructor(stream: Stream<typeof WatchRecordsRequestSchema, typeof WatchRecordsResponseSchema>) {
    this.#stream = stream;
    this.#timer = setTimeout(stream.close, WATCH_MAX_MS).unref();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChangeEvent, void, undefined> {
    try {
      for (;;) {
        const wire = await this.#stream.next(false);
        if (wire === undefined) return;
        const { name, schema, expireDate } = wire;
        const kind = (WireKind[wire.kind] ?? String(wire.kind)) as ChangeKind;
        yield { kind, name, schema, expireDate, time: dateOf(wire.time) };
      }
    } catch (error) {
      // The caller's own end is no error.
      if (!this.#isClosed) throw error;
    } finally {
      this.close();
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#stream.close();
  }
}

export async function openWatch(transport: Transport, parent: string, options: CallOptions): Promise<Watch> {
  const stream = transport.stream(RecordService.method.watchRecords, options);
  try {
    stream.send({ parent });
    stream.endRequests();
    // The first message has no change: it says that the watch has begun.
    if ((await stream.next()) === undefined) throw endedEarly();
    return new Watch(stream);
  } catch (error) {
    stream.close();
    throw error;
  }
}
