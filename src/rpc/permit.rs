//! From a request to a [`Permit`]: the first thing that every method does after it has parsed the names in its request.
//!
//! Guarantees: the caller is the principal that the door verified, never a header; what a refused caller hears is
//! always the same text and depends on nothing that the vault holds (PERMISSION_DENIED goes before NOT_FOUND).

use std::sync::Arc;

use tonic::{Extensions, Status};

use crate::authz::{ActionKind, Authority, Permit, Principal};

/// Whether the certificate of a call's connection still counts. Calls that last ask it again at each part.
pub trait Standing: Send + Sync {
    fn holds(&self) -> bool;
}

/// Who makes a call, as the door saw it. The only thing that it tells the services of a call.
#[derive(Clone)]
pub struct Caller(Arc<Known>);

struct Known {
    principal: Principal,
    /// The path of the call, as the table of methods has it.
    method: &'static str,
    standing: Box<dyn Standing>,
}

impl Caller {
    pub fn new(principal: Principal, method: &'static str, standing: Box<dyn Standing>) -> Self {
        Self(Arc::new(Known { principal, method, standing }))
    }

    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    pub fn method(&self) -> &'static str {
        self.0.method
    }
}

/// What a caller hears who lacks a right.
pub const DENIED: &str = "the identity has no right to this";

/// The permit for `A` on `tenant` (`None`: on the vault), or PERMISSION_DENIED.
pub fn permit<A: ActionKind>(
    extensions: &Extensions,
    authority: &Authority,
    tenant: Option<&str>,
) -> Result<Permit<A>, Status> {
    let caller = extensions
        .get::<Caller>()
        .ok_or_else(|| Status::unauthenticated("no client certificate"))?;
    if !caller.0.standing.holds() {
        return Err(Status::unauthenticated("the client certificate does not count any more"));
    }
    let principal = caller.principal();
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

    struct Stays(bool);

    impl Standing for Stays {
        fn holds(&self) -> bool {
            self.0
        }
    }

    fn by(principal: Principal, stays: bool) -> Extensions {
        let mut extensions = Extensions::default();
        extensions.insert(Caller::new(principal, "/a/b", Box::new(Stays(stays))));
        extensions
    }

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
        let known = by(app, true);
        assert!(permit::<ReadRecord>(&known, &authority, Some("a")).is_ok());

        let stranger = by(Principal::parse("spiffe://test/stranger").unwrap(), true);
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
        let gone = by(Principal::parse("spiffe://test/application").unwrap(), false);
        let gone = permit::<ReadRecord>(&gone, &authority, Some("a"));
        assert_eq!(gone.unwrap_err().code(), Code::Unauthenticated);
    }
}
