import assert from "node:assert/strict";
import { test } from "node:test";

import { create, type DescEnum, toBinary } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";

import {
  type Client, type ClockState, InvalidArgumentError, LetheError, type RetentionEffect, type RetentionForecast,
  type RetentionPolicyDraft, type RetentionStart, UnavailableError,
} from "../src/index.js";
import {
  ClockStateSchema, RetentionEffectSchema, RetentionPolicySchema, RetentionService, RetentionStartSchema,
} from "../src/gen/lethe/v1/retention_pb.js";
import { serve, told } from "./fake.js";

const T = "tenants/t";
const NAME = "tenants/t/retentionPolicies/p";
/** Every part has a value of its own, so that none can stand for another. */
const WHOLE: Required<RetentionPolicyDraft> = {
  schemas: ["tenants/t/schemas/order", "tenants/t/schemas/person"], classification: "SENSITIVE", purpose: "billing",
  start: "EVENT", eventField: "closed", period: "P3Y", gracePeriod: "P30D", endDate: "2030-12-31", minimum: "P1Y",
  maximum: "P9Y", openEnded: true, timeZone: "Asia/Shanghai", legalBasis: "PIPL 19", description: "for people",
};
const MOMENT = { seconds: 1_900_000_000n, nanos: 250_000_000 };
const MOMENT_DATE = new Date(1_900_000_000_250);

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const one of items) out.push(one);
  return out;
}

test("a policy comes back as it was sent", async (t) => {
  const seen: { [name: string]: any } = {};
  const client = await serve(t, {
    createRetentionPolicy: (call, answer) => {
      seen["create"] = call.request;
      const updateTime = create(TimestampSchema, MOMENT);
      answer(null, { retentionPolicy: { ...call.request.retentionPolicy, name: NAME, etag: "7", updateTime } });
    },
    updateRetentionPolicy: (call, answer) => {
      seen["update"] = call.request;
      answer(null, { retentionPolicy: {} });
    },
    deleteRetentionPolicy: (call, answer) => {
      seen["delete"] = call.request;
      answer(null, {});
    },
  });
  const made = await client.retention.createPolicy(T, "p", WHOLE);
  assert.deepEqual(made, { ...WHOLE, name: NAME, etag: "7", updateTime: MOMENT_DATE });
  assert.deepEqual([seen["create"].parent, seen["create"].retentionPolicyId], [T, "p"]);
  // Of the contract's parts all are sent but the three that the vault makes.
  const sent = seen["create"].retentionPolicy;
  const empty = create(RetentionPolicySchema);
  const unset = RetentionPolicySchema.fields.map((f) => f.localName as keyof typeof empty)
    .filter((part) => sent[part] === undefined || sent[part] === empty[part]);
  assert.deepEqual(unset.sort(), ["etag", "name", "updateTime"]);
  assert(toBinary(RetentionPolicySchema, sent).length > 100);

  // Which version, the call says, not a policy that was read earlier.
  const blank = await client.retention.updatePolicy(NAME, made, { mask: ["period"] });
  assert.deepEqual([seen["update"].retentionPolicy.name, seen["update"].retentionPolicy.etag], [NAME, ""]);
  assert.deepEqual(seen["update"].updateMask.paths, ["period"]);
  assert.deepEqual([blank.start, blank.classification, blank.updateTime], [undefined, undefined, undefined]);
  await client.retention.updatePolicy(NAME, made, { etag: "7" });
  assert.deepEqual([seen["update"].retentionPolicy.etag, seen["update"].updateMask.paths], ["7", []]);
  await client.retention.deletePolicy(NAME, { etag: "8" });
  assert.deepEqual([seen["delete"].name, seen["delete"].etag], [NAME, "8"]);
  for (const [field, draft] of [
    ["retention_policy.start", { start: "canary" as RetentionStart }],
    ["retention_policy.start", { start: "toString" as RetentionStart }],
    ["retention_policy.classification", { classification: "canary" as "PUBLIC" }],
  ] as const) {
    const error: unknown = await client.retention.createPolicy(T, "p", draft).catch((e: unknown) => e);
    assert(error instanceof InvalidArgumentError && error.violations[0]?.field === field);
    assert(!/canary|toString/.test(error.message));
  }
  await assert.rejects(client.retention.confirmClock(new Date(NaN)), InvalidArgumentError);
});

test("of retention only reads are made again", async (t) => {
  const calls: Record<string, [number, (client: Client) => Promise<unknown>]> = {
    createRetentionPolicy: [1, (c) => c.retention.createPolicy(T, "p", WHOLE)],
    updateRetentionPolicy: [1, (c) => c.retention.updatePolicy(NAME, WHOLE)],
    getRetentionPolicy: [4, (c) => c.retention.getPolicy(NAME)],
    listRetentionPolicies: [4, (c) => all(c.retention.listPolicies(T))],
    deleteRetentionPolicy: [1, (c) => c.retention.deletePolicy(NAME)],
    explainRetention: [4, (c) => c.retention.explain("r")],
    previewRetention: [4, (c) => all(c.retention.preview(T, "2030-12-31"))],
    getRetentionStatus: [4, (c) => c.retention.status()],
    runRetention: [1, (c) => c.retention.run({ dryRun: true })],
    pauseRebucketing: [1, (c) => c.retention.pauseRebucketing(T)],
    resumeRebucketing: [1, (c) => c.retention.resumeRebucketing(T)],
    confirmClock: [1, (c) => c.retention.confirmClock(MOMENT_DATE)],
  };
  const seen: Record<string, number> = {};
  const refuse = (name: string) => (_: unknown, answer: (error: unknown) => void): void => {
    seen[name] = (seen[name] ?? 0) + 1;
    answer(told("UNAVAILABLE", "UNAVAILABLE"));
  };
  const names = RetentionService.methods.map((method) => method.localName);
  const client = await serve(t, Object.fromEntries(names.map((name) => [name, refuse(name)])));
  assert.deepEqual(Object.keys(calls).sort(), [...names].sort());
  for (const [name, [attempts, call]] of Object.entries(calls)) {
    await assert.rejects(call(client), UnavailableError);
    assert.equal(seen[name], attempts, name);
  }
});

test("a preview adds up its parts over all pages", async (t) => {
  const part = (schema: string, expireDate: string, ...counts: number[]): RetentionForecast => {
    const [recordCount = 0n, stayingCount = 0n, heldCount = 0n, withoutBasisCount = 0n, damagedCount = 0n] =
      counts.map(BigInt);
    return { schema, expireDate, recordCount, stayingCount, heldCount, withoutBasisCount, damagedCount };
  };
  const pages = [
    [part("order", "2030-01-01", 5, 4, 3, 2, 1), part("order", "2030-01-01", 10, 20, 30, 40, 50)],
    [],
    // The same day once more after another one: nothing says that the parts of a day follow each other.
    [part("order", "", 7), part("person", "2030-01-01", 1, 0, 0, 1)],
    [part("order", "2030-01-01", 100)],
  ];
  const tokens: string[] = [];
  let breaksAt = -1;
  const client = await serve(t, {
    previewRetention: ({ request }, answer) => {
      assert.deepEqual([request.parent, request.date], [T, "2031-01-01"]);
      if (tokens.length === breaksAt) return answer(told("INTERNAL", ""));
      tokens.push(request.pageToken);
      const nextPageToken = tokens.length < pages.length ? `after-${tokens.length}` : "";
      answer(null, { forecasts: pages[tokens.length - 1], nextPageToken });
    },
  });
  assert.deepEqual(await all(client.retention.preview(T, "2031-01-01")), [
    part("order", "2030-01-01", 115, 24, 33, 42, 51), part("order", "", 7), part("person", "2030-01-01", 1, 0, 0, 1),
  ]);
  assert.deepEqual(tokens, ["", "after-1", "after-2", "after-3"]);
  // One that breaks gives no sums of a part.
  [tokens.length, breaksAt] = [0, 2];
  await assert.rejects(client.retention.preview(T, "2031-01-01").next(), LetheError);
});

test("what is said of retention arrives", async (t) => {
  const asked: { [name: string]: any } = {};
  const answers: { [name: string]: object } = {
    listRetentionPolicies: { retentionPolicies: [{ name: "p" }], nextPageToken: "" },
    explainRetention: {
      expireDate: "2031-01-01", presentExpireDate: "2030-01-01",
      lines: [
        { rule: "r", effect: 2, endDate: "2030-12-31", dueTime: MOMENT, decides: true, legalBasis: "b" }, { effect: 5 },
      ],
    },
    getRetentionStatus: {
      dueByTime: MOMENT, clockState: 4, sweepIntervalSeconds: 60n, dueBucketCount: 1n, closedBucketCount: 2n,
      closedRecordCount: 3n, erasedBucketCount: 4n, erasedRecordCount: 5n, latenessP50Millis: 1500n,
      latenessP99Millis: 2500n, rebucketing: [{ schema: "s", percent: 40, paused: true }],
      holdCount: 6n, postponedErasureCount: 7n,
    },
    runRetention: {
      runs: [{ schema: "s", expireDate: "2030-12-31", recordCount: 3n, stayingCount: 2n }], failedBucketCount: 4n,
    },
    pauseRebucketing: { unfinished: true },
    resumeRebucketing: { unfinished: true },
    confirmClock: { dueByTime: MOMENT },
  };
  const { retention } = await serve(t, Object.fromEntries(Object.keys(answers).map((name) => [name, (call, answer) => {
    asked[name] = call.request;
    answer(null, answers[name]);
  }])));
  assert.deepEqual((await all(retention.listPolicies(T))).map((policy) => policy.name), ["p"]);
  assert.equal(asked["listRetentionPolicies"].parent, T);
  assert.deepEqual(await retention.explain("n"), {
    expireDate: "2031-01-01", presentExpireDate: "2030-01-01",
    lines: [
      { rule: "r", effect: "END_DATE", endDate: "2030-12-31", dueTime: MOMENT_DATE, decides: true, legalBasis: "b" },
      { rule: "", effect: "OPEN_ENDED", endDate: "", dueTime: undefined, decides: false, legalBasis: "" },
    ],
  });
  assert.equal(asked["explainRetention"].name, "n");
  assert.deepEqual(await retention.status(), {
    ...answers["getRetentionStatus"], dueByTime: MOMENT_DATE, clockState: "UNCONFIRMED", lastSweepTime: undefined,
  });
  const dry = await retention.run({ dryRun: true });
  assert.equal(asked["runRetention"].dryRun, true);
  assert.deepEqual(dry, {
    runs: [{ schema: "s", expireDate: "2030-12-31", recordCount: 3n, stayingCount: 2n, receipt: undefined }],
    failedBucketCount: 4n,
  });
  const receipt = { name: "b", reason: 6, requestTime: MOMENT, eraseTime: MOMENT };
  answers["runRetention"] = { runs: [{ receipt }], failedBucketCount: 0n };
  const [gone] = (await retention.run()).runs;
  assert.equal(asked["runRetention"].dryRun, false);
  assert.deepEqual([gone?.receipt?.name, gone?.receipt?.reason], ["b", "MOVED"]);
  assert.equal(await retention.pauseRebucketing(T), true);
  assert.equal(await retention.resumeRebucketing("tenants/u"), true);
  assert.deepEqual([asked["pauseRebucketing"].parent, asked["resumeRebucketing"].parent], [T, "tenants/u"]);
  assert.deepEqual(await retention.confirmClock(MOMENT_DATE), MOMENT_DATE);
  const { seconds, nanos } = asked["confirmClock"].time;
  assert.deepEqual({ seconds, nanos }, MOMENT);
});

test("the names of retention are those of the contract", () => {
  // That no other name is there the compiler sees: the types are made of the contract's names.
  const starts: Record<RetentionStart, number> = { CREATION: 1, LAST_USE: 2, EVENT: 3 };
  const effects: Record<RetentionEffect, number> = { PERIOD: 1, END_DATE: 2, MAXIMUM: 3, MINIMUM: 4, OPEN_ENDED: 5 };
  const states: Record<ClockState, number> = { SOUND: 1, AHEAD: 2, BEHIND: 3, UNCONFIRMED: 4 };
  const cases: [DescEnum, Record<string, number>][] = [
    [RetentionStartSchema, starts], [RetentionEffectSchema, effects], [ClockStateSchema, states],
  ];
  for (const [enumeration, ours] of cases) {
    const theirs = enumeration.values.filter((v) => v.number !== 0).map((v) => [v.localName, v.number]);
    assert.deepEqual(Object.fromEntries(theirs), ours);
  }
});
