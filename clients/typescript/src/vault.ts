import { type KeyInfo as WireKeyInfo, VaultService } from "./gen/lethe/admin/v1/vault_pb.js";
import { broken } from "./errors.js";
import { dateOf, paged } from "./paging.js";
import { type ErasureLevel, type ErasureReason, levelOf, reasonToWire, type Receipt, receiptOf } from "./receipt.js";
import { type CallOptions, type Transport } from "./transport.js";

/** A vault's state. */
export interface VaultStatus {
  /** 32 hex digits. */
  readonly vaultId: string;
  readonly version: string;
  readonly storeEngine: string;
  /** The anchor's. */
  readonly generation: bigint;
  readonly ledgerSize: bigint;
  readonly ledgerRoot: Uint8Array;
  /** What receipts can claim here. */
  readonly advertisedLevel: ErasureLevel;
  /** What needs attention. */
  readonly warnings: readonly string[];
  readonly startTime: Date | undefined;
  readonly tenants: bigint;
  readonly pendingErasures: bigint;
  /** The vault's Ed25519 key. Note it once, over a path that you trust, to verify receipts with. */
  readonly publicKey: Uint8Array;
  readonly counters: Readonly<Record<string, bigint>>;
}

/** One kind of key. */
export interface KeyInfo {
  readonly kind: string;
  readonly keyId: string;
  readonly wrappedBy: string;
  readonly count: bigint;
  /** When the oldest was taken into use; undefined if not recorded. */
  readonly since: Date | undefined;
}

/** The records of one type that expire on one day. */
export interface Bucket {
  readonly schema: string;
  /** Empty if open-ended. */
  readonly expireDate: string;
}

/** Operation of the vault. */
export class Vault {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async status(options: CallOptions = {}): Promise<VaultStatus> {
    const answer = await this.#transport.unary(VaultService.method.getStatus, "safely", {}, options);
    const { $typeName: _type, $unknown: _unknown, advertisedLevel, startTime, ...rest } = answer;
    return { ...rest, advertisedLevel: levelOf(advertisedLevel), startTime: dateOf(startTime) };
  }

  /** What is wrapped by what, and how old each key is. */
  async keyStatus(options: CallOptions = {}): Promise<KeyInfo[]> {
    const answer = await this.#transport.unary(VaultService.method.getKeyStatus, "safely", {}, options);
    return answer.keys.map(keyInfoOf);
  }

  /** Gives the vault a new KEK and a new root key. It is sent once. */
  async rotateKey(options: CallOptions = {}): Promise<{ kek: KeyInfo; generation: bigint }> {
    const { kek, generation } = await this.#transport.unary(VaultService.method.rotateKey, "never", {}, options);
    if (!kek) throw broken("lacks the key");
    return { kek: keyInfoOf(kek), generation };
  }

  /** The retention buckets of a tenant. */
  buckets(parent: string, options: CallOptions = {}): AsyncGenerator<Bucket, void, undefined> {
    return paged(async (pageToken) => {
      const request = { parent, pageToken };
      const answer = await this.#transport.unary(VaultService.method.listBuckets, "safely", request, options);
      const all = answer.buckets.map(({ schema, expireDate }) => ({ schema, expireDate }));
      return { all, nextPageToken: answer.nextPageToken };
    });
  }

  /** Erases every record of a type that expires on one day, at once. It is sent once. */
  async eraseBucket(bucket: Bucket, reason: ErasureReason, options: CallOptions = {}): Promise<Receipt> {
    const request = { ...bucket, reason: reasonToWire(reason) };
    const answer = await this.#transport.unary(VaultService.method.eraseBucket, "never", request, options);
    return receiptOf(answer.receipt);
  }
}

function keyInfoOf({ kind, keyId, wrappedBy, count, since }: WireKeyInfo): KeyInfo {
  return { kind, keyId, wrappedBy, count, since: dateOf(since) };
}
