import { createHash } from "node:crypto";

import { broken } from "./errors.js";
import { exported } from "./export.js";
import { type AuditEntry as Wire, AuditEntryKind as WireKind, AuditService } from "./gen/lethe/admin/v1/audit_pb.js";
import { dateOf, paged } from "./paging.js";
import { type Classification, classOf } from "./schemas.js";
import { claimFault, signatureFault } from "./signature.js";
import { type CallOptions, type Transport } from "./transport.js";

/**
 * What kind of thing an entry tells. CALL: a call that was answered. REFUSALS: calls of one principal that were refused
 * or failed, counted over about a minute. GAP: the vault was not stopped cleanly; calls answered shortly before may lack
 * their entries. VAULT: something that it did of itself. UNREADABLE: missing or damaged; only the index is known.
 */
export type AuditKind = Exclude<keyof typeof WireKind, "UNSPECIFIED">;

/** A subject and one of its records, by pseudonyms that are destroyed with them. */
export interface AuditMember {
  /** 16 bytes; zeros if the record did not open. */
  readonly subject: Uint8Array;
  /** 16 bytes; zeros for the subject itself. */
  readonly record: Uint8Array;
}

/** Who did what, and when. It holds no value of a record. */
export interface AuditEntry {
  /** Its place in the log, from 0. */
  readonly index: bigint;
  readonly kind: AuditKind;
  /** `GetRecord`, …; `Open` and `Close` of the vault itself; `Other` where the method is not known. */
  readonly method: string;
  /** gRPC's status code; 0 of calls that were answered. */
  readonly code: number;
  readonly createTime: Date | undefined;
  /** Of refusals the first one's; of a gap its earliest beginning, undefined if that is not known. */
  readonly startTime: Date | undefined;
  /** URI of the caller's certificate; its hash in hex if the name is not kept; empty for the vault itself. */
  readonly principal: string;
  readonly role: string;
  /** `tenants/{tenant}`; empty if it was about none. */
  readonly tenant: string;
  /** `tenants/{tenant}/schemas/{type}`; empty if it was about none, about several, or about subjects alone. */
  readonly schema: string;
  /** Classes of fields that the caller saw in clear. */
  readonly clear: readonly Classification[];
  /** Classes of fields that the caller saw masked. */
  readonly masked: readonly Classification[];
  /** Empty if it was not said; its hash in hex if no schema names it any more. */
  readonly purpose: string;
  /** Records and subjects that the call was about, or refused calls. */
  readonly total: number;
  /** An entry with many members has several parts under indexes that follow each other; the first is 0. */
  readonly part: number;
  /** Those of this part. */
  readonly members: readonly AuditMember[];
  /** Of an erasure, a rotation, an opening: the anchor's generation. */
  readonly generation: bigint;
  /** The entry as the signed tree over the log has it. */
  readonly leaf: Uint8Array;
}

/** Which entries to list. */
export interface AuditQuery {
  /** `tenants/{tenant}`; without it all that the caller may see. */
  readonly parent?: string | undefined;
  /** `tenants/{tenant}/subjects/{uuid}`: entries about it only, while it is not erased. */
  readonly subject?: string | undefined;
  /** A URI: entries of this caller only. */
  readonly principal?: string | undefined;
  /** At most 1000; 50 unless said. */
  readonly pageSize?: number | undefined;
  /** Continues after an earlier {@link AuditPage} of the same query. */
  readonly pageToken?: string | undefined;
}

/** A part of a list. */
export interface AuditPage {
  /** Fewer than asked for, or none, also where more follow. */
  readonly entries: AuditEntry[];
  /** Continues after this page; empty on the last. */
  readonly nextPageToken: string;
}

/**
 * How many entries the audit log has and the root of the tree over them, signed. Keep it where the vault's operators
 * cannot write.
 */
export interface AuditHead {
  /** 32 hex digits. */
  readonly vaultId: string;
  readonly size: bigint;
  readonly root: Uint8Array;
  /** The anchor's that bound them. */
  readonly generation: bigint;
  readonly createTime: Date;
  readonly signedBytes: Uint8Array;
  readonly signature: Uint8Array;
  /** What the vault says its key is. Trust it only if you know it from elsewhere. */
  readonly publicKey: Uint8Array;
}

/** Calls about the audit log. */
export class Audit {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** One page, the newest entry first. */
  async listPage(of: AuditQuery = {}, options: CallOptions = {}): Promise<AuditPage> {
    const { parent = "", subject = "", principal = "", pageSize = 0, pageToken = "" } = of;
    const request = { parent, subject, principal, pageSize, pageToken };
    const answer = await this.#transport.unary(AuditService.method.listAuditEntries, "safely", request, options);
    return { entries: answer.entries.map(entryOf), nextPageToken: answer.nextPageToken };
  }

  /** The entries of a query, the newest first. */
  list(of: AuditQuery = {}, options: CallOptions = {}): AsyncGenerator<AuditEntry, void, undefined> {
    return paged(async (token) => {
      const page = await this.listPage(token === "" ? of : { ...of, pageToken: token }, options);
      return { all: page.entries, nextPageToken: page.nextPageToken };
    });
  }

  /**
   * Every entry from an index on, the oldest first. A stream that breaks is continued. Take the head before:
   * {@link verifyAudit} then says whether all that it is about has come.
   */
  async *export(startIndex = 0n, options: CallOptions = {}): AsyncGenerator<AuditEntry, void, undefined> {
    let next = startIndex;
    const parts = exported(this.#transport, {
      method: AuditService.method.exportAuditEntries,
      request: () => ({ startIndex: next }),
      take: ({ entries }) => {
        const last = entries.at(-1);
        if (last) next = last.index + 1n;
        return entries.map(entryOf);
      },
    }, options);
    for await (const entries of parts) yield* entries;
  }

  /** Has the anchor bind the log as it is now, and gives its signed head. */
  async head(options: CallOptions = {}): Promise<AuditHead> {
    const answer = await this.#transport.unary(AuditService.method.getAuditHead, "safely", {}, options);
    const { $typeName: _type, $unknown: _unknown, ...rest } = answer;
    const createTime = dateOf(rest.createTime);
    if (!createTime) throw broken("lacks the head's time");
    return { ...rest, createTime };
  }
}

/** A head or an export of the audit log cannot be relied on. It says why. */
export class AuditError extends Error {
  override readonly name = "AuditError";
}

/** Checks a head without the vault, under the 32-byte public key that the caller trusts (docs/FORMAT.md §9.5). */
export function verifyAuditHead(head: AuditHead, publicKey: Uint8Array): void {
  const forged = signatureFault(head.signedBytes, head.signature, publicKey);
  if (forged !== undefined) throw new AuditError(forged);
  const bytes = Buffer.from(head.signedBytes);
  if (bytes.length !== 3 + 16 + 8 + 32 + 8 + 8 || bytes.toString("latin1", 0, 3) !== "VD1") {
    throw new AuditError("signed_bytes: are not a head of an audit log");
  }
  const fault = claimFault([
    ["vault_id", head.vaultId === bytes.toString("hex", 3, 19)],
    ["size", head.size === bytes.readBigUInt64BE(19)],
    ["root", bytes.subarray(27, 59).equals(head.root)],
    ["generation", head.generation === bytes.readBigUInt64BE(59)],
    ["create_time", head.createTime.getTime() === Number(bytes.readBigInt64BE(67))],
  ]);
  if (fault !== undefined) throw new AuditError(fault);
}

/** Where a leaf has the entry's place, after `LTE1 | kind u8 | act u16 | code u8` (docs/FORMAT.md §9.1). */
const LEAF_INDEX_AT = 8;

/**
 * Checks that these are the entries of a head, all of them from index 0 on, under the public key that the caller
 * trusts. Later entries are not looked at. Of an entry its place and its leaf are checked; `lethectl audit verify` also
 * checks what is said beside the leaf.
 */
export async function verifyAudit(
  head: AuditHead, entries: Iterable<AuditEntry> | AsyncIterable<AuditEntry>, publicKey: Uint8Array,
): Promise<void> {
  verifyAuditHead(head, publicKey);
  const tree = new HashTree();
  for await (const { index, leaf } of entries) {
    if (tree.size === head.size) break;
    const bytes = Buffer.from(leaf);
    const isNext =
      index === tree.size && bytes.length >= LEAF_INDEX_AT + 8 && bytes.readBigUInt64BE(LEAF_INDEX_AT) === tree.size;
    if (!isNext) throw new AuditError(`what came for entry ${tree.size} is not that entry`);
    tree.push(bytes);
  }
  if (tree.size !== head.size || !tree.root().equals(head.root)) {
    throw new AuditError("the entries are not those of the signed head");
  }
}

/** The tree of RFC 9162 §2.1: the roots of its perfect subtrees, the largest first. */
class HashTree {
  size = 0n;
  readonly #roots: Buffer[] = [];

  push(leaf: Buffer): void {
    let node = sha256(Buffer.from([0]), leaf);
    for (let full = this.size; full & 1n; full >>= 1n) node = parentOf(this.#roots.pop() as Buffer, node);
    this.#roots.push(node);
    this.size++;
  }

  root(): Buffer {
    return this.#roots.length === 0 ? sha256() : this.#roots.reduceRight((right, left) => parentOf(left, right));
  }
}

function parentOf(left: Buffer, right: Buffer): Buffer {
  return sha256(Buffer.from([1]), left, right);
}

function sha256(...parts: Buffer[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** A kind that this client does not know yet comes as its number. */
function entryOf(wire: Wire): AuditEntry {
  const { $typeName: _type, $unknown: _unknown, ...rest } = wire;
  return {
    ...rest,
    kind: (WireKind[wire.kind] ?? String(wire.kind)) as AuditKind,
    createTime: dateOf(wire.createTime),
    startTime: dateOf(wire.startTime),
    clear: wire.clear.map(classOf),
    masked: wire.masked.map(classOf),
    members: wire.members.map(({ subject, record }) => ({ subject, record })),
  };
}
