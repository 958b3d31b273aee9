import { createHash } from "node:crypto";

import { broken, invalid } from "./errors.js";
import { type ErasureReceipt, ErasureLevel as WireLevel, ErasureReason as WireReason } from "./gen/lethe/v1/erasure_pb.js";
import { dateOf } from "./paging.js";
import { claimFault, signatureFault } from "./signature.js";

/** Why something was erased. A caller cannot claim SUPERSEDED, UNACKNOWLEDGED and MOVED: they are the vault's own. */
export type ErasureReason = Exclude<keyof typeof WireReason, "UNSPECIFIED">;
/** How far an erasure has got; at E0 the old keys may still be found on the medium. */
export type ErasureLevel = Exclude<keyof typeof WireLevel, "UNSPECIFIED">;

export function reasonToWire(reason: ErasureReason): WireReason {
  const number: WireReason | undefined = Object.hasOwn(WireReason, reason) ? WireReason[reason] : undefined;
  if (typeof number !== "number") throw invalid({ field: "reason", description: "is not a known reason" });
  return number;
}

/** The signed evidence of one erasure. */
export interface Receipt {
  /** Of the record, subject or bucket that was erased. */
  readonly name: string;
  readonly level: ErasureLevel;
  readonly reason: ErasureReason;
  readonly generation: bigint;
  readonly leafIndex: bigint;
  readonly requestTime: Date;
  readonly eraseTime: Date;
  /** What the receipt does not cover; for people. */
  readonly caveat: string;
  readonly signedBytes: Uint8Array;
  readonly signature: Uint8Array;
  /** What the vault says its key is. Trust it only if you know it from elsewhere. */
  readonly publicKey: Uint8Array;
}

export function levelOf(wire: WireLevel): ErasureLevel {
  return (WireLevel[wire] ?? String(wire)) as ErasureLevel;
}

export function receiptOf(wire: ErasureReceipt | undefined): Receipt {
  if (!wire) throw broken("lacks the receipt");
  const [requestTime, eraseTime] = [dateOf(wire.requestTime), dateOf(wire.eraseTime)];
  if (!requestTime || !eraseTime) throw broken("lacks a time of the receipt");
  return {
    name: wire.name,
    level: levelOf(wire.level),
    reason: (WireReason[wire.reason] ?? String(wire.reason)) as ErasureReason,
    generation: wire.generation,
    leafIndex: wire.leafIndex,
    requestTime,
    eraseTime,
    caveat: wire.caveat,
    signedBytes: wire.signedBytes,
    signature: wire.signature,
    publicKey: wire.publicKey,
  };
}

/** A receipt, or a file of receipts, cannot be relied on. It says why. */
export class ReceiptError extends Error {
  override readonly name = "ReceiptError";
}

/** The text of a file that `lethectl receipt verify` reads. */
export function writeReceipts(receipts: readonly Receipt[]): string {
  const number = (value: bigint): number => {
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new ReceiptError("a number is too large for JSON");
    return Number(value);
  };
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
  const saved = receipts.map((receipt) => ({
    name: receipt.name,
    level: receipt.level,
    reason: receipt.reason,
    generation: number(receipt.generation),
    leaf_index: number(receipt.leafIndex),
    request_time: receipt.requestTime.toISOString(),
    erase_time: receipt.eraseTime.toISOString(),
    caveat: receipt.caveat,
    signed_bytes: base64(receipt.signedBytes),
    signature: base64(receipt.signature),
    public_key: base64(receipt.publicKey),
  }));
  return `${JSON.stringify({ receipts: saved }, null, 2)}\n`;
}

/** Bounds a file of receipts: the erasure of a subject gives at most 5001. */
const RECEIPT_FILE_MAX = 16 << 20;

/** Reads what {@link writeReceipts} or lethectl saved. It does not verify them. */
export function readReceipts(text: string): Receipt[] {
  try {
    if (text.length > RECEIPT_FILE_MAX) throw new Error("too large");
    const { receipts } = JSON.parse(text) as { receipts: Record<string, unknown>[] };
    return receipts.map((saved) => {
      const string = (key: string): string => {
        const value = saved[key];
        if (typeof value !== "string") throw new Error(key);
        return value;
      };
      const number = (key: string): bigint => {
        const value = saved[key];
        if (!Number.isSafeInteger(value) || (value as number) < 0) throw new Error(key);
        return BigInt(value as number);
      };
      return {
        name: string("name"),
        level: string("level") as ErasureLevel,
        reason: string("reason") as ErasureReason,
        generation: number("generation"),
        leafIndex: number("leaf_index"),
        requestTime: new Date(string("request_time")),
        eraseTime: new Date(string("erase_time")),
        caveat: string("caveat"),
        signedBytes: Buffer.from(string("signed_bytes"), "base64"),
        signature: Buffer.from(string("signature"), "base64"),
        publicKey: Buffer.from(string("public_key"), "base64"),
      };
    });
  } catch {
    throw new ReceiptError("not a file of receipts");
  }
}

/** What a receipt's signed bytes say. */
export interface VerifiedReceipt {
  readonly name: string;
  /** The version that the signature is about; undefined for a bucket, whose name is not signed. */
  readonly recordVersion: bigint | undefined;
  /** 32 hex digits. */
  readonly vaultId: string;
  readonly level: ErasureLevel;
  readonly reason: ErasureReason;
  readonly generation: bigint;
  readonly leafIndex: bigint;
  /** The anchor lies on a medium that overwrites blocks. */
  readonly overwritesInPlace: boolean;
  readonly requestTime: Date;
  readonly removedTime: Date;
  readonly scrubbedTime: Date;
}

const KIND_RECORD = 1;
const KIND_BUCKET = 4;
/** Bounds the search for a record's version, which is in a hash only. */
const VERSIONS_MAX = 100_000n;
const LEVELS: readonly ErasureLevel[] = [
  "E0_TOMBSTONED", "E1_LOCAL_ANCHOR_SCRUBBED", "E2_ALL_ANCHORS_SCRUBBED", "E3_CIPHERTEXT_COLLECTED",
];
const REASONS: readonly (ErasureReason | undefined)[] = [
  undefined, "SUBJECT_REQUEST", "RETENTION", "SUPERSEDED", "CONTRACT", "UNACKNOWLEDGED", "MOVED",
];

/**
 * Checks a receipt without the vault, under the 32-byte public key that the caller trusts: the signature, that what the
 * receipt says beside the signed bytes agrees with them, and that they are about the record or subject of its name. A
 * bucket's name is not signed.
 */
export function verifyReceipt(receipt: Receipt, publicKey: Uint8Array): VerifiedReceipt {
  const bytes = Buffer.from(receipt.signedBytes);
  const forged = signatureFault(bytes, receipt.signature, publicKey);
  if (forged !== undefined) throw new ReceiptError(forged);
  const signed = decode(bytes);
  const fault = claimFault([
    ["level", receipt.level === signed.level],
    ["reason", receipt.reason === signed.reason],
    ["generation", receipt.generation === signed.generation],
    ["leaf_index", receipt.leafIndex === signed.leafIndex],
    ["request_time", receipt.requestTime.getTime() === signed.requestTime.getTime()],
    ["erase_time", receipt.eraseTime.getTime() === signed.scrubbedTime.getTime()],
  ]);
  if (fault !== undefined) throw new ReceiptError(fault);
  const { kind, vault, tenant, bucket, unit, ...told } = signed;
  let recordVersion: bigint | undefined;
  if (kind === KIND_BUCKET) {
    if (!sha256("VB1", vault, tenant, bucket).equals(unit)) throw new ReceiptError("unit: is not of this bucket");
  } else {
    recordVersion = versionOf(receipt.name, signed);
    if (recordVersion === undefined) throw new ReceiptError("name: is not what was signed");
  }
  return { name: receipt.name, recordVersion, vaultId: vault.toString("hex"), ...told };
}

/** `"VE1" | vault[16] | leaf[208] | level u8 | medium u8 | scrubbed i64` (docs/FORMAT.md §7). */
function decode(bytes: Buffer) {
  const leaf = bytes.subarray(19, 227);
  const [kind, reason] = [leaf[4], REASONS[leaf[5] ?? 0]];
  const [level, medium] = [LEVELS[bytes[227] ?? LEVELS.length], bytes[228]];
  const isReceipt =
    bytes.length === 3 + 16 + 208 + 1 + 1 + 8 &&
    bytes.toString("latin1", 0, 3) === "VE1" &&
    leaf.toString("latin1", 0, 4) === "LTL1" &&
    leaf.subarray(202).every((zero) => zero === 0) &&
    (medium === 1 || medium === 2);
  if (!isReceipt || level === undefined || reason === undefined || (kind !== KIND_RECORD && kind !== KIND_BUCKET)) {
    throw new ReceiptError("signed_bytes: are not a receipt");
  }
  const time = (at: number): Date => new Date(Number(bytes.readBigInt64BE(at)));
  return {
    kind,
    vault: bytes.subarray(3, 19),
    unit: leaf.subarray(44, 76),
    tenant: leaf.subarray(76, 79),
    bucket: leaf.subarray(79, 82),
    level,
    reason,
    generation: leaf.readBigUInt64BE(16),
    leafIndex: leaf.readBigUInt64BE(8),
    overwritesInPlace: medium === 1,
    requestTime: time(19 + 118),
    removedTime: time(19 + 126),
    scrubbedTime: time(229),
  };
}

/** Which version of the named record the signed hash is of. */
function versionOf(name: string, signed: ReturnType<typeof decode>): bigint | undefined {
  const id = /^tenants\/[^/]+\/(?:records|subjects)\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(name)?.[1];
  if (id === undefined) return undefined;
  const record = Buffer.from(id.replaceAll("-", ""), "hex");
  const number = Buffer.alloc(8);
  for (let version = 1n; version <= VERSIONS_MAX; version++) {
    number.writeBigUInt64BE(version);
    if (sha256("VU1", signed.vault, signed.tenant, record, number).equals(signed.unit)) return version;
  }
  return undefined;
}

function sha256(label: string, ...parts: Buffer[]): Buffer {
  const hash = createHash("sha256").update(label, "latin1");
  for (const part of parts) hash.update(part);
  return hash.digest();
}
