import { type MessageInitShape } from "@bufbuild/protobuf";

import { broken, checkPostponed, DataLossError, invalid } from "./errors.js";
import { type Record as Wire, RecordService, type RecordSchema } from "./gen/lethe/v1/record_pb.js";
import { exported } from "./export.js";
import { type ImportChunk, importRecords, type ImportStream, openImport } from "./import.js";
import { dateOf } from "./paging.js";
import { type ErasureReason, reasonToWire, type Receipt, receiptOf } from "./receipt.js";
import { newRequestId } from "./request_id.js";
import { type CallOptions, type Transport } from "./transport.js";
import { Fields, fieldsOf, fieldsToWire, type FieldValue, valueToWire } from "./values.js";
import { openWatch, type Watch } from "./watch.js";

/** What the vault keeps about a subject: the fields of one type. No printed form of it holds a value. */
export interface VaultRecord {
  /** `tenants/{tenant}/records/{uuid}` */
  readonly name: string;
  /** `tenants/{tenant}/schemas/{type}` */
  readonly schema: string;
  /** `tenants/{tenant}/subjects/{uuid}` */
  readonly subject: string;
  readonly fields: Fields;
  /** Marks the version. */
  readonly etag: string;
  readonly createTime: Date | undefined;
  readonly updateTime: Date | undefined;
  /** The day, UTC, by which it must be gone; empty if open-ended. */
  readonly expireDate: string;
}

/** A record to create. */
export interface NewRecord {
  /** `tenants/{tenant}/schemas/{type}` */
  readonly schema: string;
  /** Whom it is about; without it a new subject. */
  readonly subject?: string | undefined;
  readonly fields: Fields;
  /**
   * A random UUIDv4 by which the vault knows a repeated call; the client makes one unless it is given. An import has an
   * id of its own and ignores it.
   */
  readonly requestId?: string | undefined;
}

/** How to change a record. */
export interface Change {
  /** If given, must be the current one. */
  readonly etag?: string | undefined;
  readonly fields?: Fields | undefined;
  /** Which fields change; one that `fields` lacks is removed. Without it: those of `fields`. */
  readonly mask?: readonly string[] | undefined;
  /** See {@link NewRecord.requestId}. */
  readonly requestId?: string | undefined;
}

/** What of records to read, and what for. */
export interface View {
  /** The fields to return; without it all. */
  readonly mask?: readonly string[] | undefined;
  /** Checked against the fields' purposes. */
  readonly purpose?: string | undefined;
}

/** Which records to list or export. */
export interface Selection extends View {
  /** `tenants/{tenant}/schemas/{type}`; without it all types. */
  readonly schema?: string | undefined;
  /** For lists: at most 1000; 50 unless said. */
  readonly pageSize?: number | undefined;
  /** Continues after an earlier {@link Page} of the same selection. */
  readonly pageToken?: string | undefined;
}

/** A part of a list or of an export. */
export interface Page {
  readonly records: VaultRecord[];
  /** Continues after this page; empty on the last. */
  readonly nextPageToken: string;
  /** Records that are there but do not open. */
  readonly damagedNames: readonly string[];
}

/** What a search found. */
export interface Found {
  /** At most 1000. */
  readonly records: VaultRecord[];
  /** Records of this type do not open, and may or may not have the value. */
  readonly incomplete: boolean;
}

/** Calls about records. */
export class Records {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Creates a record; when the promise is kept, the record is on disk. */
  async create(parent: string, record: NewRecord, options: CallOptions = {}): Promise<VaultRecord> {
    const request = { parent, ...createOf(record) };
    const answer = await this.#transport.unary(RecordService.method.createRecord, "safely", request, options);
    return recordOf(answer.record);
  }

  /** Creates up to 500 records in one durable step, all or none. The answer is in their order. */
  async createBatch(parent: string, records: readonly NewRecord[], options: CallOptions = {}): Promise<VaultRecord[]> {
    const request = { parent, requests: records.map(createOf) };
    const answer = await this.#transport.unary(RecordService.method.batchCreateRecords, "safely", request, options);
    return oneEach(answer.records, records.length).map(recordOf);
  }

  async get(name: string, view: View = {}, options: CallOptions = {}): Promise<VaultRecord> {
    const request = { name, ...viewOf(view) };
    const answer = await this.#transport.unary(RecordService.method.getRecord, "safely", request, options);
    return recordOf(answer.record);
  }

  /** Up to 1000 records by name, all or none, in the order of the names. */
  async getBatch(
    parent: string, names: readonly string[], view: View = {}, options: CallOptions = {},
  ): Promise<VaultRecord[]> {
    const request = { parent, names: [...names], ...viewOf(view) };
    const answer = await this.#transport.unary(RecordService.method.batchGetRecords, "safely", request, options);
    return oneEach(answer.records, names.length).map(recordOf);
  }

  /** Changes fields of a record and returns it as it is now. */
  async update(name: string, change: Change, options: CallOptions = {}): Promise<VaultRecord> {
    const request = {
      record: { name, etag: change.etag ?? "", fields: fieldsToWire(change.fields) },
      requestId: change.requestId ?? newRequestId(),
      ...(change.mask === undefined ? {} : { updateMask: { paths: [...change.mask] } }),
    };
    const answer = await this.#transport.unary(RecordService.method.updateRecord, "safely", request, options);
    return recordOf(answer.record);
  }

  /** The records of a schema that hold exactly this value in an indexed field. */
  async find(
    schema: string, field: string, value: FieldValue, view: View = {}, options: CallOptions = {},
  ): Promise<Found> {
    const request = { schema, field, value: valueToWire(value, "value"), ...viewOf(view) };
    const answer = await this.#transport.unary(RecordService.method.findRecords, "safely", request, options);
    return { records: answer.records.map(recordOf), incomplete: answer.incomplete };
  }

  /** One page of a list, ordered by name. */
  async listPage(parent: string, of: Selection = {}, options: CallOptions = {}): Promise<Page> {
    const pageSize = of.pageSize ?? 0;
    if (!Number.isInteger(pageSize) || pageSize < 0 || pageSize > 1000) {
      throw invalid({ field: "page_size", description: "must be between 0 and 1000" });
    }
    const request = { ...selectionOf(parent, of), pageSize };
    return pageOf(await this.#transport.unary(RecordService.method.listRecords, "safely", request, options));
  }

  /** All records of a selection, by name. Those that do not open are left out; DataLossError says so in the end. */
  list(parent: string, of: Selection = {}, options: CallOptions = {}): AsyncGenerator<VaultRecord, void, undefined> {
    return recordsIn(this.#listPages(parent, of, options));
  }

  async *#listPages(parent: string, of: Selection, options: CallOptions): AsyncGenerator<Page, void, undefined> {
    for (let pageToken = of.pageToken; ; ) {
      const page = await this.listPage(parent, { ...of, pageToken }, options);
      yield page;
      if (page.nextPageToken === "") return;
      pageToken = page.nextPageToken;
    }
  }

  /**
   * The records of a selection part by part, as fast as the caller takes them. A stream that breaks is continued by
   * token. To continue in another process, give the last part's `nextPageToken` as `pageToken`; it is good for an hour,
   * and until the vault restarts. The size of a part is the vault's choice.
   */
  exportPages(parent: string, of: Selection = {}, options: CallOptions = {}): AsyncGenerator<Page, void, undefined> {
    let pageToken = of.pageToken;
    return exported(this.#transport, {
      method: RecordService.method.exportRecords,
      request: () => selectionOf(parent, { ...of, pageToken }),
      take: (part) => {
        const page = pageOf(part);
        pageToken = page.nextPageToken;
        return page;
      },
      isLast: (page) => page.nextPageToken === "",
    }, options);
  }

  /**
   * All records of a selection, by name, each once. Those that do not open are left out; DataLossError says so in the
   * end.
   */
  export(parent: string, of: Selection = {}, options: CallOptions = {}): AsyncGenerator<VaultRecord, void, undefined> {
    return recordsIn(this.exportPages(parent, of, options));
  }

  /**
   * Stores a long sequence of records, in chunks, and gives the vault's answer to each. A record that is refused does
   * not stop the others. A connection that breaks is made anew and the import goes on where it was.
   *
   * `importId` is a random UUIDv4 ({@link newRequestId}). Keep it until the import is over: the same id with the same
   * records, also in another process, goes on after what is stored, without doubling it. What is skipped then is not
   * answered again. An error of the sequence ends the import; what was answered is stored.
   */
  import(
    parent: string, importId: string, records: Iterable<NewRecord> | AsyncIterable<NewRecord>,
    options: CallOptions = {},
  ): AsyncGenerator<ImportChunk, void, undefined> {
    return importRecords(this.#transport, parent, importId, records, options);
  }

  /** One connection of an import. {@link import} is easier and goes on by itself. */
  openImport(parent: string, importId: string, options: CallOptions = {}): Promise<ImportStream> {
    return openImport(this.#transport, parent, importId, options);
  }

  /** Begins to watch a tenant. When the promise is kept, each later change is heard. Close it. */
  watch(parent: string, options: CallOptions = {}): Promise<Watch> {
    return openWatch(this.#transport, parent, options);
  }

  /**
   * Erases a record with all its versions. It is sent once; when its outcome is not known, erase again: a repetition
   * gets the same receipt.
   */
  async erase(
    name: string, reason: ErasureReason, options: CallOptions & { etag?: string } = {},
  ): Promise<Receipt> {
    const request = { name, reason: reasonToWire(reason), etag: options.etag ?? "" };
    const answer = await this.#transport.unary(RecordService.method.eraseRecord, "never", request, options);
    checkPostponed(answer.postponed ? [answer.postponed] : [], []);
    return receiptOf(answer.receipt);
  }

  /** Erases up to 1000 records, all or none, but what legal holds keep ({@link PostponedError}). The receipts are in the order of the names. */
  async eraseBatch(
    parent: string, names: readonly string[], reason: ErasureReason, options: CallOptions = {},
  ): Promise<Receipt[]> {
    const request = { parent, names: [...names], reason: reasonToWire(reason) };
    const answer = await this.#transport.unary(RecordService.method.batchEraseRecords, "never", request, options);
    checkPostponed(answer.postponed, answer.receipts.map(receiptOf));
    return oneEach(answer.receipts, names.length).map(receiptOf);
  }
}

function createOf(record: NewRecord) {
  return { record: recordToWire(record), requestId: record.requestId ?? newRequestId() };
}

export function recordToWire({ schema, subject, fields }: NewRecord): MessageInitShape<typeof RecordSchema> {
  return { schema, subject: subject ?? "", fields: fieldsToWire(fields) };
}

function viewOf({ mask, purpose }: View) {
  return { purpose: purpose ?? "", ...(mask?.length ? { readMask: { paths: [...mask] } } : {}) };
}

export function selectionOf(parent: string, of: Selection) {
  return { parent, schema: of.schema ?? "", pageToken: of.pageToken ?? "", ...viewOf(of) };
}

function recordOf(wire: Wire | undefined): VaultRecord {
  if (!wire) throw broken("lacks the record");
  return {
    name: wire.name,
    schema: wire.schema,
    subject: wire.subject,
    fields: fieldsOf(wire.fields),
    etag: wire.etag,
    createTime: dateOf(wire.createTime),
    updateTime: dateOf(wire.updateTime),
    expireDate: wire.expireDate,
  };
}

function oneEach<T>(all: T[], count: number): T[] {
  if (all.length !== count) throw broken("has not one part for each that was asked for");
  return all;
}

export function pageOf(wire: { records: Wire[]; nextPageToken: string; damagedNames: string[] }): Page {
  const { records, nextPageToken, damagedNames } = wire;
  return { records: records.map(recordOf), nextPageToken, damagedNames };
}

/** Bounds what an error holds. */
const DAMAGED_NAMES_MAX = 10;

/** The records of all pages; an error in the end if some were left out. */
async function* recordsIn(pages: AsyncIterable<Page>): AsyncGenerator<VaultRecord, void, undefined> {
  const names: string[] = [];
  let count = 0;
  for await (const page of pages) {
    count += page.damagedNames.length;
    names.push(...page.damagedNames.slice(0, DAMAGED_NAMES_MAX - names.length));
    yield* page.records;
  }
  if (count > 0) {
    const message = `${count} records do not open, such as ${names.join(", ")}`;
    throw new DataLossError({ code: "DATA_LOSS", reason: "DAMAGED", message });
  }
}
