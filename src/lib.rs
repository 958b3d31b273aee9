//! Lethe: an encrypted customer-data vault that can prove it forgot.
//!
//! # Layout
//! Data flows one way down through the layers; `tests/tidy.rs` refuses an import upward.
//! A call walks `server` (TLS, peer certificate) → `rpc` (parse, permit) → `vault` (decide) → `keys` and `store`
//! (commit) → reply.
//!
//! | layer | modules |
//! |---|---|
//! | 0 | [`id`], [`class`], [`clock`], [`limits`], [`metrics`]: newtypes, vocabulary, time, every bound, counters |
//! | 0 | [`toml_fault`]: what is wrong with a TOML text, without what it says |
//! | 0 | [`os`]: locked memory and extent flags, the only unsafe code |
//! | 1 | [`crypto`] (the only user of ring), [`store`] (rows, engines, the barrier, the node journal) |
//! | 2 | [`keys`] (anchor, key tree, erasure batches), [`authz`] (identity → permit), [`audit`] (the log's entries) |
//! | 3 | [`vault`]: schemas, records, subjects, blind index, erasure, receipts |
//! | 4 | [`proto`]: the generated messages and services |
//! | 5 | [`rpc`] (one file per service), [`client`], [`pki`] |
//! | 6 | [`server`] (config, TLS door, accept loop), [`ctl`] (lethectl's commands) |

#![deny(unsafe_code)]

pub mod audit;
pub mod authz;
pub mod class;
pub mod client;
pub mod clock;
pub mod crypto;
pub mod ctl;
pub mod id;
pub mod keys;
pub mod limits;
pub mod metrics;
pub mod os;
pub mod pki;
pub mod proto;
pub mod rpc;
pub mod server;
pub mod store;
pub mod toml_fault;
pub mod vault;
