import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:tls";
import { test } from "node:test";
import { inspect } from "node:util";

import {
  Client, type Config, DataLossError, DeadlineExceededError, DuplicateError, Fields, InvalidArgumentError, LetheError,
  newRequestId, type NewRecord, ResourceExhaustedError, UnavailableError,
} from "../src/index.js";
import * as errors from "../src/errors.js";
import { pauseMs } from "../src/retry.js";
import { detail, field, serve, told } from "./fake.js";
import { Pki } from "./pki.js";

const EMPTY: NewRecord = { schema: "", fields: new Fields() };
const T = "tenants/t";

test("only what is safe is made again", async (t) => {
  for (const code of ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "INTERNAL", "ABORTED"] as const) {
    const isPassing = code === "UNAVAILABLE" || code === "RESOURCE_EXHAUSTED";
    const ids: string[] = [];
    const calls = { get: 0, erase: 0, tenant: 0 };
    const client = await serve(t, {
      createRecord: (call, answer) => {
        ids.push(call.request.requestId);
        if (ids.length < 3) answer(told(code, "TEST"));
        else answer(null, { record: { name: "r" } });
      },
      getRecord: (_, answer) => answer(told(code, "TEST"), (calls.get += 1)),
      eraseRecord: (_, answer) => answer(told(code, "TEST"), (calls.erase += 1)),
      createTenant: (_, answer) => answer(told(code, "TEST"), (calls.tenant += 1)),
    });
    const created = await client.records.create(T, EMPTY).then(() => true, () => false);
    await assert.rejects(client.records.get("r"));
    await assert.rejects(client.records.erase("r", "CONTRACT"));
    await assert.rejects(client.tenants.create("t", ""));
    assert.deepEqual(calls, { get: isPassing ? 4 : 1, erase: 1, tenant: 1 }, code);
    assert.equal(created, isPassing);
    assert.equal(ids.length, isPassing ? 3 : 1);
    assert.equal(new Set(ids).size, 1);
    assert.match(ids[0] ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  }
});

test("pauses grow and differ", () => {
  const seen = new Set<number>();
  for (const [attempt, whole] of [[1, 100], [2, 200], [3, 400]] as const) {
    for (let n = 0; n < 20; n++) {
      const pause = pauseMs(attempt);
      assert(pause >= whole / 2 && pause <= whole);
      seen.add(pause);
    }
  }
  assert(seen.size > 30);
  assert(pauseMs(1000) < 10_000);
});

test("every call has a deadline", async (t) => {
  let left = 0;
  const client = await serve(t, {
    getRecord: (call, answer) => {
      left = call.getDeadline() - Date.now();
      answer(told("NOT_FOUND", "NOT_FOUND"));
    },
  });
  for (const [timeoutMs, expected] of [[undefined, 30_000], [60_000, 60_000], [10_000, 10_000]] as const) {
    await assert.rejects(client.records.get("r", {}, { timeoutMs }));
    assert(left <= expected + 100 && left > expected - 5_000, `${left} of ${expected}`);
  }
  for (const timeoutMs of [61_000, 0, -1, NaN]) {
    await assert.rejects(client.records.get("r", {}, { timeoutMs }), RangeError);
    assert.throws(() => new Client(new Pki().config(1), { timeoutMs }), RangeError);
  }
});

test("retries end with the deadline", async (t) => {
  const client = await serve(t, { getRecord: (_, answer) => answer(told("UNAVAILABLE", "UNAVAILABLE")) });
  await client.records.get("r").catch(() => {});
  const began = Date.now();
  await assert.rejects(client.records.get("r", {}, { timeoutMs: 200 }), UnavailableError);
  assert(Date.now() - began < 300);
});

test("a call and a stream can be given up", async (t) => {
  const client = await serve(t, { getRecord: () => {}, watchRecords: () => {} });
  for (const call of [
    (signal: AbortSignal) => client.records.get("r", {}, { signal }),
    (signal: AbortSignal) => client.records.watch(T, { signal }),
  ]) {
    await assert.rejects(call(AbortSignal.timeout(100)), errors.CancelledError);
    await assert.rejects(async () => call(AbortSignal.abort()), errors.CancelledError);
  }
});

test("each error has its type", async (t) => {
  const cases: [Parameters<typeof told>[0], string, string[]][] = [
    ["NOT_FOUND", "NOT_FOUND", ["NotFoundError"]],
    ["NOT_FOUND", "ERASED", ["NotFoundError", "ErasedError"]],
    ["INVALID_ARGUMENT", "", ["InvalidArgumentError"]],
    ["ALREADY_EXISTS", "EXISTS", ["AlreadyExistsError"]],
    ["ALREADY_EXISTS", "DUPLICATE_VALUE", ["AlreadyExistsError", "DuplicateError"]],
    ["ABORTED", "ETAG_MISMATCH", ["AbortedError", "StaleError"]],
    ["ABORTED", "REQUEST_ID_REUSED", ["AbortedError", "RequestIdReusedError"]],
    ["ABORTED", "CHANGES_MISSED", ["AbortedError", "ChangesMissedError"]],
    ["ABORTED", "CONFLICT", ["AbortedError"]],
    ["FAILED_PRECONDITION", "PRECONDITION", ["FailedPreconditionError"]],
    ["PERMISSION_DENIED", "", ["PermissionDeniedError"]],
    ["UNAUTHENTICATED", "", ["UnauthenticatedError"]],
    ["RESOURCE_EXHAUSTED", "LIMIT", ["ResourceExhaustedError"]],
    ["UNAVAILABLE", "UNAVAILABLE", ["UnavailableError"]],
    ["DEADLINE_EXCEEDED", "", ["DeadlineExceededError"]],
    ["CANCELLED", "", ["CancelledError"]],
    ["DATA_LOSS", "DAMAGED", ["DataLossError"]],
    ["INTERNAL", "", []],
  ];
  let next: unknown;
  const client = await serve(t, { eraseRecord: (_, answer) => answer(next) });
  const types = Object.entries(errors).filter(([name]) => name.endsWith("Error") && name !== "LetheError");
  for (const [code, reason, expected] of cases) {
    next = told(code, reason);
    const error: unknown = await client.records.erase("r", "CONTRACT").catch((e: unknown) => e);
    assert(error instanceof LetheError && error.code === code && error.reason === reason);
    assert.equal(error.name, error.constructor.name);
    const is = types.filter(([, type]) => error instanceof (type as typeof LetheError)).map(([name]) => name);
    assert.deepEqual(is.sort(), expected.sort(), `${code} ${reason}`);
  }
});

test("an error carries its details", async (t) => {
  let next: unknown;
  const client = await serve(t, { eraseRecord: (_, answer) => answer(next) });
  const refused = (error: unknown) => {
    next = error;
    return client.records.erase("r", "CONTRACT").catch((e: unknown) => e);
  };
  const duplicate = await refused(told("ALREADY_EXISTS", "DUPLICATE_VALUE",
    detail("ResourceInfo", field(2, "tenants/t/records/r")), detail("RequestInfo", field(1, "requests[1]"))));
  assert(duplicate instanceof DuplicateError);
  assert.deepEqual([duplicate.field, duplicate.resource, duplicate.part], ["email", "tenants/t/records/r", "requests[1]"]);
  const bad = await refused(told("INVALID_ARGUMENT", "",
    detail("BadRequest", field(1, Buffer.concat([field(1, "a"), field(2, "b")])))));
  assert(bad instanceof InvalidArgumentError);
  assert.deepEqual(bad.violations, [{ field: "a", description: "b" }]);
  const failed = await refused(told("FAILED_PRECONDITION", "",
    detail("PreconditionFailure", field(1, Buffer.concat([field(2, "s"), field(3, "d")])))));
  assert(failed instanceof errors.FailedPreconditionError);
  assert.deepEqual(failed.violations, [{ field: "s", description: "d" }]);
  const spoilt = await refused(told("NOT_FOUND", "ERASED", Buffer.from([0x1a, 0x7f])));
  assert(spoilt instanceof errors.NotFoundError && spoilt.reason === "");
});

test("foreign servers and foreign names are refused", async (t) => {
  const get = { getRecord: (_: unknown, answer: (e: null, a: object) => void) => answer(null, { record: { name: "r" } }) };
  const named = (serverName: string) => (config: Config): Config => ({ ...config, serverName });
  const options = { timeoutMs: 3_000 };
  assert.equal((await (await serve(t, get, options)).records.get("r")).name, "r");
  assert.equal((await (await serve(t, get, options, new Pki(), named("vault.test"))).records.get("r")).name, "r");
  const other = await serve(t, get, options, new Pki(), named("other.test"));
  await assert.rejects(other.records.get("r"), UnavailableError);
  const foreign = new Pki();
  const ca = foreign.config(1).ca;
  const stranger = await serve(t, get, options, new Pki(), (config) => ({ ...config, ca }));
  // This variable of the environment must not open what the client closes.
  process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
  t.after(() => delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"]);
  await assert.rejects(stranger.records.get("r"), UnavailableError);
  foreign.remove();
});

test("older TLS is refused", async (t) => {
  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    const pki = new Pki();
    let shaken = 0;
    const server = createServer({
      ca: pki.ca.pem, cert: pki.server.pem, key: pki.server.keyPem, requestCert: true, maxVersion, ALPNProtocols: ["h2"],
    });
    server.on("secureConnection", (socket) => {
      shaken++;
      socket.on("error", () => {}).destroy();
    });
    server.on("tlsClientError", () => {});
    await once(server.listen(0, "127.0.0.1"), "listening");
    const address = server.address();
    assert(typeof address === "object" && address);
    const client = new Client(pki.config(address.port), { timeoutMs: 2_000 });
    t.after(() => pki.remove());
    await assert.rejects(client.records.get("r"), LetheError);
    client.close();
    server.close();
    assert.equal(shaken > 0, maxVersion === "TLSv1.3");
  }
});

test("an environment's proxy is not used", async (t) => {
  process.env["https_proxy"] = process.env["grpc_proxy"] = "http://127.0.0.1:1";
  t.after(() => {
    delete process.env["https_proxy"];
    delete process.env["grpc_proxy"];
  });
  const client = await serve(t, { getRecord: (_, answer) => answer(null, { record: { name: "r" } }) }, { timeoutMs: 3_000 });
  assert.equal((await client.records.get("r")).name, "r");
});

test("too large is refused before it is sent, and what cannot be sent is not repeated", async (t) => {
  let calls = 0;
  const client = await serve(t, {
    createRecord: (_, answer) => answer(told("INTERNAL", ""), (calls += 1)),
    importRecords: new Importer().serve,
  });
  const large = { ...EMPTY, fields: new Fields({ photo: new Uint8Array(5 << 20) }) };
  await assert.rejects(client.records.create(T, large), ResourceExhaustedError);
  const stream = await client.records.openImport(T, newRequestId());
  await assert.rejects(stream.send("canary" as never, [EMPTY]), (error) => {
    return error instanceof InvalidArgumentError && !inspect(error).includes("canary");
  });
  await assert.rejects(client.records.erase("r", "canary" as never), InvalidArgumentError);
  assert.equal(calls, 0);
});

const named = (...names: string[]) => names.map((name) => ({ name }));

test("an export that breaks goes on by token", async (t) => {
  const tokens: string[] = [];
  const client = await serve(t, {
    exportRecords: (call) => {
      tokens.push(call.request.pageToken);
      const fail = (error: unknown) => call.emit("error", error);
      switch (tokens.length) {
        case 1:
          return fail(told("RESOURCE_EXHAUSTED", "LIMIT"));
        case 2:
          call.write({ records: named("a", "b"), nextPageToken: "after-b" });
          return fail(told("UNAVAILABLE", "UNAVAILABLE"));
        case 3:
          call.write({ records: named("c"), damagedNames: ["d"], nextPageToken: "after-d" });
          // Without its last part a stream has not ended, whatever its status says.
          return call.end();
        default:
          call.write({ records: named("e") });
          return call.end();
      }
    },
  });
  const names: string[] = [];
  await assert.rejects(async () => {
    for await (const record of client.records.export(T)) names.push(record.name);
  }, (error) => error instanceof DataLossError && error.message.includes("such as d"));
  assert.deepEqual(names, ["a", "b", "c", "e"]);
  assert.deepEqual(tokens, ["", "", "after-b", "after-d"]);
});

test("an export of the audit log that breaks goes on by index", async (t) => {
  const starts: bigint[] = [];
  const client = await serve(t, {
    exportAuditEntries: (call) => {
      starts.push(call.request.startIndex);
      const part = (...indexes: bigint[]) => call.write({ entries: indexes.map((index) => ({ index })) });
      if (starts.length === 1) {
        part(5n, 6n);
        return call.emit("error", told("UNAVAILABLE", "UNAVAILABLE"));
      }
      part(7n);
      part(8n);
      call.end();
    },
  });
  const indexes: bigint[] = [];
  for await (const entry of client.audit.export(5n)) indexes.push(entry.index);
  assert.deepEqual(indexes, [5n, 6n, 7n, 8n]);
  assert.deepEqual(starts, [5n, 7n]);
});

test("an export gives up when it does not get on", async (t) => {
  for (const [code, expected] of [["UNAVAILABLE", 4], ["INVALID_ARGUMENT", 1]] as const) {
    let calls = 0;
    const client = await serve(t, {
      exportRecords: (call) => {
        calls++;
        call.emit("error", told(code, ""));
      },
    });
    await assert.rejects(client.records.export(T).next(), LetheError);
    assert.equal(calls, expected);
  }
});

test("an export comes no faster than it is taken", async (t) => {
  let sent = 0;
  const client = await serve(t, {
    exportRecords: async (call) => {
      for (; sent < 60 && !call.cancelled; sent++) {
        const records = [{ name: `r${sent}`, fields: { x: { kind: { case: "bytesValue", value: new Uint8Array(1 << 20) } } } }];
        if (!call.write({ records, nextPageToken: "more" })) await once(call, "drain");
      }
      call.write({ records: named("last") });
      call.end();
    },
  });
  let taken = 0;
  for await (const page of client.records.exportPages(T)) {
    taken += page.records.length;
    if (taken === 1) {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      assert(sent < 45, `${sent} MiB came ahead`);
    }
  }
  assert.equal(taken, 61);
});

test("a silent stream ends", async (t) => {
  const client = await serve(t, { watchRecords: () => {}, importRecords: () => {} }, { timeoutMs: 100 });
  await assert.rejects(client.records.watch(T), DeadlineExceededError);
  await assert.rejects(client.records.openImport(T, newRequestId()), DeadlineExceededError);
});

test("a watch gives what came before it broke, and ends in silence only by its own close", async (t) => {
  const client = await serve(t, {
    watchRecords: (call) => {
      for (const name of ["", "a", "b"]) call.write({ name, kind: 1 });
      if (call.request.parent === T) setTimeout(() => call.emit("error", told("ABORTED", "CHANGES_MISSED")), 50);
    },
  });
  const names: string[] = [];
  await assert.rejects(async () => {
    for await (const event of await client.records.watch(T)) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      names.push(`${event.kind} ${event.name}`);
    }
  }, errors.ChangesMissedError);
  assert.deepEqual(names, ["CREATED a", "CREATED b"]);
  const watch = await client.records.watch("tenants/other");
  setTimeout(() => watch.close(), 50);
  let heard = 0;
  for await (const _ of watch) heard++;
  assert.equal(heard, 2);
});

/** A vault's side of an import that loses connections around the chunks named, counted from 1. */
class Importer {
  readonly chunks: string[] = [];
  stored: string[];
  #last = 0;
  readonly #breaks: { before?: number; after?: number };

  constructor(breaks: { before?: number; after?: number } = {}, stored: string[] = []) {
    this.#breaks = breaks;
    this.stored = stored;
  }

  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly serve = (call: any): void => {
    call.on("error", () => {});
    call.on("data", ({ message }: { message: { case: string; value: { firstIndex: bigint; records: never[] } } }) => {
      if (message.case === "start") return call.write({ nextIndex: BigInt(this.stored.length) });
      const first = Number(message.value.firstIndex);
      const names: string[] = message.value.records.map((r: { fields: { n: { kind: { value: string } } } }) => r.fields.n.kind.value);
      this.chunks.push(`${first}+${names.length}`);
      const lost = () => call.emit("error", told("UNAVAILABLE", "UNAVAILABLE"));
      if (this.chunks.length === this.#breaks.before) return lost();
      if (first === this.stored.length) {
        this.#last = first;
        this.stored.push(...names);
      } else if (first !== this.#last) return call.emit("error", told("INVALID_ARGUMENT", ""));
      if (this.chunks.length === this.#breaks.after) return lost();
      call.write({ nextIndex: BigInt(first + names.length), names });
    });
  };
}

const numbered = (count: number, photo = 0): NewRecord[] =>
  Array.from({ length: count }, (_, at) => ({ schema: "", fields: new Fields({ n: `${at}`, photo: new Uint8Array(photo) }) }));

test("an import that breaks goes on without gap or double", async (t) => {
  const stored = Array.from({ length: 700 }, () => "x");
  const cases: [Importer, string][] = [
    [new Importer(), "0+500 500+500 1000+200"],
    [new Importer({ before: 2 }), "0+500 500+500 500+500 1000+200"],
    [new Importer({ after: 2 }), "0+500 500+500 500+500 1000+200"],
    [new Importer({ after: 3 }), "0+500 500+500 1000+200 1000+200"],
    // Another process stored the first 700.
    [new Importer({}, stored), "700+500"],
  ];
  for (const [vault, chunks] of cases) {
    const before = vault.stored.length;
    const client = await serve(t, { importRecords: vault.serve });
    const names: string[] = [];
    for await (const chunk of client.records.import(T, newRequestId(), numbered(1200))) names.push(...chunk.names);
    assert.equal(vault.chunks.join(" "), chunks);
    const expected = numbered(1200).slice(before).map((record) => record.fields.get("n"));
    assert.deepEqual(names, expected);
    assert.deepEqual(vault.stored.slice(before), expected);
  }
});

test("an import is cut by bytes too, and ends with its source's error", async (t) => {
  const vault = new Importer();
  const client = await serve(t, { importRecords: vault.serve });
  for await (const _ of client.records.import(T, newRequestId(), numbered(5, 1 << 20)));
  assert.equal(vault.chunks.join(" "), "0+2 2+2 4+1");
  const other = new Importer();
  const source = async function* () {
    yield* numbered(501);
    throw new TypeError("spoilt");
  };
  const second = await serve(t, { importRecords: other.serve });
  await assert.rejects(async () => {
    for await (const _ of second.records.import(T, newRequestId(), source()));
  }, /spoilt/);
  assert.equal(other.stored.length, 500);
});
