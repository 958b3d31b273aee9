export {
  type Audit, type AuditEntry, AuditError, type AuditHead, type AuditKind, type AuditMember, type AuditPage,
  type AuditQuery, verifyAudit, verifyAuditHead,
} from "./audit.js";
export { Client, type ClientOptions } from "./client.js";
export { type Config, ConfigError, loadConfig, parseConfig } from "./config.js";
export {
  AbortedError, AlreadyExistsError, CancelledError, ChangesMissedError, DataLossError, DeadlineExceededError,
  DuplicateError, ErasedError, FailedPreconditionError, InvalidArgumentError, LetheError, NotFoundError,
  PermissionDeniedError, PostponedError, RequestIdReusedError, ResourceExhaustedError, StaleError, UnauthenticatedError,
  UnavailableError, type Violation,
} from "./errors.js";
export { type ImportChunk, type ImportFailure, type ImportStream } from "./import.js";
export {
  type ErasureLevel, type ErasureReason, readReceipts, type Receipt, ReceiptError, type VerifiedReceipt, verifyReceipt,
  writeReceipts,
} from "./receipt.js";
export {
  type Change, type Found, type NewRecord, type Page, type Records, type Selection, type VaultRecord, type View,
} from "./records.js";
export { newRequestId } from "./request_id.js";
export {
  type ClockState, type RebucketingState, type Retention, type RetentionEffect, type RetentionExplanation,
  type RetentionForecast, type RetentionLine, type RetentionPolicy, type RetentionPolicyDraft, type RetentionRun,
  type RetentionRuns, type RetentionStart, type RetentionStatus,
} from "./retention.js";
export {
  type Classification, type Field, type FieldKind, type MaskKind, type Schema, type SchemaDraft, type Schemas,
} from "./schemas.js";
export { type ErasedSubject, type Subject, type Subjects } from "./subjects.js";
export { type Tenant, type Tenants } from "./tenants.js";
export { type CallOptions, TIMEOUT_DEFAULT_MS, TIMEOUT_MAX_MS } from "./transport.js";
export { Fields, type FieldValue } from "./values.js";
export { type Bucket, type KeyInfo, type Vault, type VaultStatus } from "./vault.js";
export { type ChangeEvent, type ChangeKind, type Watch } from "./watch.js";
