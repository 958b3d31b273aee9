/** Steps 35 to 40 of clients/CONFORMANCE.md: retention. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import {
  AlreadyExistsError, type AuditEntry, type AuditQuery, type Client, type FieldValue, FailedPreconditionError,
  type LetheError, NotFoundError, PermissionDeniedError, type RebucketingState, type RetentionExplanation,
  type RetentionForecast, type RetentionPolicy, type RetentionPolicyDraft, StaleError, type VaultRecord,
} from "../src/index.js";

/** What the story has for its steps. */
export interface Story {
  readonly operator: Client;
  readonly application: Client;
  readonly officer: Client;
  /** `tenants/{tenant}` */
  readonly parent: string;
  /** `tenants/{tenant}/schemas/customer` */
  readonly kind: string;
  readonly nobody: string;
  step(work: () => Promise<void>): Promise<void>;
  create(fields: Record<string, FieldValue>): Promise<VaultRecord>;
  /** The names of the tenant's records. */
  listed(): Promise<string[]>;
  entries(of: AuditQuery): Promise<AuditEntry[]>;
  refused<E extends LetheError>(
    call: Promise<unknown>, type: abstract new (...args: never[]) => E, ...secrets: string[]
  ): Promise<E>;
  violated(call: Promise<unknown>, field: string, ...secrets: string[]): Promise<void>;
}

const DAY_MS = 24 * 3_600_000;
const isNear = (time: Date | undefined): boolean => Math.abs((time?.getTime() ?? 0) - Date.now()) < 60_000;
const days = (from: string, to: string): number => (Date.parse(to) - Date.parse(from)) / DAY_MS;

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const one of items) out.push(one);
  return out;
}

export async function retentionSteps(story: Story): Promise<void> {
  const { parent, kind, refused, violated } = story;
  const [officer, application] = [story.officer.retention, story.application.retention];
  const law: RetentionPolicyDraft = { schemas: [kind], start: "CREATION", minimum: "P2Y", legalBasis: "tax law" };
  const name = `${parent}/retentionPolicies/law`;
  const explained = (record: string): Promise<RetentionExplanation> => application.explain(record);
  const previewed = (date: string): Promise<RetentionForecast[]> => all(officer.preview(parent, date));
  const rebucketing = async (): Promise<RebucketingState | undefined> =>
    (await officer.status()).rebucketing.find((state) => state.schema === kind);
  /** Waits until every record of the tenant is in the bucket that the rules want. */
  async function settled(): Promise<void> {
    for (const end = Date.now() + 30_000; ; await sleep(100)) {
      const told = await Promise.all((await story.listed()).map(explained));
      const areThere = told.every((one) => one.expireDate === one.presentExpireDate);
      if (areThere && (await rebucketing()) === undefined) return;
      assert(Date.now() < end, "records are not moved");
    }
  }

  let first: RetentionPolicy;
  let now: RetentionPolicy;
  await story.step(async () => {
    const made = await officer.createPolicy(parent, "law", law);
    assert(made.etag !== "" && isNear(made.updateTime));
    assert.deepEqual(made, {
      name, schemas: [kind], classification: undefined, purpose: "", start: "CREATION", eventField: "", period: "",
      gracePeriod: "", endDate: "", minimum: "P2Y", maximum: "", openEnded: false,
      // What no zone stands for.
      timeZone: "UTC",
      legalBasis: "tax law", description: "", etag: made.etag, updateTime: made.updateTime,
    });
    [first, now] = [made, made];
    assert.deepEqual(await officer.getPolicy(name), made);
    await refused(officer.createPolicy(parent, "law", law), AlreadyExistsError);
    const odd = (more: RetentionPolicyDraft): Promise<RetentionPolicy> =>
      officer.createPolicy(parent, "odd", { start: "CREATION", ...more });
    await violated(odd({ minimum: "P3Y", maximum: "P1Y" }), "retention_policy.minimum");
    await violated(odd({ period: "canary" }), "retention_policy.period", "canary");
    for (const [draft, field, told] of [
      [{ maximum: "P1Y" }, "retention_policy.maximum", "law"],
      [{ ...law, schemas: [`${parent}/schemas/none`] }, "retention_policy.schemas", ""],
    ] as const) {
      const { violations } = await refused(odd(draft), FailedPreconditionError);
      assert.deepEqual(violations.map((v) => v.field), [field]);
      assert(violations[0]?.description.includes(told));
    }
    await refused(application.createPolicy(parent, "odd", law), PermissionDeniedError);
    await refused(all(application.listPolicies(parent)), PermissionDeniedError);
    assert.deepEqual(await all(officer.listPolicies(parent)), [made]);
  });

  await story.step(async () => {
    const part = { legalBasis: "trade law" };
    const changed = await officer.updatePolicy(name, part, { mask: ["legal_basis"], etag: now.etag });
    assert.notEqual(changed.etag, now.etag);
    assert.deepEqual(changed, { ...now, ...part, etag: changed.etag, updateTime: changed.updateTime });
    await refused(officer.updatePolicy(name, part, { mask: ["legal_basis"], etag: now.etag }), StaleError);
    await violated(officer.updatePolicy(name, part, { mask: ["legal_basis", "canary"] }), "update_mask.paths[1]",
      "canary");
    await refused(application.updatePolicy(name, part, { mask: ["legal_basis"] }), PermissionDeniedError);
    assert.deepEqual(await officer.getPolicy(name), changed);
    now = changed;
  });

  let kept: VaultRecord;
  await story.step(async () => {
    kept = await story.create({ email: "keep@example.org" });
    const told = await explained(kept.name);
    const [bySchema, byLaw] = told.lines;
    assert(bySchema && byLaw);
    const said = told.lines.map((line) => [line.rule, line.effect, line.decides, line.legalBasis]);
    assert.deepEqual(said, [[kind, "PERIOD", false, ""], [name, "MINIMUM", true, "trade law"]]);
    assert([365, 366].includes(days(bySchema.endDate, byLaw.endDate)));
    for (const line of told.lines) {
      // The day is over when the next one begins.
      assert.equal(line.dueTime?.getTime(), Date.parse(line.endDate) + DAY_MS);
    }
    for (const day of [told.expireDate, told.presentExpireDate, kept.expireDate]) assert.equal(day, byLaw.endDate);
    await refused(story.operator.retention.explain(kept.name), PermissionDeniedError);
    const unknown = await refused(explained(`${parent}/records/${story.nobody}`), NotFoundError);
    assert.equal(unknown.reason, "NOT_FOUND");
    await settled();
    await violated(previewed("2000-01-01"), "date");
    assert.deepEqual(await previewed(new Date().toISOString().slice(0, 10)), []);
    const forecasts = await previewed(told.expireDate);
    for (const { expireDate, recordCount, ...rest } of forecasts) {
      assert.deepEqual(rest, { schema: kind, stayingCount: 0n, heldCount: 0n, withoutBasisCount: 0n, damagedCount: 0n });
    }
    assert.equal(new Set(forecasts.map((f) => f.expireDate)).size, forecasts.length);
    const count = Number(forecasts.reduce((sum, f) => sum + f.recordCount, 0n));
    assert(count > 5);
    assert.equal(count, (await story.listed()).length);
    await refused(all(application.preview(parent, told.expireDate)), PermissionDeniedError);
  });

  await story.step(async () => {
    const before = kept.expireDate as string;
    assert.equal(await officer.pauseRebucketing(parent), false);
    now = await officer.updatePolicy(name, { minimum: "P3Y" }, { mask: ["minimum"] });
    assert.equal((await rebucketing())?.paused, true);
    const told = await explained(kept.name);
    assert.equal(told.presentExpireDate, before);
    assert([365, 366].includes(days(before, told.expireDate)));
    const staying = (await previewed(before)).find((f) => f.expireDate === before);
    assert(staying && staying.recordCount > 0n);
    assert.equal(staying.stayingCount, staying.recordCount);
    assert.equal(await officer.resumeRebucketing(parent), true);
    await settled();
    assert.equal((await explained(kept.name)).presentExpireDate, told.expireDate);
  });

  await story.step(async () => {
    const status = await officer.status();
    assert.deepEqual([status.clockState, status.dueBucketCount], ["SOUND", 0n]);
    assert(isNear(status.dueByTime) && status.sweepIntervalSeconds > 0n);
    assert.deepEqual(await officer.run({ dryRun: true }), { runs: [], failedBucketCount: 0n });
    assert(isNear(await officer.confirmClock(new Date())));
    await refused(officer.confirmClock(new Date(Date.now() + 3_600_000)), FailedPreconditionError);
    await refused(application.status(), PermissionDeniedError);
    await refused(application.run({ dryRun: true }), PermissionDeniedError);
    await refused(application.confirmClock(new Date()), PermissionDeniedError);
  });

  await story.step(async () => {
    await refused(officer.deletePolicy(name, { etag: first.etag }), StaleError);
    await refused(application.deletePolicy(name), PermissionDeniedError);
    await officer.deletePolicy(name, { etag: now.etag });
    await refused(officer.getPolicy(name), NotFoundError);
    await refused(officer.deletePolicy(name), NotFoundError);
    assert.deepEqual(await all(officer.listPolicies(parent)), []);
    const { lines } = await explained(kept.name);
    assert.deepEqual(lines.map((line) => [line.rule, line.decides]), [[kind, true]]);
    const log = await story.entries({ parent });
    const methods = new Set(log.filter((e) => e.role === "privacy-officer").map((e) => e.method));
    for (const method of [
      "CreateRetentionPolicy", "UpdateRetentionPolicy", "GetRetentionPolicy", "ListRetentionPolicies",
      "PreviewRetention", "PauseRebucketing", "ResumeRebucketing", "DeleteRetentionPolicy",
    ]) {
      assert(methods.has(method), method);
    }
    const explainedBy = log.filter((e) => e.method === "ExplainRetention").map((e) => `${e.role} ${e.schema}`);
    assert.deepEqual([...new Set(explainedBy)], [`application ${kind}`]);
  });
}
