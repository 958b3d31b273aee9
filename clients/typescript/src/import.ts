import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { status as Code } from "@grpc/grpc-js";

import { Breaks, endedEarly } from "./breaks.js";
import { broken, invalid, type Violation } from "./errors.js";
import {
  type ImportRecordsRequestSchema, type ImportRecordsResponse, type ImportRecordsResponseSchema, type Record as Wire,
  RecordSchema, RecordService,
} from "./gen/lethe/v1/record_pb.js";
import { type NewRecord, recordToWire } from "./records.js";
import { type CallOptions, type Stream, type Transport } from "./transport.js";

/** The vault's bound of a chunk. */
const CHUNK_RECORDS_MAX = 500;
/** Leaves room in a message for what surrounds the records. */
const CHUNK_BYTES_MAX = 3 << 20;

/** The vault's answer to one chunk of an import. */
export interface ImportChunk {
  /** Position of the chunk's first record in the import. */
  readonly firstIndex: bigint;
  /** Position after the chunk: all before it is on disk or was refused. */
  readonly nextIndex: bigint;
  /** One for each record of the chunk, empty where it was refused. */
  readonly names: string[];
  /** Why records were refused. */
  readonly failures: ImportFailure[];
}

/** Why one record of an import was refused. It never holds a value. */
export interface ImportFailure {
  /** Position in the import. */
  readonly index: bigint;
  /** gRPC's code by name, such as `INVALID_ARGUMENT`. */
  readonly code: string;
  readonly violations: Violation[];
}

/** One connection of an import. */
export class ImportStream {
  readonly #stream: Stream<typeof ImportRecordsRequestSchema, typeof ImportRecordsResponseSchema>;
  #nextIndex: bigint;

  constructor(
    stream: Stream<typeof ImportRecordsRequestSchema, typeof ImportRecordsResponseSchema>, nextIndex: bigint,
  ) {
    this.#stream = stream;
    this.#nextIndex = nextIndex;
  }

  /** Where to go on. */
  get nextIndex(): bigint {
    return this.#nextIndex;
  }

  /**
   * Sends a chunk of 1 to 500 records and returns the vault's answer to it. `firstIndex` is `nextIndex`, or that of the
   * last chunk, to send the very same chunk again.
   */
  send(firstIndex: bigint, records: readonly NewRecord[]): Promise<ImportChunk> {
    return this.sendWire(firstIndex, records.map(recordToWire));
  }

  async sendWire(firstIndex: bigint, records: MessageInitShape<typeof RecordSchema>[]): Promise<ImportChunk> {
    this.#stream.send({ message: { case: "chunk", value: { firstIndex, records } } });
    const { nextIndex, names, failures } = await answerOf(this.#stream);
    if (names.length !== records.length || nextIndex !== firstIndex + BigInt(records.length)) {
      throw broken("does not fit the chunk");
    }
    this.#nextIndex = nextIndex;
    return {
      firstIndex,
      nextIndex,
      names,
      failures: failures.map(({ index, code, violations }) => ({
        index,
        code: Code[code] ?? String(code),
        violations: violations.map(({ field, description }) => ({ field, description })),
      })),
    };
  }

  /** Ends the connection; the import can be continued by its id. */
  close(): void {
    this.#stream.close();
  }
}

async function answerOf(
  stream: Stream<typeof ImportRecordsRequestSchema, typeof ImportRecordsResponseSchema>,
): Promise<ImportRecordsResponse> {
  const answer = await stream.next();
  if (answer === undefined) throw endedEarly();
  return answer;
}

export async function openImport(
  transport: Transport, parent: string, importId: string, options: CallOptions,
): Promise<ImportStream> {
  const stream = transport.stream(RecordService.method.importRecords, options);
  try {
    stream.send({ message: { case: "start", value: { parent, importId } } });
    return new ImportStream(stream, (await answerOf(stream)).nextIndex);
  } catch (error) {
    stream.close();
    throw error;
  }
}

export async function* importRecords(
  transport: Transport, parent: string, importId: string, records: Iterable<NewRecord> | AsyncIterable<NewRecord>,
  options: CallOptions,
): AsyncGenerator<ImportChunk, void, undefined> {
  const run = new Run(transport, parent, importId, options);
  try {
    for await (const chunk of chunksOf(records, await run.open())) yield await run.send(chunk);
  } finally {
    run.close();
  }
}

interface Chunk {
  readonly firstIndex: bigint;
  readonly records: Wire[];
}

/** Cuts a sequence of records into chunks by number and size, after those that are stored already. */
async function* chunksOf(
  records: Iterable<NewRecord> | AsyncIterable<NewRecord>, done: bigint,
): AsyncGenerator<Chunk, void, undefined> {
  let index = 0n;
  let chunk: Wire[] = [];
  let size = 0;
  for await (const record of records) {
    if (index++ < done) continue;
    const wire = create(RecordSchema, recordToWire(record));
    const bytes = toBinary(RecordSchema, wire).length + 8;
    if (chunk.length === CHUNK_RECORDS_MAX || (chunk.length > 0 && size + bytes > CHUNK_BYTES_MAX)) {
      yield { firstIndex: index - 1n - BigInt(chunk.length), records: chunk };
      chunk = [];
      size = 0;
    }
    chunk.push(wire);
    size += bytes;
  }
  if (index < done) {
    const description = "are fewer than the import of this id has stored already";
    throw invalid({ field: "records", description });
  }
  if (chunk.length > 0) yield { firstIndex: index - BigInt(chunk.length), records: chunk };
}

/** An import over as many connections as it takes. */
class Run {
  readonly #open: () => Promise<ImportStream>;
  readonly #signal: AbortSignal | undefined;
  readonly #breaks = new Breaks();
  #stream: ImportStream | undefined;

  constructor(transport: Transport, parent: string, importId: string, options: CallOptions) {
    this.#open = () => openImport(transport, parent, importId, options);
    this.#signal = options.signal;
  }

  close(): void {
    this.#stream?.close();
    this.#stream = undefined;
  }

  /** Connects and says where to go on. */
  async open(): Promise<bigint> {
    for (;;) {
      try {
        this.#stream = await this.#open();
        return this.#stream.nextIndex;
      } catch (error) {
        await this.#breaks.orThrow(error, this.#signal);
      }
    }
  }

  /**
   * Sends a chunk until it is answered. Whether a chunk without an answer was stored or not, the whole of it is sent
   * again: the vault knows its last chunk and does not double it.
   */
  async send({ firstIndex, records }: Chunk): Promise<ImportChunk> {
    for (;;) {
      try {
        if (this.#stream === undefined) {
          const at = await this.open();
          if (at !== firstIndex && at !== firstIndex + BigInt(records.length)) {
            throw broken("says that the import is elsewhere: is another program using its id?");
          }
        }
        const answer = await (this.#stream as unknown as ImportStream).sendWire(firstIndex, records);
        this.#breaks.gotOn();
        return answer;
      } catch (error) {
        this.close();
        await this.#breaks.orThrow(error, this.#signal);
      }
    }
  }
}
