/** The story of clients/CONFORMANCE.md, step by step. */
import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";

import { ChannelCredentials, Client as Grpc, Metadata } from "@grpc/grpc-js";

import {
  AlreadyExistsError, type AuditEntry, AuditError, type AuditHead, type AuditQuery, type ChangeEvent, Client,
  DeadlineExceededError, DuplicateError, ErasedError, type Field, Fields, type FieldValue, type ImportFailure,
  InvalidArgumentError, LetheError, loadConfig, newRequestId, type NewRecord, NotFoundError, PermissionDeniedError,
  type Receipt, RequestIdReusedError, ResourceExhaustedError, type SchemaDraft, type Selection, StaleError,
  UnavailableError, type VaultRecord, verifyAudit, verifyAuditHead, verifyReceipt,
} from "../src/index.js";
import { devFolder, SKIP, SKIP_SUPPORT, support } from "./daemon.js";
import { retentionSteps } from "./retention_steps.js";

const NOBODY = "00000000-0000-4000-8000-000000000000";
const CALLER = "spiffe://dev.lethe/";
const delivery = { purpose: "delivery" };

const sensitive = (name: string, kind: Field["kind"], more: Partial<Field> = {}): Field => ({
  name, kind, classification: "SENSITIVE", ...more,
});
const SCHEMA: SchemaDraft = {
  retainFor: "P1Y",
  eraseOldVersionsSynchronously: true,
  fields: [
    sensitive("email", "EMAIL", { required: true, unique: true, mask: "EMAIL" }),
    sensitive("city", "TEXT", { indexed: true, maxBytes: 200 }),
    sensitive("visits", "INTEGER"),
    sensitive("score", "NUMBER"),
    sensitive("member", "BOOLEAN"),
    sensitive("born", "DATE"),
    sensitive("photo", "BYTES"),
    sensitive("phone", "PHONE", { purposes: ["delivery"] }),
  ],
};

const tenantId = (): string => `conf-${randomBytes(6).toString("hex")}`;
const namesOf = (records: readonly { name: string }[]): string[] => records.map((record) => record.name);
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, at) => from + at);

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const one of items) out.push(one);
  return out;
}

/** With one bit changed. */
function spoilt(bytes: Uint8Array): Uint8Array {
  const out = Uint8Array.from(bytes);
  const bit = randomInt(8 * out.length);
  out[bit >> 3] = (out[bit >> 3] as number) ^ (1 << (bit & 7));
  return out;
}

function otherKey(): Uint8Array {
  return generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" }).subarray(-32);
}

/** Each name once and in order. */
function assertAscending(names: readonly string[]): void {
  assert.deepEqual(names, [...new Set(names)].sort());
}

test("conformance", { skip: SKIP, timeout: 180_000 }, async (t) => {
  const folder = await devFolder();
  const open = (role: string): Client => {
    const client = Client.open(join(folder, `client-${role}.toml`));
    t.after(() => client.close());
    return client;
  };
  const [operator, application, auditor] = [open("operator"), open("application"), open("auditor")];
  const { records } = application;
  const parent = `tenants/${tenantId()}`;
  const second = `tenants/${tenantId()}`;
  const kind = `${parent}/schemas/customer`;
  const secondKind = `${second}/schemas/customer`;
  const printed: string[] = [];

  const customer = (fields: Record<string, FieldValue>, more: Partial<NewRecord> = {}): NewRecord => ({
    schema: kind, fields: new Fields(fields), ...more,
  });
  const create = (fields: Record<string, FieldValue>): Promise<VaultRecord> => records.create(parent, customer(fields));
  const found = async (field: string, value: FieldValue) => namesOf((await records.find(kind, field, value)).records);
  const listed = async (of?: Selection): Promise<string[]> => namesOf(await all(records.list(parent, of)));
  const publicKey = async (): Promise<Uint8Array> => (await operator.vault.status()).publicKey;

  /** Keeps the printed forms of the error for the last step. */
  async function refused<E extends LetheError>(
    call: Promise<unknown>, type: abstract new (...args: never[]) => E, ...secrets: string[]
  ): Promise<E> {
    const error: unknown = await call.then(() => undefined, (e: unknown) => e);
    assert(error instanceof type, `${String(error)} instead of ${type.name}`);
    const form = `${String(error)} ${inspect(error, { depth: null, showHidden: true })} ${JSON.stringify(error)}`;
    for (const secret of secrets) assert(!withoutStack(form).includes(secret), "the value is repeated");
    printed.push(form);
    return error;
  }
  async function violated(call: Promise<unknown>, field: string, ...secrets: string[]): Promise<void> {
    const error = await refused(call, InvalidArgumentError, ...secrets);
    assert(error.violations.some((v) => v.field === field), `${field} is not named`);
  }
  async function verifies(receipt: Receipt | undefined, name: string): Promise<void> {
    assert(receipt);
    assert.equal(receipt.name, name);
    assert.equal(verifyReceipt(receipt, await publicKey()).name, name);
  }
  /** Lines and columns of the program are numbers too. */
  function withoutStack(form: string): string {
    return form.replace(/^ +at .*$/gm, "");
  }

  let count = 0;
  let hasFailed = false;
  /** A later step builds on the earlier ones. */
  const step = async (work: () => Promise<void>, skip: string | false = false): Promise<void> => {
    const name = `step ${String(++count).padStart(2, "0")}`;
    await t.test(name, { skip: hasFailed ? "an earlier step failed" : skip }, async () => {
      hasFailed = true;
      await work();
      hasFailed = false;
    });
  };

  await step(async () => void (await all(application.tenants.list())));

  await step(async () => {
    const config = loadConfig(join(folder, "client-application.toml"));
    for (const credentials of [ChannelCredentials.createSsl(readFileSync(config.ca)), ChannelCredentials.createInsecure()]) {
      const channel = new Grpc(config.endpoint.replace("https://", ""), credentials);
      const same = (bytes: Buffer): Buffer => bytes;
      const error = await new Promise<{ code?: number } | null>((resolve) => {
        const path = "/lethe.v1.TenantService/ListTenants";
        const options = { deadline: Date.now() + 10_000 };
        channel.makeUnaryRequest(path, same, same, Buffer.alloc(0), new Metadata(), options, resolve);
      });
      channel.close();
      assert.equal(error?.code, 14);
    }
  });

  await step(async () => {
    const id = parent.replace("tenants/", "");
    assert.equal((await operator.tenants.create(id, "Conformance")).name, parent);
    const made = await operator.schemas.create(parent, "customer", SCHEMA);
    assert.deepEqual([made.name, made.revision], [kind, 1]);
    const read = await operator.schemas.get(kind);
    assert.deepEqual(read.fields.map((f) => f.name), SCHEMA.fields.map((f) => f.name));
    assert.deepEqual([read.retainFor, read.fields[0]?.mask, read.fields[0]?.unique], ["P1Y", "EMAIL", true]);
    assert.deepEqual(namesOf(await all(operator.schemas.list(parent))), [kind]);
    await refused(operator.tenants.create(id, "Conformance"), AlreadyExistsError);
    await refused(application.tenants.create(tenantId(), ""), PermissionDeniedError);
  });

  const values = {
    email: "ada@example.org", city: "London", visits: 3n, score: 1.5, member: true, born: "1815-12-10",
    photo: new Uint8Array([0x00, 0xff]), phone: "+441234567890",
  };
  const adaRequest = customer(values, { requestId: newRequestId() });
  let ada: VaultRecord;
  await step(async () => {
    ada = await records.create(parent, adaRequest);
    assert(ada.name.startsWith(`${parent}/records/`) && ada.subject.startsWith(`${parent}/subjects/`) && ada.etag);
    const year = new Date();
    year.setUTCFullYear(year.getUTCFullYear() + 1);
    assert(Math.abs(Date.parse(ada.expireDate) - year.getTime()) < 2 * 86_400_000);
    assert(Math.abs((ada.createTime?.getTime() ?? 0) - Date.now()) < 60_000);
    const got = (await records.get(ada.name, delivery)).fields.toObject();
    assert.deepEqual({ ...got, photo: Buffer.from(got["photo"] as Uint8Array) }, { ...values, photo: Buffer.from([0x00, 0xff]) });
  });

  await step(async () => {
    assert.equal((await records.create(parent, adaRequest)).name, ada.name);
    assert.deepEqual(await listed(), [ada.name]);
  });

  await step(async () => {
    const other = customer({ email: "other@example.org" }, { requestId: adaRequest.requestId });
    await refused(records.create(parent, other), RequestIdReusedError);
    assert.equal((await listed()).length, 1);
  });

  await step(() => violated(create({ email: "x@example.org", shoe: 42n }), "record.fields.shoe", "x@example.org", "42"));

  await step(() => violated(create({ email: "canary-at-example" }), "record.fields.email", "canary"));

  let batch: VaultRecord[];
  await step(async () => {
    const of = (...emails: string[]) => emails.map((email) => customer({ email }, { requestId: newRequestId() }));
    await violated(records.createBatch(parent, of("b1@example.org", "canary-at-example", "b3@example.org")),
      "requests[1].record.fields.email", "canary");
    const twice = await refused(records.createBatch(parent, of("b1@example.org", "ada@example.org")), DuplicateError);
    assert.equal(twice.part, "requests[1]");
    assert.deepEqual(await found("email", "b1@example.org"), []);
    const good = of("b1@example.org", "b2@example.org", "b3@example.org");
    batch = await records.createBatch(parent, good);
    assert.deepEqual(batch.map((r) => r.fields.get("email")), good.map((r) => r.fields.get("email")));
    assert.deepEqual(namesOf(await records.createBatch(parent, good)), namesOf(batch));
  });

  await step(async () => {
    assert.deepEqual((await records.get(ada.name, { mask: ["city", "fields.visits"] })).fields.names(), ["city", "visits"]);
    await violated(records.get(ada.name, { mask: ["city", "canary"] }), "read_mask.paths[1]", "canary");
  });

  await step(async () => {
    for (const [purpose, size] of [[undefined, 7], ["delivery", 8], ["marketing", 7]] as const) {
      const { fields } = await records.get(ada.name, { purpose });
      assert.deepEqual([fields.size, fields.has("phone")], [size, size === 8], purpose);
    }
  });

  await step(async () => {
    const names = [batch[2], ada, batch[0]].map((record) => record?.name ?? "");
    assert.deepEqual(namesOf(await records.getBatch(parent, names)), names);
    names[1] = `${parent}/records/${NOBODY}`;
    const error = await refused(records.getBatch(parent, names), NotFoundError);
    assert(!(error instanceof ErasedError));
    assert.equal(error.part, "names[1]");
  });

  const city = (to: string) => ({ etag: ada.etag, fields: new Fields({ city: to }) });
  await step(async () => {
    assert.notEqual((await records.update(ada.name, city("Paris"))).etag, ada.etag);
    assert.deepEqual(await found("city", "Paris"), [ada.name]);
    assert.deepEqual(await found("city", "London"), []);
  });

  await step(async () => {
    await refused(records.update(ada.name, city("Rome")), StaleError);
    assert.equal((await records.get(ada.name)).fields.get("city"), "Paris");
  });

  await step(async () => {
    await records.update(ada.name, { mask: ["score"] });
    const { fields } = await records.get(ada.name, delivery);
    assert.deepEqual([fields.size, fields.has("score")], [7, false]);
  });

  await step(async () => {
    const error = await refused(create({ email: "ada@example.org" }), DuplicateError);
    assert.deepEqual([error.field, error.resource], ["email", ada.name]);
  });

  await step(async () => {
    assert.deepEqual(await found("email", "ada@example.org"), [ada.name]);
    await violated(records.find(kind, "visits", 3n), "field");
  });

  await step(async () => {
    for (const n of range(0, 6)) await create({ email: `o${n}@example.org`, city: "Oslo" });
    const names: string[] = [];
    let pages = 0;
    for (let pageToken: string | undefined; pageToken !== ""; pages++) {
      const page = await records.listPage(parent, { schema: kind, pageSize: 3, pageToken });
      names.push(...namesOf(page.records));
      pageToken = page.nextPageToken;
    }
    assert(pages >= 4);
    assert.equal(names.length, 10);
    assertAscending(names);
    assert.deepEqual(await listed({ pageSize: 3 }), names);
    await violated(records.listPage(parent, { pageToken: "nonsense" }), "page_token");
  });

  const romans = (letter: string, from: number, to: number): NewRecord[] =>
    range(from, to).map((n) => ({
      schema: secondKind, fields: new Fields({ email: `${letter}${n}@example.org`, city: "Rome" }),
    }));
  await step(async () => {
    await operator.tenants.create(second.replace("tenants/", ""), "Second");
    await operator.schemas.create(second, "customer", SCHEMA);
    const source = romans("i", 0, 1200);
    source[700] = { schema: secondKind, fields: new Fields({ email: "canary-at-example", city: "Rome" }) };
    const [sizes, names, failures]: [number[], string[], ImportFailure[]] = [[], [], []];
    for await (const chunk of records.import(second, newRequestId(), source)) {
      sizes.push(chunk.names.length);
      names.push(...chunk.names);
      failures.push(...chunk.failures);
    }
    assert.deepEqual(sizes, [500, 500, 200]);
    assert.deepEqual(range(0, 1200).filter((at) => names[at] === ""), [700]);
    assert.equal(new Set(names).size, 1200);
    assert.equal(failures.length, 1);
    const [failure] = failures;
    assert.deepEqual([failure?.index, failure?.code, failure?.violations[0]?.field], [700n, "INVALID_ARGUMENT", "fields.email"]);
    assert(!inspect(failure).includes("canary"));
  });

  await step(async () => {
    const [id, first] = [newRequestId(), romans("j", 0, 500)];
    const broken = await records.openImport(second, id);
    assert.equal(broken.nextIndex, 0n);
    const before = await broken.send(0n, first);
    broken.close();
    const next = await records.openImport(second, id);
    assert.equal(next.nextIndex, 500n);
    assert.deepEqual((await next.send(0n, first)).names, before.names);
    next.close();
    const chunks = await all(records.import(second, id, romans("j", 0, 1000)));
    assert.deepEqual(chunks.map((c) => [c.firstIndex, c.names.length, c.failures.length]), [[500n, 500, 0]]);
    const last = await records.openImport(second, id);
    await violated(last.send(5000n, first.slice(0, 1)), "chunk.first_index");
    last.close();
    assert.equal((await all(records.list(second, { pageSize: 1000 }))).length, 2199);
  });

  await step(async () => {
    const parts = await all(records.exportPages(second, { schema: secondKind }));
    const names = parts.flatMap((part) => namesOf(part.records));
    assert(parts.length > 1);
    assert.equal(names.length, 2199);
    assertAscending(names);
    const [firstPart] = parts;
    const rest = await all(records.export(second, { schema: secondKind, pageToken: firstPart?.nextPageToken }));
    assert.deepEqual(namesOf(rest), names.slice(firstPart?.records.length));
    const cities = await all(records.export(parent, { mask: ["city"] }));
    assert.deepEqual([...new Set(cities.flatMap((record) => record.fields.names()))], ["city"]);
    const phones = (await all(records.export(parent, delivery))).filter((record) => record.fields.has("phone"));
    assert.deepEqual(namesOf(phones), [ada.name]);
  });

  await step(async () => {
    const watch = await records.watch(parent);
    const timer = setTimeout(() => watch.close(), 30_000);
    const made = await create({ email: "w@example.org" });
    await records.update(made.name, { fields: new Fields({ city: "Wien" }) });
    await records.erase(made.name, "SUBJECT_REQUEST");
    const events: ChangeEvent[] = [];
    for await (const event of watch) {
      if (events.push(event) === 3) break;
    }
    clearTimeout(timer);
    assert.deepEqual(events.map((e) => [e.kind, e.name, e.schema]),
      [["CREATED", made.name, kind], ["UPDATED", made.name, kind], ["ERASED", made.name, kind]]);
  });

  let receipt: Receipt;
  await step(async () => {
    receipt = await records.erase(ada.name, "SUBJECT_REQUEST");
    await verifies(receipt, ada.name);
    const key = await publicKey();
    assert.throws(() => verifyReceipt(receipt, otherKey()));
    assert.throws(() => verifyReceipt({ ...receipt, signedBytes: spoilt(receipt.signedBytes) }, key));
    assert.throws(() => verifyReceipt({ ...receipt, name: batch[0]?.name ?? "" }, key), /name/);
  });

  await step(async () => {
    const again = await records.erase(ada.name, "SUBJECT_REQUEST");
    assert.deepEqual([again.signedBytes, again.signature], [receipt.signedBytes, receipt.signature]);
  });

  await step(async () => {
    await refused(records.get(ada.name), ErasedError);
    await refused(records.update(ada.name, { fields: new Fields({ city: "Rome" }) }), ErasedError);
    const part = await refused(records.getBatch(parent, [batch[0]?.name ?? "", ada.name]), ErasedError);
    assert.equal(part.part, "names[1]");
    await refused(records.create(parent, adaRequest), ErasedError);
    assert.deepEqual(await found("email", "ada@example.org"), []);
    assert.notEqual((await create({ email: "ada@example.org" })).name, ada.name);
    assert(!((await refused(records.get(`${parent}/records/${NOBODY}`), NotFoundError)) instanceof ErasedError));
  });

  await step(async () => {
    const names = namesOf(batch.slice(0, 2));
    const receipts = await records.eraseBatch(parent, names, "SUBJECT_REQUEST");
    for (const [at, name] of names.entries()) await verifies(receipts[at], name);
  });

  await step(async () => {
    const requestId = newRequestId();
    const subject = await application.subjects.create(parent, { requestId });
    assert.equal((await application.subjects.create(parent, { requestId })).name, subject.name);
    const about = (email: string) => records.create(parent, customer({ email }, { subject: subject.name }));
    const names = namesOf([await about("s1@example.org"), await about("s2@example.org")]).sort();
    const erased = await application.subjects.erase(subject.name, "SUBJECT_REQUEST");
    await verifies(erased.receipt, subject.name);
    assert.deepEqual(namesOf(erased.recordReceipts).sort(), names);
    for (const one of erased.recordReceipts) {
      await verifies(one, one.name);
      await refused(records.get(one.name), ErasedError);
      assert.deepEqual((await records.erase(one.name, "SUBJECT_REQUEST")).signedBytes, one.signedBytes);
    }
    await refused(application.subjects.get(subject.name), ErasedError);
    await refused(about("s3@example.org"), ErasedError);
    const again = await application.subjects.erase(subject.name, "SUBJECT_REQUEST");
    assert.deepEqual(again.receipt.signedBytes, erased.receipt.signedBytes);
  });

  await step(async () => {
    const config = loadConfig(join(folder, "client-application.toml"));
    const accepted: Socket[] = [];
    const silent = createServer((socket) => void accepted.push(socket.on("error", () => {})));
    await once(silent.listen(0, "127.0.0.1"), "listening");
    const address = silent.address();
    assert(typeof address === "object" && address);
    const client = (): Client => new Client({ ...config, endpoint: `https://127.0.0.1:${address.port}` });
    const timed = async (timeoutMs: number): Promise<[unknown, number]> => {
      const [one, began] = [client(), Date.now()];
      const error: unknown = await one.tenants.get(parent, { timeoutMs }).catch((e: unknown) => e);
      one.close();
      return [error, Date.now() - began];
    };
    const [late, took] = await timed(1_000);
    assert(late instanceof DeadlineExceededError || late instanceof UnavailableError);
    assert(took >= 500 && took <= 5_000, `${took} ms`);
    await assert.rejects(application.tenants.get(parent, { timeoutMs: 61_000 }), RangeError);
    silent.close();
    // grpc-js leaves a connection open whose handshake never ends: README, "Limits".
    for (const socket of accepted) socket.destroy();
    const [closed, tookClosed] = await timed(30_000);
    await refused(Promise.reject(closed as Error), UnavailableError);
    assert(tookClosed >= 300 && tookClosed <= 10_000, `${tookClosed} ms`);
  });

  await step(async () => {
    const many = range(0, 501).map((n) => customer({ email: `m${n}@example.org` }));
    await violated(records.createBatch(parent, many), "requests");
    const names = range(0, 1001).map((n) => `${parent}/records/00000000-0000-4000-8000-${String(n).padStart(12, "0")}`);
    await violated(records.getBatch(parent, names), "names");
    await refused(create({ email: "p@example.org", photo: new Uint8Array(5 << 20) }), ResourceExhaustedError);
  });

  await step(async () => {
    const read = () => application.tenants.get(parent);
    const update: typeof operator.tenants.update = (...of) => operator.tenants.update(...of);
    const first = await read();
    const changed = await update(parent, "Renamed", { etag: first.etag });
    assert.notEqual(changed.etag, first.etag);
    assert.deepEqual(changed, { ...first, displayName: "Renamed", etag: changed.etag });
    assert.deepEqual(await read(), changed);
    await refused(update(parent, "Other", { etag: first.etag }), StaleError);
    await violated(update(parent, "Other", { mask: ["display_name", "canary"] }), "update_mask.paths[1]", "canary");
    await refused(application.tenants.update(parent, "Other"), PermissionDeniedError);
    assert.deepEqual(await read(), changed);
    assert.equal((await update(parent, "")).displayName, "");
  });

  await step(async () => {
    const before = await operator.schemas.get(kind);
    const fields = before.fields.map((f) => (f.name === "city" ? { ...f, classification: "GENERAL" as const } : f));
    const part = { fields: fields.filter((f) => f.name === "city") };
    const after = await operator.schemas.update(kind, part, { mask: ["fields.city"] });
    assert.deepEqual(after, { ...before, fields, revision: 2, updateTime: after.updateTime });
    await violated(operator.schemas.update(kind, part, { mask: ["fields.city", "fields.canary"] }),
      "update_mask.paths[1]", "canary");
  });

  const entries = (of: AuditQuery): Promise<AuditEntry[]> => all(auditor.audit.list(of));
  await step(async () => {
    const made = await create({ email: "mask@example.org", city: "Bern", visits: 3n, phone: "+441234567890" });
    const caller = Client.open(support(folder));
    t.after(() => caller.close());
    for (const end = Date.now() + 30_000; ; await sleep(200)) {
      const error: unknown = await caller.tenants.get(parent).then(() => undefined, (e: unknown) => e);
      if (error === undefined) break;
      assert(error instanceof PermissionDeniedError && Date.now() < end, "support is not let in");
    }
    const masked = { email: "m***@example.org", city: "Bern", phone: "+441****7890" };
    assert.deepEqual((await caller.records.get(made.name, delivery)).fields.toObject(), masked);
    const listed = (await all(caller.records.list(parent, delivery))).filter((record) => record.name === made.name);
    assert.deepEqual(listed.map((record) => record.fields.toObject()), [masked]);
    assert.equal((await caller.records.get(made.name, { mask: ["visits"] })).fields.size, 0);
    await refused(caller.records.find(kind, "email", "mask@example.org"), PermissionDeniedError);
    await refused(caller.records.update(made.name, { fields: new Fields({ city: "Rome" }) }), PermissionDeniedError);
    const seen = await entries({ parent, principal: `${CALLER}support` });
    const gets = seen.filter((e) => e.method === "GetRecord" && e.purpose === "delivery");
    assert.deepEqual(gets.map((e) => [e.role, e.clear, e.masked]), [["support", ["GENERAL"], ["SENSITIVE"]]]);
  }, SKIP_SUPPORT);

  await step(async () => {
    const made = await create({ email: "log@example.org" });
    await records.get(made.name, delivery);
    const about = await entries({ subject: made.subject });
    assert.deepEqual(about.map((e) => [e.method, e.purpose]), [["GetRecord", "delivery"], ["CreateRecord", ""]]);
    for (const e of about) {
      assert.deepEqual([e.kind, e.code, e.total, e.part], ["CALL", 0, 1, 0]);
      assert.deepEqual([e.principal, e.role], [`${CALLER}application`, "application"]);
      assert.deepEqual([e.tenant, e.schema, e.clear, e.masked], [parent, kind, ["SENSITIVE"], []]);
      assert.deepEqual(e.members, about[0]?.members);
      assert.deepEqual(e.members.map((m) => m.subject.length), [16]);
    }
    const log: AuditEntry[] = [];
    let pages = 0;
    for (let pageToken: string | undefined; pageToken !== ""; pages++) {
      const page = await auditor.audit.listPage({ parent, pageSize: 20, pageToken });
      log.push(...page.entries);
      pageToken = page.nextPageToken;
    }
    assert(pages >= 3);
    for (const [at, e] of log.entries()) {
      assert.equal(e.tenant, parent);
      assert(at === 0 || e.index < (log[at - 1] as AuditEntry).index);
    }
    const methods = new Set(log.map((e) => e.method));
    for (const method of [
      "CreateTenant", "UpdateTenant", "UpdateSchema", "CreateRecord", "GetRecord", "FindRecords", "EraseRecord",
      "EraseSubject",
    ]) {
      assert(methods.has(method), method);
    }
    const [own] = await entries({ parent });
    assert.deepEqual([own?.method, own?.principal, own?.role], ["ListAuditEntries", `${CALLER}auditor`, "auditor"]);
    assert((own as AuditEntry).index > (log[0] as AuditEntry).index);
    const operators = await entries({ parent, principal: `${CALLER}operator` });
    assert.deepEqual([...new Set(operators.map((e) => e.principal))], [`${CALLER}operator`]);
    assert.equal(operators.at(-1)?.method, "CreateTenant");
    await violated(auditor.audit.listPage({ pageToken: "nonsense" }), "page_token");
    await refused(application.audit.listPage({ parent }), PermissionDeniedError);
    await application.subjects.erase(made.subject, "SUBJECT_REQUEST");
    await refused(auditor.audit.listPage({ subject: made.subject }), ErasedError);
    const id = made.name.slice(made.name.lastIndexOf("/") + 1);
    for (const e of log) {
      for (const secret of ["example.org", "London", id]) {
        assert(!inspect(e, { depth: null }).includes(secret), "an entry shows it");
        assert(!Buffer.from(e.leaf).includes(secret), "a leaf holds it");
      }
      assert(!Buffer.from(e.leaf).includes(Buffer.from(id.replaceAll("-", ""), "hex")), "the log holds the id");
    }
  });

  await step(async () => {
    const head = await auditor.audit.head();
    const { publicKey: key } = await auditor.vault.status();
    await verifyAudit(head, auditor.audit.export(), key);
    const log = await all(auditor.audit.export());
    await verifyAudit(head, log, key);
    const [first, ...rest] = log;
    assert(first);
    const leaf = Uint8Array.from(first.leaf);
    leaf[leaf.length - 1] = (leaf[leaf.length - 1] as number) ^ 1;
    const falses: [AuditHead, AuditEntry[], Uint8Array][] = [
      [head, log, otherKey()],
      [{ ...head, signedBytes: spoilt(head.signedBytes) }, log, key],
      [head, [{ ...first, leaf }, ...rest], key],
      [head, rest, key],
      [head, log.slice(0, Number(head.size) - 1), key],
    ];
    for (const [at, one] of falses.entries()) await assert.rejects(verifyAudit(...one), AuditError, `case ${at}`);
    verifyAuditHead(head, key);
    const claims: [string, Partial<AuditHead>][] = [
      ["vault_id", { vaultId: "0".repeat(32) }],
      ["size", { size: head.size + 1n }],
      ["root", { root: new Uint8Array(32) }],
      ["generation", { generation: head.generation + 1n }],
      ["create_time", { createTime: new Date(head.createTime.getTime() + 1) }],
    ];
    for (const [field, claim] of claims) {
      assert.throws(() => verifyAuditHead({ ...head, ...claim }, key), new RegExp(`^AuditError: ${field}: `));
    }
    const last = auditor.audit.export(head.size - 1n);
    assert.deepEqual((await last.next()).value, log[Number(head.size) - 1]);
    await last.return();
    await refused(application.audit.export().next(), PermissionDeniedError);
    await refused(application.audit.head(), PermissionDeniedError);
  });

  const officer = open("privacy-officer");
  await retentionSteps({
    operator, application, officer, parent, kind, nobody: NOBODY, step, create, listed: () => listed(), entries, refused,
    violated,
  });

  await step(async () => {
    assert.equal(ada.fields.get("city"), "London");
    assert(printed.length > 15);
    for (const one of [ada, ada.fields, adaRequest, { change: { fields: ada.fields } }]) {
      printed.push(`${inspect(one, { depth: null, showHidden: true })} ${JSON.stringify(one)} ${String(one)}`);
    }
    for (const form of printed) assert(!/ada@example\.org|London|canary/.test(form), "a value is printed");
  });
});
