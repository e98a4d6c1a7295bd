//! One denial for each reason.

use std::sync::{Arc, Weak};
use std::time::Duration;

use time::OffsetDateTime;

use super::fixture::must;
use crate::cache::{Cache, CachedRecord};
use crate::clock::ClockError;
use crate::hashing::HashingError;
use crate::key::{
    Access, DecodeError, Digest, Environment, HasPassed, KeyId, KeyRecord, KeyTextError, Metadata,
    Principal, Restrictions, RevokeReason, SecretOrigin, TenantId, Title,
};
use crate::limiter::{LimiterError, PlanError};
use crate::scope;
use crate::store::StoreError;
use crate::verifier::{Denial, DenialReason};

/// Makes a list of reasons. The patterns are those of a `match`, so that a missing reason does not compile.
macro_rules! list {
    ($($pattern:pat => $reason:expr,)+) => {
        fn one_of_each() -> Vec<DenialReason> {
            let _is_listed = |reason: &DenialReason| match reason {
                $($pattern => (),)+
            };
            vec![$($reason,)+]
        }

        #[cfg(test)]
        fn is_each_in_its_own_line() -> Vec<bool> {
            vec![$(matches!($reason, $pattern),)+]
        }
    };
}

list! {
    DenialReason::NoCredential => DenialReason::NoCredential,
    DenialReason::SeveralCredentials => DenialReason::SeveralCredentials,
    DenialReason::Malformed(_) => DenialReason::Malformed(KeyTextError::Prefix),
    DenialReason::UnknownKey => DenialReason::UnknownKey,
    DenialReason::OtherKeyward => DenialReason::OtherKeyward,
    DenialReason::WrongSecret => DenialReason::WrongSecret,
    DenialReason::OtherEnvironment => DenialReason::OtherEnvironment,
    DenialReason::OtherFormat => DenialReason::OtherFormat,
    DenialReason::OtherTenant => DenialReason::OtherTenant,
    DenialReason::Revoked { .. } => DenialReason::Revoked {
        at: OffsetDateTime::UNIX_EPOCH,
        reason: RevokeReason::Leaked,
    },
    DenialReason::CutOff => DenialReason::CutOff,
    DenialReason::Superseded => DenialReason::Superseded,
    DenialReason::Suspended => DenialReason::Suspended,
    DenialReason::NotYetValid => DenialReason::NotYetValid,
    DenialReason::Expired => DenialReason::Expired,
    DenialReason::Ended => DenialReason::Ended,
    DenialReason::OutsideNetworks => DenialReason::OutsideNetworks,
    DenialReason::AddressUnknown => DenialReason::AddressUnknown,
    DenialReason::MissingAccess => DenialReason::MissingAccess,
    DenialReason::UndeclaredScope(_) => DenialReason::UndeclaredScope(scope!("read:editions")),
    DenialReason::ResourceUnsettled { .. } => DenialReason::ResourceUnsettled { kind: kind() },
    DenialReason::TooManyResources => DenialReason::TooManyResources,
    DenialReason::ResourceUnbound { .. } => DenialReason::ResourceUnbound { kind: kind() },
    DenialReason::ResourceRefused { .. } => DenialReason::ResourceRefused { kind: kind() },
    DenialReason::TooManyInFlight => DenialReason::TooManyInFlight,
    DenialReason::QuotaExceeded { .. } => DenialReason::QuotaExceeded {
        quota: "minute".into(),
        retry_after: Duration::from_secs(7),
    },
    DenialReason::CostAboveLimit { .. } => DenialReason::CostAboveLimit { quota: "minute".into() },
    DenialReason::TooManyFailures { .. } => DenialReason::TooManyFailures {
        retry_after: Duration::from_secs(7),
    },
    DenialReason::Limiter(_) => DenialReason::Limiter(LimiterError::TimedOut),
    DenialReason::Plan(_) => DenialReason::Plan(PlanError::new("no answer")),
    DenialReason::Store(_) => DenialReason::Store(StoreError::Unsupported),
    DenialReason::Unreadable(_) => DenialReason::Unreadable(DecodeError::Corrupt { source: None }),
    DenialReason::Hashing(_) => DenialReason::Hashing(HashingError::Malformed),
    DenialReason::Clock(_) => DenialReason::Clock(ClockError),
    DenialReason::StaleCache => DenialReason::StaleCache,
    DenialReason::ClockBehind => DenialReason::ClockBehind,
}

/// The id of the key that the denials are about.
const ID: KeyId = KeyId::from_u128(1);

fn record() -> KeyRecord {
    let owner = must(Principal::user("owner-of-the-denied-key"));
    KeyRecord {
        id: ID,
        tenant: must(TenantId::new("acme-inc")),
        created_by: owner.clone(),
        owner,
        title: must(Title::new("title of the denied key")),
        prefix: "acme".into(),
        environment: must(Environment::new("test")),
        restrictions: Restrictions::new(Access::Full),
        metadata: Metadata::default(),
        origin: SecretOrigin::Imported { entropy_bits: None },
        digest: Digest::none(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        suspended_at: None,
        revocation: None,
        cutoff: None,
        predecessor: None,
        lineage: ID,
        rotation: None,
        legacy: None,
        revision: 1,
        has_passed: HasPassed::default(),
    }
}

fn kind() -> Arc<str> {
    "project".into()
}

/// Returns one denial for each [reason](DenialReason), for tests of middleware that answers denials itself.
///
/// If the verifier finds the reason only after the proof of the secret, the denial has a [key](Denial::key), with the
/// tenant `acme-inc`, the title `title of the denied key` and the owner `user:owner-of-the-denied-key`. No answer shows
/// any of these.
///
/// Within a [class](Denial::class) the answer must not reveal the reason, except for
/// [`NoCredential`](DenialReason::NoCredential) and for limits. The limits of a key are checked last, so that a caller
/// has proven its key and may learn which of them it has reached.
///
/// ```
/// use keyward::testkit::every_denial;
/// use keyward::verifier::{Denial, DenialClass};
///
/// fn answer(denial: &Denial) -> (u16, String) { // your own
///     (denial.class().status(), denial.to_string())
/// }
///
/// for denial in every_denial() {
///     let names_a_key = denial.key().is_some() || denial.claimed_key().is_some();
///     if denial.class() == DenialClass::Unauthenticated && names_a_key {
///         assert_eq!(answer(&denial), (401, "the API key is not valid".to_owned()));
///     }
///     assert!(!answer(&denial).1.contains("denied key"));
/// }
/// ```
#[must_use]
pub fn every_denial() -> Vec<Denial> {
    let cached = Arc::new(CachedRecord {
        record: record(),
        home: Weak::<Cache>::new(),
        bytes: 0,
    });
    let of = |reason: DenialReason| {
        if matches!(
            reason,
            DenialReason::NoCredential
                | DenialReason::SeveralCredentials
                | DenialReason::Malformed(_)
        ) {
            Denial::unreadable(reason)
        } else if is_after_proof(&reason) {
            Denial::of_key(&cached, reason)
        } else {
            Denial::naming(ID, reason)
        }
    };
    one_of_each().into_iter().map(of).collect()
}

/// Returns whether the verifier finds this reason only once the secret was proven.
fn is_after_proof(reason: &DenialReason) -> bool {
    match reason {
        DenialReason::NoCredential
        | DenialReason::SeveralCredentials
        | DenialReason::Malformed(_)
        | DenialReason::UnknownKey
        | DenialReason::OtherKeyward
        | DenialReason::WrongSecret
        | DenialReason::TooManyFailures { .. }
        | DenialReason::Store(_)
        | DenialReason::Unreadable(_)
        | DenialReason::Hashing(_)
        | DenialReason::Clock(_)
        | DenialReason::StaleCache => false,
        DenialReason::OtherEnvironment
        | DenialReason::OtherFormat
        | DenialReason::OtherTenant
        | DenialReason::Revoked { .. }
        | DenialReason::CutOff
        | DenialReason::Superseded
        | DenialReason::Suspended
        | DenialReason::NotYetValid
        | DenialReason::Expired
        | DenialReason::Ended
        | DenialReason::OutsideNetworks
        | DenialReason::AddressUnknown
        | DenialReason::MissingAccess
        | DenialReason::UndeclaredScope(_)
        | DenialReason::ResourceUnsettled { .. }
        | DenialReason::TooManyResources
        | DenialReason::ResourceUnbound { .. }
        | DenialReason::ResourceRefused { .. }
        | DenialReason::TooManyInFlight
        | DenialReason::QuotaExceeded { .. }
        | DenialReason::CostAboveLimit { .. }
        | DenialReason::Limiter(_)
        | DenialReason::Plan(_)
        | DenialReason::ClockBehind => true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::verifier::DenialClass;

    #[test]
    fn each_reason_is_in_its_own_line() {
        for (reason, is_in_its_line) in one_of_each().iter().zip(is_each_in_its_own_line()) {
            assert!(is_in_its_line, "{reason}");
        }
    }

    #[test]
    fn a_reason_after_the_proof_has_a_key() {
        for denial in every_denial() {
            let (reason, class) = (denial.reason(), denial.class());
            let is_proven = denial.key().is_some();
            assert!(!(is_proven && denial.claimed_key().is_some()), "{reason}");
            match class {
                DenialClass::BadRequest => assert!(!is_proven, "{reason}"),
                // Only the holder of a key is refused for the key's powers.
                DenialClass::Forbidden => assert!(is_proven, "{reason}"),
                _ => {}
            }
        }
        let proven = every_denial().into_iter();
        let proven = proven.filter(|denial| denial.key().is_some());
        let classes: HashSet<_> = proven.map(|denial| denial.class()).collect();
        assert_eq!(classes.len(), 4, "{classes:?}");
    }
}
