//! Every action there is, each as a value and, where a permit can be had for it, as a type.
//!
//! Guarantees: an action is either about one tenant or its records, about the vault, or (reading the list of tenants)
//! about either; [`Action::reach`] says which, and a decision that is asked for the other is a denial. The schema of
//! policies names each (policy/lethe.cedarschema; a test compares).

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// One tenant, which the call names.
    Tenant,
    /// Records of one tenant, which the call names; of the types that the policy lets the identity reach.
    Records,
    /// The vault as a whole, whichever tenants the identity is bound to.
    Vault,
    /// The vault as a whole: only for an identity bound to all tenants.
    WholeVault,
    /// One tenant if the call names one, else those that the identity is bound to.
    Either,
}

/// A type that stands for one action.
pub trait ActionKind: Send + Sync + 'static {
    const ACTION: Action;
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident: $reach:ident),* $(,)?) => {
        /// What a call asks to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($(#[$doc])* $name,)*
            /// Ask whether the vault serves. Open to every authenticated peer, bound or not: no permit exists for it.
            Health,
        }

        impl Action {
            /// Every action that a permit can be had for.
            pub const PERMITTED: &[Action] = &[$(Action::$name),*];

            /// `None`: no permit exists for it.
            pub(super) const fn reach(self) -> Option<Reach> {
                match self {
                    $(Action::$name => Some(Reach::$reach),)*
                    Action::Health => None,
                }
            }

            pub const fn name(self) -> &'static str {
                match self {
                    $(Action::$name => stringify!($name),)*
                    Action::Health => "Health",
                }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl ActionKind for $name {
                const ACTION: Action = Action::$name;
            }
        )*
    };
}

actions!(
    /// Create a tenant.
    CreateTenant: WholeVault,
    /// Get a tenant; list those that the identity is bound to.
    ReadTenants: Either,
    /// Change what a tenant is called.
    UpdateTenant: Tenant,
    /// Create a schema or add a version to one.
    WriteSchema: Tenant,
    /// Get or list schemas.
    ReadSchema: Tenant,
    /// Create a subject.
    CreateSubject: Tenant,
    /// Get a subject.
    ReadSubject: Tenant,
    /// Erase a subject and all of its records.
    EraseSubject: Tenant,
    /// Create a record.
    CreateRecord: Records,
    /// Get, list or find records.
    ReadRecord: Records,
    /// Read many records as a stream.
    ExportRecords: Records,
    /// Hear of what changes in a tenant: names and kinds of change.
    WatchRecords: Records,
    /// Update a record.
    UpdateRecord: Records,
    /// Erase records.
    EraseRecord: Records,
    /// Read the audit log: of one tenant, or of those that the identity is bound to.
    ReadAudit: Either,
    /// Take out the whole audit log and its signed head, to be checked elsewhere.
    ExportAudit: WholeVault,
    /// Read the erasure ledger with its tree: checkpoints, tiles, proofs.
    ReadLedger: WholeVault,
    /// Get certificates of what was destroyed of a tenant, and list what was destroyed with its buckets.
    ReadCertificate: Tenant,
    /// Add a witness's cosignature to a checkpoint of either log.
    CosignLog: WholeVault,
    /// Read the vault's state.
    ReadStatus: Vault,
    /// Read the daemon's metrics.
    ReadMetrics: Vault,
    /// Give the vault a new KEK and root key.
    RotateKey: WholeVault,
    /// Read what is wrapped by what.
    ReadKeyStatus: Vault,
    /// List retention buckets.
    ReadBuckets: Tenant,
    /// Erase a retention bucket.
    EraseBucket: Records,
    /// Make, change and delete retention policies; stop and go on with what follows from a change.
    ManageRetention: Tenant,
    /// Place and release legal holds.
    ManageHolds: Records,
    /// Read legal holds, and which erasures wait for them.
    ReadHolds: Tenant,
    /// Read retention policies, and how much will go when.
    ReadRetention: Tenant,
    /// Erase what is due, of all tenants, without waiting; say that the vault's clock is right.
    RunRetention: WholeVault,
);
