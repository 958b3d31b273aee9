import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";

import { type ErasureReason, readReceipts, type Receipt, verifyReceipt, writeReceipts } from "../src/index.js";
import { ErasureReasonSchema } from "../src/gen/lethe/v1/erasure_pb.js";

const NAME = "tenants/t/records/00000000-0000-4000-8000-000000000001";

/** A vault's receipt of version 3 of NAME, by a key of its own. */
function signed() {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const raw = publicKey.export({ type: "spki", format: "der" }).subarray(-32);
  const vault = Buffer.from("vault-of-16-byte");
  const kid = Buffer.from([0, 0, 5, 0, 0, 1, 0, 0, 2, 3]);
  const u64 = (value: bigint): Buffer => {
    const out = Buffer.alloc(8);
    out.writeBigUInt64BE(value);
    return out;
  };
  const record = Buffer.from("00000000000040008000000000000001", "hex");
  const unit = createHash("sha256")
    .update(Buffer.concat([Buffer.from("VU1"), vault, kid.subarray(0, 3), record, u64(3n)])).digest();
  const leaf = Buffer.concat([
    Buffer.from("LTL1"), Buffer.from([1, 1, 0, 0]), u64(41n), u64(9n), Buffer.alloc(4), Buffer.alloc(16), unit, kid,
    Buffer.alloc(32), u64(1_700_000_000_001n), u64(1_700_000_000_002n), Buffer.from([0, 0, 0, 1]), Buffer.alloc(64),
    Buffer.alloc(6),
  ]);
  assert.equal(leaf.length, 208);
  const signedBytes = Buffer.concat([Buffer.from("VE1"), vault, leaf, Buffer.from([1, 1]), u64(1_700_000_000_003n)]);
  const receipt: Receipt = {
    name: NAME,
    level: "E1_LOCAL_ANCHOR_SCRUBBED",
    reason: "SUBJECT_REQUEST",
    generation: 9n,
    leafIndex: 41n,
    requestTime: new Date(1_700_000_000_001),
    eraseTime: new Date(1_700_000_000_003),
    caveat: "",
    signedBytes,
    signature: sign(null, signedBytes, privateKey),
    publicKey: raw,
  };
  return { receipt, raw, privateKey };
}

test("a true receipt verifies and says which version", () => {
  const { receipt, raw } = signed();
  const verified = verifyReceipt(receipt, raw);
  assert.equal(verified.recordVersion, 3n);
  assert.equal(verified.vaultId, "7661756c742d6f662d31362d62797465");
  assert.equal(verified.removedTime.getTime(), 1_700_000_000_002);
  const [read] = readReceipts(writeReceipts([receipt]));
  assert.deepEqual(verifyReceipt(read as Receipt, raw), verified);
  for (const wrong of ["", "{}", '{"receipts":[1]}', '{"receipts":[{}]}']) {
    assert.throws(() => readReceipts(wrong), /not a file of receipts/);
  }
});

test("every spoilt byte is noticed", () => {
  const { receipt, raw } = signed();
  for (const part of [receipt.signedBytes, receipt.signature]) {
    for (let at = 0; at < part.length; at++) {
      part[at] = (part[at] as number) ^ 1;
      assert.throws(() => verifyReceipt(receipt, raw), /signature/, `byte ${at}`);
      part[at] = (part[at] as number) ^ 1;
    }
  }
  verifyReceipt(receipt, raw);
  for (const foreign of [signed().raw, new Uint8Array(), raw.subarray(1)]) {
    assert.throws(() => verifyReceipt(receipt, foreign));
  }
});

test("every false claim beside the signature is noticed", () => {
  const { receipt, raw } = signed();
  const claims: [string, Partial<Receipt>][] = [
    ["name", { name: NAME.replace("0001", "0002") }],
    ["level", { level: "E2_ALL_ANCHORS_SCRUBBED" }],
    ["reason", { reason: "RETENTION" }],
    ["generation", { generation: 10n }],
    ["leaf_index", { leafIndex: 42n }],
    ["request_time", { requestTime: new Date(0) }],
    ["erase_time", { eraseTime: new Date(0) }],
  ];
  for (const [field, claim] of claims) {
    assert.throws(() => verifyReceipt({ ...receipt, ...claim }, raw), new RegExp(`^ReceiptError: ${field}: `));
  }
});

test("every reason of the contract is known", () => {
  const { receipt, raw, privateKey } = signed();
  for (const { localName, number } of ErasureReasonSchema.values) {
    if (number === 0) continue;
    const signedBytes = Buffer.from(receipt.signedBytes);
    signedBytes[24] = number;
    const signature = sign(null, signedBytes, privateKey);
    const reason = localName as ErasureReason;
    assert.equal(verifyReceipt({ ...receipt, reason, signedBytes, signature }, raw).reason, localName);
  }
});

test("what is signed but no receipt is refused", () => {
  const { receipt, raw, privateKey } = signed();
  const spoilt: Uint8Array[] = [Buffer.concat([receipt.signedBytes, Buffer.alloc(1)])];
  for (const [at, value] of [[0, 88], [19, 88], [23, 2], [24, 0], [221, 1], [227, 4], [228, 0]] as const) {
    const bytes = Buffer.from(receipt.signedBytes);
    bytes[at] = value;
    spoilt.push(bytes);
  }
  for (const signedBytes of [...spoilt, new Uint8Array()]) {
    const signature = sign(null, signedBytes, privateKey);
    assert.throws(() => verifyReceipt({ ...receipt, signedBytes, signature }, raw), /are not a receipt/);
  }
});
