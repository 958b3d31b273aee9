import { type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";

import { broken, invalid } from "./errors.js";
import {
  ClockState as WireClock, RetentionEffect as WireEffect, type RetentionForecast as WireForecast,
  type RetentionPolicy as Wire, type RetentionPolicySchema, RetentionService, RetentionStart as WireStart,
} from "./gen/lethe/v1/retention_pb.js";
import { Classification as WireClass } from "./gen/lethe/v1/schema_pb.js";
import { dateOf, paged } from "./paging.js";
import { type Receipt, receiptOf } from "./receipt.js";
import { type Classification, classOf, numberOf } from "./schemas.js";
import { type CallOptions, type Transport } from "./transport.js";

/**
 * What a policy's `period` and `minimum` are counted from. LAST_USE: the last time that an application or support read
 * the record, or changed it. EVENT: the date in `eventField`.
 */
export type RetentionStart = Exclude<keyof typeof WireStart, "UNSPECIFIED">;
/**
 * What a rule does to a record. PERIOD: it ends a period after its start. END_DATE: it ends on a day. MAXIMUM: it may not
 * be kept longer. MINIMUM: it may not be erased earlier. OPEN_ENDED: it sets no end, or none before its event comes.
 */
export type RetentionEffect = Exclude<keyof typeof WireEffect, "UNSPECIFIED">;
/**
 * How the wall clock compares with the vault's own count of time. AHEAD: the wall clock was set forward; the vault goes by
 * its own count. BEHIND: it was set back; nothing is due before it says so too. UNCONFIRMED: after a restart of the machine
 * it is so far ahead that {@link Retention.confirmClock} must say that it is right.
 */
export type ClockState = Exclude<keyof typeof WireClock, "UNSPECIFIED">;

/**
 * A rule on how long records are kept. Durations are ISO 8601, of whole years, months, weeks or days: `P3Y`. Of all rules
 * about a record the earliest end counts, unless a `minimum` is later. A record is erased within a day after that day, and
 * the grace period, are over in the rule's time zone.
 */
export interface RetentionPolicyDraft {
  /** Record types that it is about, `tenants/{tenant}/schemas/{type}`; all unless said. */
  readonly schemas?: readonly string[];
  /** Only records that hold a value of this class. */
  readonly classification?: Classification | undefined;
  /** Only records that hold a value of a field whose `purposes` name this one. */
  readonly purpose?: string;
  /** The vault creates no policy without one. */
  readonly start?: RetentionStart | undefined;
  /** A DATE field. With EVENT, and only then. */
  readonly eventField?: string;
  /** From the start: how long the record is kept. */
  readonly period?: string;
  /** How long after the end of `period` or `endDate` the record is erased. */
  readonly gracePeriod?: string;
  /** Last day, whenever the period ends; `2030-12-31`. */
  readonly endDate?: string;
  /** From the start: not to be erased before. Wins over every end. */
  readonly minimum?: string;
  /** From creation: not to be kept longer. */
  readonly maximum?: string;
  /** Until its event has come, or if nothing ends it, a record is kept until it is erased by request. */
  readonly openEnded?: boolean;
  /** IANA name, `Asia/Shanghai`; UTC unless said. */
  readonly timeZone?: string;
  /** The law or contract that it rests on. Previews count records whose rule names none. */
  readonly legalBasis?: string;
  readonly description?: string;
}

/** A policy that the vault has. */
export interface RetentionPolicy extends RetentionPolicyDraft {
  /** `tenants/{tenant}/retentionPolicies/{policy}` */
  readonly name: string;
  /** Marks the version. */
  readonly etag: string;
  readonly updateTime: Date | undefined;
}

/** What one rule says of a record. */
export interface RetentionLine {
  /** `tenants/{tenant}/retentionPolicies/{policy}`, or `tenants/{tenant}/schemas/{type}` for the schema's own. */
  readonly rule: string;
  readonly effect: RetentionEffect;
  /** The last day in the rule's time zone, without its grace period; empty if there is none yet. */
  readonly endDate: string;
  /** When that day, and the grace period, is over. */
  readonly dueTime: Date | undefined;
  readonly decides: boolean;
  readonly legalBasis: string;
}

/** What each rule says of a record, and what comes of it. */
export interface RetentionExplanation {
  /** The day, UTC, after which the record goes by the rules of now; empty if open-ended. */
  readonly expireDate: string;
  /** The day of the bucket that it is in; another one until it is moved there. */
  readonly presentExpireDate: string;
  readonly lines: readonly RetentionLine[];
}

/** Records of one type that expire on one day. */
export interface RetentionForecast {
  /** `tenants/{tenant}/schemas/{type}` */
  readonly schema: string;
  /** UTC; empty if open-ended. */
  readonly expireDate: string;
  readonly recordCount: bigint;
  /** Of these, records that the rules of now want to keep longer: they move out before the day is over. */
  readonly stayingCount: bigint;
  /** Of these, records under a legal hold: they move out too. */
  readonly heldCount: bigint;
  /** Of these, records whose deciding rule names no legal basis. */
  readonly withoutBasisCount: bigint;
  /** Of these, records that do not open. */
  readonly damagedCount: bigint;
}

/** The way of a type's records to the buckets that changed rules want. */
export interface RebucketingState {
  /** `tenants/{tenant}/schemas/{type}` */
  readonly schema: string;
  /** How much is done, 0 to 99. */
  readonly percent: number;
  readonly paused: boolean;
}

/** How sweeps, the clock and the work after changed policies are doing. */
export interface RetentionStatus {
  /** What must be due by now to go. */
  readonly dueByTime: Date | undefined;
  readonly clockState: ClockState;
  /** Undefined before the first. */
  readonly lastSweepTime: Date | undefined;
  readonly sweepIntervalSeconds: bigint;
  /** Buckets that are due and not erased yet. */
  readonly dueBucketCount: bigint;
  readonly closedBucketCount: bigint;
  /** Records that will go with the closed buckets. */
  readonly closedRecordCount: bigint;
  /** Since the start of the vault, as is `erasedRecordCount`. */
  readonly erasedBucketCount: bigint;
  readonly erasedRecordCount: bigint;
  /** How late buckets went, the median; 0 if none went yet. */
  readonly latenessP50Millis: bigint;
  readonly latenessP99Millis: bigint;
  readonly rebucketing: readonly RebucketingState[];
  /** Legal holds in force, and erasures that wait for them to end. */
  readonly holdCount: bigint;
  readonly postponedErasureCount: bigint;
}

/** The records of one type and day that went, or would go. */
export interface RetentionRun {
  /** `tenants/{tenant}/schemas/{type}` */
  readonly schema: string;
  readonly expireDate: string;
  readonly recordCount: bigint;
  /** Of a dry run: records that would move out before. */
  readonly stayingCount: bigint;
  /** Undefined in a dry run. */
  readonly receipt: Receipt | undefined;
}

/** What a run erased, or would erase. */
export interface RetentionRuns {
  readonly runs: readonly RetentionRun[];
  /** Buckets that are due and could not be erased; the log of the daemon says why. */
  readonly failedBucketCount: bigint;
}

/** Calls about how long records are kept, what will go and when, and what went. */
export class Retention {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Creates a policy of this id. It is sent once: it carries no request id. */
  async createPolicy(
    parent: string, policyId: string, draft: RetentionPolicyDraft, options: CallOptions = {},
  ): Promise<RetentionPolicy> {
    const request = { parent, retentionPolicyId: policyId, retentionPolicy: toWire(draft) };
    const answer = await this.#transport.unary(
      RetentionService.method.createRetentionPolicy, "never", request, options);
    return policyOf(answer.retentionPolicy);
  }

  /**
   * Replaces the policy of this name; with a `mask` only the parts that it names, such as `period`. With an `etag` only if
   * it did not change since. It is sent once.
   */
  async updatePolicy(
    name: string, draft: RetentionPolicyDraft,
    options: CallOptions & { etag?: string; mask?: readonly string[] } = {},
  ): Promise<RetentionPolicy> {
    const request = {
      retentionPolicy: { ...toWire(draft), name, etag: options.etag ?? "" },
      updateMask: { paths: [...(options.mask ?? [])] },
    };
    const answer = await this.#transport.unary(
      RetentionService.method.updateRetentionPolicy, "never", request, options);
    return policyOf(answer.retentionPolicy);
  }

  async getPolicy(name: string, options: CallOptions = {}): Promise<RetentionPolicy> {
    const answer = await this.#transport.unary(
      RetentionService.method.getRetentionPolicy, "safely", { name }, options);
    return policyOf(answer.retentionPolicy);
  }

  /** The policies of a tenant, by name. */
  listPolicies(parent: string, options: CallOptions = {}): AsyncGenerator<RetentionPolicy, void, undefined> {
    return paged(async (pageToken) => {
      const answer = await this.#transport.unary(
        RetentionService.method.listRetentionPolicies, "safely", { parent, pageToken }, options);
      return { all: answer.retentionPolicies.map(policyOf), nextPageToken: answer.nextPageToken };
    });
  }

  /** With an `etag` only if it did not change since. It is sent once. */
  async deletePolicy(name: string, options: CallOptions & { etag?: string } = {}): Promise<void> {
    const request = { name, etag: options.etag ?? "" };
    await this.#transport.unary(RetentionService.method.deleteRetentionPolicy, "never", request, options);
  }

  /** What each rule says of a record, and which of them decides. For those who may read the record. */
  async explain(name: string, options: CallOptions = {}): Promise<RetentionExplanation> {
    const answer = await this.#transport.unary(RetentionService.method.explainRetention, "safely", { name }, options);
    return {
      expireDate: answer.expireDate,
      presentExpireDate: answer.presentExpireDate,
      lines: answer.lines.map(({ rule, effect, endDate, dueTime, decides, legalBasis }) => ({
        rule, effect: (WireEffect[effect] ?? String(effect)) as RetentionEffect, endDate, dueTime: dateOf(dueTime), decides,
        legalBasis,
      })),
    };
  }

  /**
   * Counts what will go by the end of a day (`2030-12-31`, UTC, today or later), and what has no end. It changes nothing.
   * All pages are read before the first sum is given, since parts about one type and day may be pages apart: they are added
   * up. `timeoutMs` is for each page.
   */
  async *preview(
    parent: string, date: string, options: CallOptions = {},
  ): AsyncGenerator<RetentionForecast, void, undefined> {
    const parts = paged(async (pageToken) => {
      const request = { parent, date, pageToken };
      const answer = await this.#transport.unary(RetentionService.method.previewRetention, "safely", request, options);
      return { all: answer.forecasts, nextPageToken: answer.nextPageToken };
    });
    const sums = new Map<string, RetentionForecast>();
    for await (const part of parts) {
      const at = `${part.schema} ${part.expireDate}`;
      sums.set(at, sumOf(part, sums.get(at)));
    }
    yield* sums.values();
  }

  /** How sweeps, the clock and the work after changed policies are doing. */
  async status(options: CallOptions = {}): Promise<RetentionStatus> {
    const answer = await this.#transport.unary(RetentionService.method.getRetentionStatus, "safely", {}, options);
    const { $typeName: _type, $unknown: _unknown, dueByTime, clockState, lastSweepTime, rebucketing, ...rest } = answer;
    return {
      ...rest,
      dueByTime: dateOf(dueByTime),
      clockState: (WireClock[clockState] ?? String(clockState)) as ClockState,
      lastSweepTime: dateOf(lastSweepTime),
      rebucketing: rebucketing.map(({ schema, percent, paused }) => ({ schema, percent, paused })),
    };
  }

  /**
   * Erases what is due now, of all tenants, without waiting for the next sweep; a dry run only says what would go. It is
   * sent once, dry or not; made again by you it erases what is due then.
   */
  async run(options: CallOptions & { dryRun?: boolean } = {}): Promise<RetentionRuns> {
    const request = { dryRun: options.dryRun ?? false };
    const answer = await this.#transport.unary(RetentionService.method.runRetention, "never", request, options);
    return {
      runs: answer.runs.map(({ schema, expireDate, recordCount, stayingCount, receipt }) => ({
        schema, expireDate, recordCount, stayingCount, receipt: receipt && receiptOf(receipt),
      })),
      failedBucketCount: answer.failedBucketCount,
    };
  }

  /**
   * Stops bringing a tenant's records to the buckets that changed policies want. Answers whether anything is left to do.
   * Nothing goes early meanwhile, but what is to go earlier may go late. It is sent once.
   */
  async pauseRebucketing(parent: string, options: CallOptions = {}): Promise<boolean> {
    const method = RetentionService.method.pauseRebucketing;
    return (await this.#transport.unary(method, "never", { parent }, options)).unfinished;
  }

  /** Goes on with it. Answers whether anything is left to do. It is sent once. */
  async resumeRebucketing(parent: string, options: CallOptions = {}): Promise<boolean> {
    const method = RetentionService.method.resumeRebucketing;
    return (await this.#transport.unary(method, "never", { parent }, options)).unfinished;
  }

  /**
   * Has the vault believe its clock as it is, if it is no more than a minute from `time`, which somebody read from a clock
   * that is right. Answers with what must be due by now to go. It is sent once.
   */
  async confirmClock(time: Date, options: CallOptions = {}): Promise<Date> {
    // Callers in JavaScript are not held to the type, and a Date may be of no time at all.
    if (!(time instanceof Date) || Number.isNaN(time.getTime())) {
      throw invalid({ field: "time", description: "is not a time" });
    }
    const request = { time: timestampFromDate(time) };
    const answer = await this.#transport.unary(RetentionService.method.confirmClock, "never", request, options);
    const due = dateOf(answer.dueByTime);
    if (!due) throw broken("lacks the time");
    return due;
  }
}

function sumOf(part: WireForecast, sum: RetentionForecast | undefined): RetentionForecast {
  return {
    schema: part.schema,
    expireDate: part.expireDate,
    recordCount: part.recordCount + (sum?.recordCount ?? 0n),
    stayingCount: part.stayingCount + (sum?.stayingCount ?? 0n),
    heldCount: part.heldCount + (sum?.heldCount ?? 0n),
    withoutBasisCount: part.withoutBasisCount + (sum?.withoutBasisCount ?? 0n),
    damagedCount: part.damagedCount + (sum?.damagedCount ?? 0n),
  };
}

/** Part by part: a policy that was read has an etag too, and is not to follow its own version unless that is said. */
function toWire(draft: RetentionPolicyDraft): MessageInitShape<typeof RetentionPolicySchema> {
  const { classification, start } = draft;
  const isClass = classification !== undefined;
  return {
    schemas: [...(draft.schemas ?? [])],
    classification: isClass ? numberOf(WireClass, classification, "retention_policy.classification") : 0,
    purpose: draft.purpose ?? "",
    start: start === undefined ? 0 : numberOf(WireStart, start, "retention_policy.start"),
    eventField: draft.eventField ?? "",
    period: draft.period ?? "",
    gracePeriod: draft.gracePeriod ?? "",
    endDate: draft.endDate ?? "",
    minimum: draft.minimum ?? "",
    maximum: draft.maximum ?? "",
    openEnded: draft.openEnded ?? false,
    timeZone: draft.timeZone ?? "",
    legalBasis: draft.legalBasis ?? "",
    description: draft.description ?? "",
  };
}

function policyOf(wire: Wire | undefined): RetentionPolicy {
  if (!wire) throw broken("lacks the retention policy");
  const { $typeName: _type, $unknown: _unknown, classification, start, updateTime, ...rest } = wire;
  return {
    ...rest,
    classification: classification === WireClass.UNSPECIFIED ? undefined : classOf(classification),
    start: start === WireStart.UNSPECIFIED ? undefined : ((WireStart[start] ?? String(start)) as RetentionStart),
    updateTime: dateOf(updateTime),
  };
}
