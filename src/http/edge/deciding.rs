//! How an edge decides on a request.

use super::Edge;
#[cfg(any(feature = "actix", feature = "tower"))]
use super::guarded::Granted;
use crate::http::client::Origin;
use crate::http::credentials::{self, Found};
use crate::http::head::{Head, HeaderSource};
#[cfg(any(feature = "actix", feature = "http"))]
use crate::http::key_in::KeyIn;
use crate::http::near_miss::{self, NearMiss};
use crate::http::reason::RejectionReason;
#[cfg(any(feature = "actix", feature = "http"))]
use crate::http::rejection::Observer;
use crate::http::rejection::{About, Rejection};
use crate::key::KeyTextError;
#[cfg(any(feature = "actix", feature = "http"))]
use crate::verifier::Verifier;
use crate::verifier::{Admitted, Attempt, Denial, DenialClass, DenialReason, Grant, Requirement};

impl Edge {
    /// Decides on a request.
    ///
    /// If neither the store nor a slow hash is needed, it decides at once, even if the future is never polled. The
    /// credential and the address in the attempt are replaced by those of the head.
    ///
    /// # Errors
    /// [`Rejection`] contains the answer to send. Do not process the request further, unless the rejection [is only
    /// reported](Rejection::is_report_only): then let the request through, without a grant.
    pub fn admit<'a, 'h, H: HeaderSource + ?Sized>(
        &'a self,
        head: &Head<'h, H>,
        attempt: Attempt<'a>,
    ) -> impl Future<Output = Result<Admitted, Box<Rejection>>> + use<'a, 'h, H> {
        let (found, origin) = self.read(head);
        self.admit_found(head, found, origin, attempt)
    }

    /// Decides on a request to a route that guests may use. `None`: the request is a guest's, and has no credential.
    ///
    /// [`Requirement::or_guest`](crate::verifier::Requirement) says which requests are guests'. Add
    /// [`guest_response_headers`](Self::guest_response_headers) to their responses.
    ///
    /// # Errors
    /// As for [`admit`](Self::admit): a credential that is refused or cannot be read never makes a guest. Also (500)
    /// for a guest if the requirement [leaves the decision to an inner
    /// guard](crate::verifier::Requirement::checked_by_inner_guard).
    pub fn admit_or_guest<'a, 'h, H: HeaderSource + ?Sized>(
        &'a self,
        head: &Head<'h, H>,
        attempt: Attempt<'a>,
    ) -> impl Future<Output = Result<Option<Admitted>, Box<Rejection>>> + use<'a, 'h, H> {
        let (found, origin) = self.read(head);
        let admitting = if !self.is_guests(head, &found, origin) {
            Ok(self.admit_found(head, found, origin, attempt))
        } else if attempt.requirement.is_checked_inside() {
            // A guest has no grant, by which `review` could find that no inner guard has decided.
            Err(Err(self.reject_request(
                head,
                RejectionReason::NoInnerGuard,
                None,
            )))
        } else {
            Err(Ok(None))
        };
        async move {
            match admitting {
                Ok(admitting) => admitting.await.map(Some),
                Err(guest) => guest,
            }
        }
    }

    /// Decides on a request that an outer guard has already admitted.
    ///
    /// It checks that the grant meets the attempt's requirement, that it is for the tenant and environment that the
    /// attempt addresses, and that the request came over TLS if this edge [requires it](Self::require_tls). See
    /// [`Verifier::check_requirement`](crate::verifier::Verifier::check_requirement).
    ///
    /// # Errors
    /// As for [`admit`](Self::admit).
    pub fn check_requirement<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        attempt: Attempt<'_>,
    ) -> Result<Grant, Box<Rejection>> {
        let about = self.about_admitted(head, grant, attempt.requirement)?;
        let decided = self.verifier.check_requirement(grant, &attempt);
        decided.map_err(|denial| self.reject_about(RejectionReason::Denied(denial), about))
    }

    /// Decides as [`check_requirement`](Self::check_requirement) does, for a request that has waited since it was
    /// admitted.
    ///
    /// A look-up of a resource that the request names is such a wait. If the key has ended meanwhile, the request is
    /// refused. See [`Verifier::reverify`](crate::verifier::Verifier::reverify).
    ///
    /// # Errors
    /// As for [`admit`](Self::admit).
    pub async fn reverify<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &Grant,
        attempt: Attempt<'_>,
    ) -> Result<Grant, Box<Rejection>> {
        let about = self.about_admitted(head, grant, attempt.requirement)?;
        let decided = self.verifier.reverify(grant, &attempt).await;
        decided.map_err(|denial| self.reject_about(RejectionReason::Denied(denial), about))
    }
}

impl Edge {
    /// Returns the credential of a request, and where it came from.
    #[inline]
    pub(super) fn read<'h, H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'h, H>,
    ) -> (Found<'h>, Origin) {
        let found = credentials::read(&self.forms, || self.verifier.key_forms(), head);
        (found, self.proxies.origin(head.connection, head.headers))
    }

    /// Returns whether a request has no credential at all: none where keys are accepted, and nothing elsewhere that was
    /// perhaps meant to be one.
    ///
    /// A request that is refused in any case, since it came without TLS, is not a guest's.
    pub(super) fn is_guests<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        found: &Found<'_>,
        origin: Origin,
    ) -> bool {
        matches!(found, Found::Unread(KeyTextError::Absent))
            && (origin.is_tls || !self.requires_tls)
            && !near_miss::holds_credential(&self.forms, self.verifier.key_forms(), head)
    }

    /// Decides as [`admit`](Self::admit) does, on a request that was read.
    pub(super) fn admit_found<'a, 'h, H: HeaderSource + ?Sized>(
        &'a self,
        head: &Head<'h, H>,
        found: Found<'h>,
        origin: Origin,
        attempt: Attempt<'a>,
    ) -> impl Future<Output = Result<Admitted, Box<Rejection>>> + use<'a, 'h, H> {
        let begun = match self.begin(head, &found, origin, || attempt) {
            Some(decided) => Ok(decided),
            None => Err((found, origin, self.is_by_unlisted_proxy(head))),
        };
        async move {
            match begun {
                Ok(decided) => decided,
                Err((found, origin, is_by_unlisted)) => {
                    let mut attempt = attempt;
                    attempt.present(found.presented(), origin.client);
                    attempt.by_unlisted_proxy(is_by_unlisted);
                    let decided = self.verifier.verify(&attempt).await;
                    let requirement = attempt.requirement;
                    self.answered(decided, requirement, origin, || is_by_unlisted, Vec::new)
                }
            }
        }
    }

    /// Decides at once, if that requires neither the store nor a slow hash.
    #[inline]
    fn begin<'a, H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        found: &Found<'_>,
        origin: Origin,
        attempt: impl FnOnce() -> Attempt<'a>,
    ) -> Option<Result<Admitted, Box<Rejection>>> {
        let mut attempt = attempt();
        if self.requires_tls && !origin.is_tls {
            return Some(Err(self.reject_in_clear(
                found,
                origin,
                attempt.requirement,
            )));
        }
        if self.refuses_browsers && is_from_browser(head) {
            if let Some(reason) = self.refuse_from_browser(found) {
                let about = About::request(attempt.requirement, origin);
                return Some(Err(self.reject_about(reason, about)));
            }
        }
        attempt.present(found.presented(), origin.client);
        let decided = self.verifier.try_verify(&attempt)?;
        let by_unlisted = || self.is_by_unlisted_proxy(head);
        let near_misses = || near_miss::find(&self.forms, self.verifier.key_forms(), head);
        Some(self.answered(
            decided,
            attempt.requirement,
            origin,
            by_unlisted,
            near_misses,
        ))
    }

    /// Returns whether a request came by a proxy that is not configured. The warm path does not need to know it.
    pub(super) fn is_by_unlisted_proxy<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
    ) -> bool {
        self.proxies.is_by_unlisted(head.connection, head.headers)
    }

    /// Rejects a request that came without TLS.
    fn reject_in_clear(
        &self,
        found: &Found<'_>,
        origin: Origin,
        need: &Requirement,
    ) -> Box<Rejection> {
        let parsed = self.verifier.format().parse_presented(found.presented());
        let reason = RejectionReason::InsecureTransport {
            claimed_key: parsed.ok().map(|parsed| parsed.id()),
            credential_sent: !matches!(parsed, Err(KeyTextError::Absent)),
        };
        self.reject_about(reason, About::request(need, origin))
    }

    /// Returns the reason to refuse a request from a browser. `None` if it has no credential.
    fn refuse_from_browser(&self, found: &Found<'_>) -> Option<RejectionReason> {
        let parsed = self.verifier.format().parse_presented(found.presented());
        let is_absent = matches!(found, Found::Unread(KeyTextError::Absent));
        (!is_absent).then(|| RejectionReason::FromBrowser {
            claimed_key: parsed.ok().map(|parsed| parsed.id()),
        })
    }

    /// Turns a denial into a rejection.
    #[inline]
    pub(super) fn answered(
        &self,
        decided: Result<Admitted, Denial>,
        need: &Requirement,
        origin: Origin,
        is_by_unlisted_proxy: impl FnOnce() -> bool,
        near_misses: impl FnOnce() -> Vec<NearMiss>,
    ) -> Result<Admitted, Box<Rejection>> {
        decided.map_err(|denial| {
            let names_no_key = matches!(
                denial.reason(),
                DenialReason::NoCredential | DenialReason::Malformed(KeyTextError::HalfPair)
            );
            let is_observed = self.rejecting.observer.is_some();
            let is_unread = matches!(
                denial.reason(),
                DenialReason::NoCredential
                    | DenialReason::SeveralCredentials
                    | DenialReason::Malformed(_)
            );
            let is_asked = is_unread && is_observed;
            let near_misses = is_asked.then(near_misses).unwrap_or_default();
            let is_refused = denial.class() == DenialClass::Unauthenticated && !names_no_key;
            let about = About {
                near_misses: &near_misses,
                is_by_unlisted_proxy: is_observed && is_refused && is_by_unlisted_proxy(),
                ..About::request(need, origin)
            };
            self.reject_about(RejectionReason::Denied(denial), about)
        })
    }

    /// Describes a request that was already admitted, for its rejection: its grant, requirement and origin.
    ///
    /// # Errors
    /// A rejection if the request came without TLS and TLS is required, or from a browser that is refused.
    pub(super) fn about_admitted<'a, H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        grant: &'a Grant,
        need: &'a Requirement,
    ) -> Result<About<'a>, Box<Rejection>> {
        let origin = self.proxies.origin(head.connection, head.headers);
        let about = About {
            grant: Some(grant),
            ..About::request(need, origin)
        };
        // The outer guard has removed the credential, but it did come in this way.
        let claimed_key = Some(grant.key_id());
        let reason = if self.requires_tls && !origin.is_tls {
            RejectionReason::InsecureTransport {
                claimed_key,
                credential_sent: true,
            }
        } else if self.refuses_browsers && is_from_browser(head) {
            RejectionReason::FromBrowser { claimed_key }
        } else {
            return Ok(about);
        };
        Err(self.reject_about(reason, about))
    }
}

/// Returns whether a web browser sent the request. A page can set neither header.
fn is_from_browser<H: HeaderSource + ?Sized>(head: &Head<'_, H>) -> bool {
    let has = |name| head.headers.values(name).next().is_some();
    has("sec-fetch-site") || has("origin")
}

/// What the adapters ask beside.
#[cfg(any(feature = "actix", feature = "http"))]
impl Edge {
    /// Decides as [`admit`](Self::admit) does, if that can be done at once, or lets a guest in. `None`: it cannot.
    ///
    /// It creates the attempt in its final place, since moving it is costly.
    #[cfg(any(feature = "actix", feature = "tower"))]
    #[inline]
    pub(in crate::http) fn try_admit<'a, H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        admits_guests: bool,
        attempt: impl FnOnce() -> Attempt<'a>,
    ) -> Option<Granted> {
        let (found, origin) = self.read(head);
        if admits_guests && self.is_guests(head, &found, origin) {
            return Some(Ok(None));
        }
        let decided = self.begin(head, &found, origin, attempt)?;
        Some(decided.map(|admitted| Some(admitted.into_parts())))
    }

    /// Whether the Keyward behind this edge issued this grant.
    pub(in crate::http) fn has_admitted(&self, grant: &Grant) -> bool {
        self.verifier.has_admitted(grant)
    }

    pub(in crate::http) fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    pub(in crate::http) fn observer(&self) -> Option<&Observer> {
        self.rejecting.observer.as_ref()
    }

    /// Returns the maximum bytes of a request body. `None` if there is no bound, or a violation would only be
    /// reported.
    pub(crate) fn request_bound(&self) -> Option<u64> {
        let max = self.adapters.max_request_bytes;
        (max < u64::MAX && !self.rejecting.is_report_only).then_some(max)
    }

    /// Whether the credential stays in the request.
    pub(crate) fn keeps_credential(&self) -> bool {
        self.adapters.keeps_credential
    }

    /// Whether a part of the target or of a header may be a credential.
    pub(crate) fn reads_parts(&self) -> bool {
        self.forms.iter().any(KeyIn::is_a_part)
    }

    /// Whether responses show when keys end.
    pub(in crate::http) fn shows_expiry(&self) -> bool {
        self.shows_expiry
    }

    /// Whether cache headers are left to the application.
    pub(crate) fn may_be_cached(&self) -> bool {
        self.may_be_cached
    }
}

#[cfg(any(feature = "actix", feature = "http"))]
impl Edge {
    /// Removes the parameters that keys are accepted in from a target with this query. `None` if it has no such
    /// parameter.
    pub(crate) fn target_without_credential<U>(&self, target: &U, query: Option<&str>) -> Option<U>
    where
        U: ToString + TryFrom<String> + Default,
    {
        let rest = self.query_without_credential(query?)?;
        let mut text = target.to_string();
        text.truncate(text.find('?')?);
        if !rest.is_empty() {
            text.push('?');
            text.push_str(&rest);
        }
        // Removing parameters should leave a valid target. If it does not, drop it: the credential must not pass.
        Some(U::try_from(text).unwrap_or_default())
    }

    /// Removes the credential from these lines of sub-protocols. A line of nothing else is dropped.
    pub(crate) fn remaining_protocols<V>(
        &self,
        lines: impl IntoIterator<Item = V>,
    ) -> impl Iterator<Item = V>
    where
        V: AsRef<[u8]> + for<'a> TryFrom<&'a [u8]>,
    {
        let lines = lines.into_iter().filter_map(|line| {
            match self.protocols_without_credential(line.as_ref()) {
                // A line that cannot be written again is dropped: the credential must not pass.
                Some(rest) => V::try_from(&rest).ok(),
                None => Some(line),
            }
        });
        lines.filter(|line| !line.as_ref().is_empty())
    }
}
