//! Every bound of the vault, in one place.

use std::time::Duration;

/// Greatest row value that reaches a store engine.
pub const ROW_BYTES_MAX: usize = 8_192;
/// Greatest row key that reaches a store engine.
pub const KEY_BYTES_MAX: usize = 256;
/// Plaintext in one chunk of a record row.
pub const CHUNK_BYTES: usize = 7_936;
/// One field's value.
pub const VALUE_BYTES_MAX: usize = 1_048_576;
/// All fields of a record together.
pub const RECORD_BYTES_MAX: usize = 1_310_720;
/// Fields in a schema, and so in a record.
pub const FIELDS_MAX: usize = 128;
/// Indexed fields in a schema.
pub const INDEXED_FIELDS_MAX: usize = 8;
/// An indexed field's value.
pub const INDEXED_VALUE_BYTES_MAX: usize = 1_024;
/// Default bound of a TEXT or BYTES field.
pub const TEXT_BYTES_DEFAULT: usize = 4_096;
/// Record types of a tenant.
pub const SCHEMAS_MAX: usize = 1_000;
/// A sealed metadata row must fit one store row.
pub const SCHEMA_JSON_BYTES_MAX: usize = 8_000;
/// Tenants of a vault.
pub const TENANTS_MAX: usize = 100_000;
/// Purposes named by a field.
pub const PURPOSES_MAX: usize = 16;
/// Retention periods end at most this many years ahead.
pub const RETENTION_YEARS_MAX: i64 = 100;

/// Retention policies of a tenant.
pub const RETENTION_POLICIES_MAX: usize = 64;
/// Record types that a retention policy names.
pub const POLICY_TYPES_MAX: usize = 64;
/// Name of a time zone.
pub const ZONE_NAME_BYTES_MAX: usize = 64;
/// What is due is looked for this often, where the configuration says nothing else.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Longest such time that the configuration can say.
pub const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// A bucket is closed this long before it is due, where the configuration says nothing else.
pub const CLOSE_BEFORE: Duration = Duration::from_secs(3600);
/// Longest such time that the configuration can say: a record with a period of a day is still put into its bucket.
pub const CLOSE_BEFORE_MAX: Duration = Duration::from_secs(12 * 3600);
/// How long the machine may have been off without anyone confirming its clock, where the configuration says nothing
/// else.
pub const CLOCK_GAP: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest such time that the configuration can say.
pub const CLOCK_GAP_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Buckets that one anchor batch of a sweep kills; the rest goes in the next one.
pub const SWEEP_BUCKETS_MAX: usize = 4_096;
/// Buckets whose lateness is remembered.
pub const LATENESS_KEPT: usize = 4_096;
/// Key pages that one call of a preview reads.
pub const PREVIEW_PAGES: usize = 256;
/// Records that were used and wait to be moved.
pub const USES_MAX: usize = 100_000;
/// Legal holds of a tenant, those included that ended and are kept as evidence.
pub const HOLDS_MAX: usize = 10_000;
/// Conditions of a legal hold's query.
pub const HOLD_CONDITIONS_MAX: usize = 8;
/// Bytes of each text of a legal hold.
pub const HOLD_TEXT_BYTES_MAX: usize = 1_000;
/// Days for which a legal hold that ended is kept: three years.
pub const HOLD_KEPT_DAYS: i32 = 1_096;
/// Postponed erasures that are carried out at a step.
pub const POSTPONED_STEP: usize = 64;
/// What waits for the keeper.
pub const KEEPER_QUEUE_MAX: usize = 64;

/// Records erased by one call.
pub const BATCH_ERASE_MAX: usize = 1_000;
/// Records created by one call, or by one chunk of an import.
pub const BATCH_CREATE_MAX: usize = 500;
/// Records read by one call.
pub const BATCH_GET_MAX: usize = 1_000;
/// How long a request id or an import id is remembered.
pub const REQUEST_ID_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Units erased by one anchor batch.
pub const ERASURE_BATCH_UNITS_MAX: usize = 1_000;
/// Erasures that wait.
pub const ERASURE_QUEUE_MAX: usize = 10_000;
/// Records of one subject that one call erases; their receipts fit one message.
pub const SUBJECT_RECORDS_MAX: usize = 5_000;
/// Rows that one call looks at for a page of records; a page may end before it is full.
pub const LIST_ROWS_MAX: usize = 16 * SCAN_PAGE_ROWS;
/// Records that do not open which the vault keeps in mind.
pub const DAMAGED_NOTED_MAX: usize = 10_000;
/// Values that a search holds in memory, in bytes.
pub const FIND_BYTES_MAX: usize = 3 << 20;

/// Index entries of a bucket kept in memory before they are written as a run.
pub const INDEX_TAIL_MAX: usize = 16_384;

/// Key pages whose records are read at a step to bring an index to what a changed schema says.
pub const INDEX_BUILD_PAGES: usize = 16;

/// Versions of a type among which values can still be looked through before a field is made unique; each takes a token
/// of memory.
pub const UNIQUE_CHECK_MAX: u64 = 4_000_000;

/// Operations in one durable group.
pub const COMMIT_GROUP_MAX: usize = 1_024;
/// Batches that wait for the committer.
pub const COMMIT_QUEUE_MAX: usize = 16_384;
/// Entries of the audit log that wait for a place on disk, in bytes; a read that finds no room is refused.
pub const NOTES_BYTES_MAX: usize = 16 << 20;
/// An entry that no write goes with waits at most this long for a group.
pub const NOTES_WAIT: Duration = Duration::from_millis(50);
/// Names of principals that the audit log keeps.
pub const PRINCIPALS_MAX: usize = 100_000;
/// Kinds of refused calls (principal, method, status) that are counted apart in a minute; the rest is counted together.
pub const REFUSALS_MAX: usize = 1_024;
/// Refused calls are counted together for this long.
pub const REFUSALS_EVERY: Duration = Duration::from_secs(60);
/// Entries of the audit log, and rows of its index, that one call looks at; a page may end before it is full.
pub const AUDIT_LOOK_MAX: u64 = 16_384;
/// Blocks of 256 entries of the audit log that are pruned at a sweep.
pub const LOG_PRUNE_BLOCKS: u64 = 256;
/// Entries that the keeper adds to the audit log's tree before it prunes; more are added beside it first.
pub const LOG_TREE_BEHIND: u64 = 262_144;
/// The least that entries of the audit log stay, in days.
pub const AUDIT_RETAIN_DAYS_MIN: i32 = 30;
/// Tails of the audit log of one identity at once.
pub const TAILS_PER_IDENTITY_MAX: usize = 8;
/// Whoever follows the audit log or watches a tenant is asked for the right this often, also while there is nothing to
/// tell.
pub const RIGHT_LOOK: Duration = Duration::from_secs(1);
/// A signed note: a checkpoint with its cosignatures.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
/// Signatures under a note.
pub const NOTE_SIGNATURES_MAX: usize = 32;
/// Witnesses whose cosignatures the vault keeps.
pub const WITNESSES_MAX: usize = 16;
/// Buckets that one certificate covers: those of a type and day that one kill took.
pub const CERTIFICATE_PARTS_MAX: usize = 64;
/// Text of a certificate of destruction.
pub const CERTIFICATE_BYTES_MAX: usize = 1 << 20;
/// Versions of a record among which the one is found that a leaf of the ledger stands for.
pub const CERTIFICATE_VERSIONS_MAX: u64 = 1_000_000;
/// Leaves of the ledger after an erasure's among which its level leaf is looked for.
pub const LEVEL_LOOK_MAX: u64 = 32_768;
/// Killed buckets that one call looks at for a page of certificates; a page may end before it is full.
pub const CERTIFICATES_LOOK_MAX: usize = 4_096;
/// Tiles of a log that one call asks for.
pub const LOG_TILES_MAX: usize = 64;
/// Bytes after which an answer of tiles ends; one tile always fits.
pub const LOG_TILES_BYTES: usize = 1 << 20;
/// Rows that a walk over many rows reads at once.
pub const SCAN_PAGE_ROWS: usize = 512;
/// The node journal is not rewritten below this size.
pub const JOURNAL_REWRITE_MIN: u64 = 16 << 20;
/// The node journal is rewritten when it is more than this many times its live rows.
pub const JOURNAL_REWRITE_RATIO: u64 = 3;
/// Free disk space below which puts stop.
pub const DISK_FREE_MIN: u64 = 64 << 20;
/// Filler kept for erasure and recovery on a full disk.
pub const DISK_RESERVE: u64 = 16 << 20;

/// Greatest gRPC message, either way.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Rows in a page of a list.
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Bytes after which a page of records or of audit entries ends.
pub const PAGE_BYTES: usize = 2 << 20;
/// How long a page token lives.
pub const PAGE_TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// Longest deadline that a call gets, also when it names none.
pub const DEADLINE_MAX: Duration = Duration::from_secs(60);
/// Streams (imports, exports, watches, tails) at once.
pub const OPEN_STREAMS_MAX: usize = 256;
/// A stream whose peer neither sends nor takes a message for this long ends.
pub const STREAM_STALL_MAX: Duration = Duration::from_secs(60);
/// A watch or a tail ends after this time; its caller begins another.
pub const WATCH_MAX: Duration = Duration::from_secs(3600);
/// Changes that a watcher may be behind; one who is further behind is told to begin anew.
pub const WATCH_BEHIND_MAX: usize = 4_096;
/// Connections at once.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Connections of one identity at once, where the configuration says nothing else.
pub const IDENTITY_CONNECTIONS: usize = 256;
/// After this time a connection is asked to end, where the configuration says nothing else.
pub const CONNECTION_AGE: Duration = Duration::from_secs(3600);
/// Greatest such time that the configuration can say.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Calls of one identity in a second, where the configuration says nothing else.
pub const CALLS_PER_SECOND: u32 = 5_000;
/// Calls that one identity may make at once after a rest, where the configuration says nothing else.
pub const CALLS_BURST: u32 = 10_000;
/// Greatest rate and greatest burst that the configuration can say.
pub const CALLS_MAX: u32 = 1_000_000;
/// A TLS handshake ends within this time.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Streams at once on a connection.
pub const STREAMS_MAX: u32 = 256;
/// Headers of a call.
pub const HEADER_BYTES_MAX: u32 = 16 * 1024;
/// Identities that the configuration binds.
pub const IDENTITIES_MAX: usize = 10_000;
/// A policy file.
pub const POLICY_FILE_BYTES_MAX: usize = 256 << 10;
/// Policies in it.
pub const POLICIES_MAX: usize = 256;
/// One policy.
pub const POLICY_BYTES_MAX: usize = 8 << 10;
/// Brackets in brackets of a policy.
pub const POLICY_DEPTH_MAX: usize = 32;
/// Stack of the thread that reads policies: what is as long and as deep as it may be takes a quarter of it.
pub const POLICY_STACK_BYTES: usize = 64 << 20;
/// Decisions that a policy is compiled into.
pub const POLICY_CELLS_MAX: usize = 50_000;
/// TLS handshakes at once; further peers wait in the kernel's queue.
pub const HANDSHAKES_MAX: usize = 128;
/// How long calls may go on after the vault was asked to stop.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// A silent connection is asked for a sign of life after this time, and closed after [`KEEPALIVE_TIMEOUT`].
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that a peer opened and reset before they were looked at; more ends the connection (CVE-2023-44487).
pub const PENDING_RESETS_MAX: usize = 64;
/// Streams that the vault reset for protocol errors; more ends the connection.
pub const LOCAL_RESETS_MAX: usize = 64;
/// Certificates in `tls.client_ca`.
pub const AUTHORITIES_MAX: usize = 64;
/// Files in the directory that `tls.crl` names.
pub const CRL_FILES_MAX: usize = 64;
/// All revocation lists together.
pub const CRL_BYTES_MAX: u64 = 16 << 20;
/// The files of the door and of rights are looked at this often; a change counts once two looks in a row agree.
pub const TLS_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Files of the door or of rights that were refused and did not change are tried again after this time.
pub const TLS_RETRY: Duration = Duration::from_secs(30);
/// Between the last answer on a connection whose time is up and its end; as long again until who takes no
/// goodbye is cut off.
pub const DISMISSAL_GRACE: Duration = Duration::from_millis(250);
/// Certificates that an authority of `lethectl pki` keeps on record.
pub const PKI_ISSUED_MAX: usize = 10_000;
/// That record, in bytes.
pub const PKI_INDEX_BYTES_MAX: u64 = 32 << 20;
/// A file of the configuration (TOML, PEM).
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of answers of one identity that wait to be taken; beyond that its answers are RESOURCE_EXHAUSTED.
pub const UNTAKEN_BYTES_MAX: u64 = 128 << 20;
/// Smaller pieces of an answer are not counted.
pub const UNTAKEN_COUNTED_MIN: usize = 4 << 10;
/// A path of a Unix socket, in bytes: those of unix(7), less the ending under which it is made.
pub const SOCKET_PATH_BYTES_MAX: usize = 103;
/// Connections to the socket of metrics and probes at once; further ones wait in the kernel's queue.
pub const PROBES_MAX: usize = 16;
/// How long such a connection, or `lethed probe`, may take.
pub const PROBE_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest answer that `lethed probe` reads.
pub const PROBE_BYTES_MAX: u64 = 4 << 20;
