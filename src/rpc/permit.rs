//! From a request to a [`Permit`]: the first thing that every method does after it has parsed the names in its request.
//!
//! Guarantees: the caller is the principal that the door verified, never a header; what a refused caller hears is
//! always the same text and depends on nothing that the vault holds (PERMISSION_DENIED goes before NOT_FOUND).

use std::sync::Arc;

use tonic::{Extensions, Status};

use crate::authz::{ActionKind, Authority, Permit, Principal};

/// Whether the certificate of a call's connection still counts. The door puts it beside the principal; calls that last
/// ask it again at each part.
pub trait Standing: Send + Sync {
    fn holds(&self) -> bool;
}

/// What a caller hears who lacks a right.
pub const DENIED: &str = "the identity has no right to this";

/// The permit for `A` on `tenant` (`None`: on the vault), or PERMISSION_DENIED.
pub fn permit<A: ActionKind>(
    extensions: &Extensions,
    authority: &Authority,
    tenant: Option<&str>,
) -> Result<Permit<A>, Status> {
    let principal = extensions
        .get::<Principal>()
        .ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    if extensions.get::<Arc<dyn Standing>>().is_some_and(|standing| !standing.holds()) {
        return Err(Status::unauthenticated("the client certificate does not count any more"));
    }
    authority.decide::<A>(principal, tenant).map_err(|denial| {
        tracing::info!(%principal, %denial, "denied");
        Status::permission_denied(DENIED)
    })
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::authz::{Binding, CreateTenant, ReadRecord, TenantScope};
    use crate::class::Role;

    #[test]
    fn every_refusal_reads_the_same() {
        let app = Principal::parse("spiffe://test/application").unwrap();
        let binding = Binding {
            principal: app.clone(),
            role: Role::Application,
            tenants: TenantScope::parse(&["a".into()]).unwrap(),
            clear: Binding::default_clear(Role::Application),
        };
        let authority = Authority::new(vec![binding]).unwrap();
        let mut known = Extensions::default();
        known.insert(app);
        assert!(permit::<ReadRecord>(&known, &authority, Some("a")).is_ok());

        let mut stranger = Extensions::default();
        stranger.insert(Principal::parse("spiffe://test/stranger").unwrap());
        let refusals = [
            permit::<ReadRecord>(&known, &authority, Some("b")).unwrap_err(),
            permit::<CreateTenant>(&known, &authority, None).map(|_| ()).unwrap_err(),
            permit::<ReadRecord>(&stranger, &authority, Some("a")).unwrap_err(),
        ];
        for status in refusals {
            assert_eq!((status.code(), status.message()), (Code::PermissionDenied, DENIED));
        }
        let nobody = permit::<ReadRecord>(&Extensions::default(), &authority, Some("a"));
        assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
    }
}
