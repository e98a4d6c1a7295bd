//! One denial for each reason.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::ClockError;
use crate::hashing::HashingError;
use crate::key::{DecodeError, KeyId, KeyTextError, RevokeReason};
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

fn kind() -> Arc<str> {
    "project".into()
}

/// Returns one denial for each [reason](DenialReason), for tests of middleware that answers denials itself.
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
///     if denial.class() == DenialClass::Unauthenticated && denial.claimed_key().is_some() {
///         assert_eq!(answer(&denial), (401, "the API key is not valid".to_owned()));
///     }
/// }
/// ```
#[must_use]
pub fn every_denial() -> Vec<Denial> {
    let of = |reason| match reason {
        DenialReason::NoCredential
        | DenialReason::SeveralCredentials
        | DenialReason::Malformed(_) => Denial::unreadable(reason),
        _ => Denial::naming(KeyId::from_u128(1), reason),
    };
    one_of_each().into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_in_its_own_line() {
        for (reason, is_in_its_line) in one_of_each().iter().zip(is_each_in_its_own_line()) {
            assert!(is_in_its_line, "{reason}");
        }
    }
}
