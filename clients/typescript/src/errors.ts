import { fromBinary } from "@bufbuild/protobuf";
import { type GenMessage } from "@bufbuild/protobuf/codegenv2";
import { type Message } from "@bufbuild/protobuf";
import { status as Code, type Metadata, type ServiceError } from "@grpc/grpc-js";

import {
  BadRequestSchema, ErrorInfoSchema, PreconditionFailureSchema, RequestInfoSchema, ResourceInfoSchema, StatusSchema,
} from "./gen/lethe/client/v1/status_pb.js";
import { type Receipt } from "./receipt.js";

/** One fault of a request. It never holds a value. */
export interface Violation {
  /** A path such as `record.fields.phone`. */
  readonly field: string;
  readonly description: string;
}

/** What the vault, or the client before anything was sent, said of a failure. */
export interface Told {
  /** gRPC's code by name, such as `NOT_FOUND`. */
  readonly code: string;
  readonly message: string;
  /** The vault's own reason, such as `ERASED`; empty if it gave none. */
  readonly reason?: string;
  /** In a batch, the part that failed, such as `requests[3]`. */
  readonly part?: string;
  readonly violations?: readonly Violation[];
  readonly field?: string;
  readonly resource?: string;
}

/** Why a call failed. Neither it nor its text holds a value of a record. */
export class LetheError extends Error {
  readonly code: string;
  readonly reason: string;
  readonly part: string;

  constructor(told: Told) {
    super(`${told.code}${told.reason ? ` (${told.reason})` : ""}: ${told.message}`);
    this.name = new.target.name;
    this.code = told.code;
    this.reason = told.reason ?? "";
    this.part = told.part ?? "";
  }
}

/** It never was, or not under this name; or, as {@link ErasedError}, it was erased. */
export class NotFoundError extends LetheError {}
/** It was there; its keys are destroyed. */
export class ErasedError extends NotFoundError {}
/** There is one already. */
export class AlreadyExistsError extends LetheError {}
/** It met another change and was given up. */
export class AbortedError extends LetheError {}
/** The record changed since this etag was given. */
export class StaleError extends AbortedError {}
/** The request id was used for another call. */
export class RequestIdReusedError extends AbortedError {}
/** A watch fell behind: list what there is, and watch anew. */
export class ChangesMissedError extends AbortedError {}
/**
 * A legal hold keeps what was to be erased: it is erased by itself when the last hold ends. What no hold keeps is
 * erased: `receipts` has the evidence.
 */
export class PostponedError extends LetheError {
  constructor(readonly names: readonly string[], readonly receipts: readonly Receipt[]) {
    const message = `${names.length} erasures wait until legal holds end`;
    super({ code: "FAILED_PRECONDITION", reason: "POSTPONED", message });
  }
}

/** Fails if anything waits. */
export function checkPostponed(waiting: readonly { readonly name: string }[], receipts: readonly Receipt[]): void {
  if (waiting.length > 0) throw new PostponedError(waiting.map((one) => one.name), receipts);
}

/** The identity has no right to this. */
export class PermissionDeniedError extends LetheError {}
/** The client's certificate is not, or no longer, accepted. */
export class UnauthenticatedError extends LetheError {}
/** A limit of the vault, such as a full disk, or a message above 4 MiB. */
export class ResourceExhaustedError extends LetheError {}
/** The vault is not reached, is stopping or has stopped. */
export class UnavailableError extends LetheError {}
/** The call took longer than it may. */
export class DeadlineExceededError extends LetheError {}
/** The caller gave the call up. */
export class CancelledError extends LetheError {}
/** A row does not authenticate; others are served. */
export class DataLossError extends LetheError {}

/** The request is wrong. */
export class InvalidArgumentError extends LetheError {
  readonly violations: readonly Violation[];

  constructor(told: Told) {
    super(told);
    this.violations = told.violations ?? [];
  }
}

/** The state does not allow it. */
export class FailedPreconditionError extends LetheError {
  readonly violations: readonly Violation[];

  constructor(told: Told) {
    super(told);
    this.violations = told.violations ?? [];
  }
}

/** Another record has this value in a unique field. */
export class DuplicateError extends AlreadyExistsError {
  /** The unique field. */
  readonly field: string;
  /** The name of the record that has the value. */
  readonly resource: string;

  constructor(told: Told) {
    super(told);
    this.field = told.field ?? "";
    this.resource = told.resource ?? "";
  }
}

/** The type of an error; by code and reason first, then by code alone. */
const TYPES = new Map<string, new (told: Told) => LetheError>([
  ["NOT_FOUND ERASED", ErasedError],
  ["NOT_FOUND", NotFoundError],
  ["INVALID_ARGUMENT", InvalidArgumentError],
  ["ALREADY_EXISTS DUPLICATE_VALUE", DuplicateError],
  ["ALREADY_EXISTS", AlreadyExistsError],
  ["ABORTED ETAG_MISMATCH", StaleError],
  ["ABORTED REQUEST_ID_REUSED", RequestIdReusedError],
  ["ABORTED CHANGES_MISSED", ChangesMissedError],
  ["ABORTED", AbortedError],
  ["FAILED_PRECONDITION", FailedPreconditionError],
  ["PERMISSION_DENIED", PermissionDeniedError],
  ["UNAUTHENTICATED", UnauthenticatedError],
  ["RESOURCE_EXHAUSTED", ResourceExhaustedError],
  ["UNAVAILABLE", UnavailableError],
  ["DEADLINE_EXCEEDED", DeadlineExceededError],
  ["CANCELLED", CancelledError],
  ["DATA_LOSS", DataLossError],
]);

export function errorOf(told: Told): LetheError {
  const type = TYPES.get(`${told.code} ${told.reason}`) ?? TYPES.get(told.code) ?? LetheError;
  return new type(told);
}

/** `ErrorInfo.domain` of all that the vault says itself. */
const DOMAIN = "lethe";
const DETAILS = "grpc-status-details-bin";

/** What gRPC's error says. The error itself is not kept: it holds the call's metadata. */
export function fromGrpc(error: unknown): LetheError {
  if (error instanceof LetheError) return error;
  const { code, details, metadata } = error as Partial<ServiceError>;
  const known = code === undefined ? undefined : Code[code];
  if (known === undefined) return new LetheError({ code: "UNKNOWN", message: "the call failed in the client" });
  return errorOf({ code: known, message: details ?? "", ...detailsOf(metadata) });
}

function detailsOf(metadata: Metadata | undefined): Partial<Told> {
  const bytes = metadata?.get(DETAILS)[0];
  if (!(bytes instanceof Uint8Array)) return {};
  try {
    const { details } = fromBinary(StatusSchema, bytes);
    // The types here are this client's own and bear other names than those on the wire.
    const find = <T extends Message>(schema: GenMessage<T>, name: string): T | undefined => {
      const any = details.find((d) => d.typeUrl.endsWith(`/google.rpc.${name}`));
      return any && fromBinary(schema, any.value);
    };
    const info = find(ErrorInfoSchema, "ErrorInfo");
    const own = info?.domain === DOMAIN ? info : undefined;
    const bad = find(BadRequestSchema, "BadRequest")?.fieldViolations;
    const failed = find(PreconditionFailureSchema, "PreconditionFailure")?.violations;
    return {
      reason: own?.reason ?? "",
      field: own?.metadata["field"] ?? "",
      part: find(RequestInfoSchema, "RequestInfo")?.requestId ?? "",
      resource: find(ResourceInfoSchema, "ResourceInfo")?.resourceName ?? "",
      violations:
        bad?.map(({ field, description }) => ({ field, description })) ??
        failed?.map(({ subject, description }) => ({ field: subject, description })) ??
        [],
    };
  } catch {
    // Details that cannot be read leave the code, which decides the type.
    return {};
  }
}

/** A fault that the client finds before anything is sent. */
export function invalid(...violations: Violation[]): InvalidArgumentError {
  const [first] = violations;
  const message =
    violations.length === 1 && first
      ? `${first.field}: ${first.description}`
      : `the request has ${violations.length} violations`;
  return new InvalidArgumentError({ code: "INVALID_ARGUMENT", message, violations });
}

/** An answer that does not follow the contract. */
export function broken(what: string): LetheError {
  return new LetheError({ code: "INTERNAL", message: `the vault's answer ${what}` });
}
