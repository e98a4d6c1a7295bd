//! Deciding on a request by a guard: before, during and after its look-ups.

use super::Edge;
use crate::http::admission::{Admission, Passage, Refused};
use crate::http::guard::{Guard, Values};
use crate::http::head::{Head, HeaderSource};
use crate::http::reason::RejectionReason;
use crate::http::rejection::Rejection;
use crate::verifier::{Attempt, Grant, Permit};

/// The grant and the permit. `None` for a guest. With an outer guard, the permit is of the quotas of this guard's route
/// alone.
pub(in crate::http) type Granted = Result<Option<(Grant, Permit)>, Box<Rejection>>;

pub(crate) type Decided = Result<Passage, Box<Refused>>;

impl Edge {
    /// Decides on a request by a guard, with the resources that the request names and the application's look-ups.
    ///
    /// Middleware of any framework calls it in front of a handler: see the guide on [writing
    /// middleware](crate::manual::writing_middleware). A guest, or a request that is refused but [only
    /// reported](Self::report_only), is admitted without a grant.
    ///
    /// `head` describes the request. It is called again after a look-up, which may have changed the request. `outer` is
    /// the grant that an outer guard has put into the request, if there is one: the request then needs no credential.
    ///
    /// ```
    /// use keyward::http::{Admission, Connection, Edge, Guard, Head, Refused, lookup};
    /// use keyward::verifier::Requirement;
    ///
    /// struct Request { headers: Vec<(String, String)>, edition: String }
    ///
    /// fn head(request: &Request) -> Head<'_, [(String, String)]> {
    ///     Head { headers: &*request.headers, connection: Connection::default(), query: None }
    /// }
    ///
    /// fn guard() -> Guard<Request> {
    ///     let edition = |request: &Request| Some(request.edition.clone());
    ///     let project = lookup(edition, |_, _edition| async { Ok::<_, std::io::Error>(Some("p-17".to_owned())) });
    ///     Requirement::any_key().bind("project", project)
    /// }
    ///
    /// async fn admit<'e>(edge: &'e Edge, request: &mut Request) -> Result<Admission<'e>, Box<Refused>> {
    ///     edge.admit_guarded(&guard(), request, None, head).await
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Refused`], with the answer to send: as for [`admit`](Self::admit), and if a look-up finds nothing or fails, or
    /// the request announces a body beyond `Edge::max_request_bytes`.
    pub async fn admit_guarded<R, H: HeaderSource + ?Sized>(
        &self,
        guard: &Guard<R>,
        request: &mut R,
        outer: Option<&Grant>,
        head: impl for<'r> Fn(&'r R) -> Head<'r, H>,
    ) -> Result<Admission<'_>, Box<Refused>> {
        let outer = outer.filter(|outer| self.verifier.has_admitted(outer));
        let values = guard.named(request);
        let passage = self.decide(guard, request, values, outer, head).await?;
        Ok(Admission::new(self, passage))
    }

    /// Decides by a guard, with the resources that the request itself names.
    pub(in crate::http) async fn decide<R, H: HeaderSource + ?Sized>(
        &self,
        guard: &Guard<R>,
        request: &mut R,
        values: Values,
        outer: Option<&Grant>,
        head: impl for<'r> Fn(&'r R) -> Head<'r, H>,
    ) -> Decided {
        let granted = self.grant(guard, request, values, outer, &head).await;
        self.settle(guard, granted, outer, || head(request))
    }

    /// Grants a request. One that will be refused for the length of its body is not counted.
    async fn grant<R, H: HeaderSource + ?Sized>(
        &self,
        guard: &Guard<R>,
        request: &mut R,
        mut values: Values,
        outer: Option<&Grant>,
        head: &impl for<'r> Fn(&'r R) -> Head<'r, H>,
    ) -> Granted {
        let (looks_up, is_too_large) = (guard.looks_up(), self.is_too_large(&head(request)));
        let attempt = counted(guard.first_attempt(&values), is_too_large, looks_up);
        let (mut grant, mut permit) = match outer {
            Some(outer) => {
                let grant = self.check_requirement(&head(request), outer, attempt)?;
                (grant, Permit::empty())
            }
            None => {
                let head = head(request);
                let (found, origin) = self.read(&head);
                if guard.admits_guests() && self.is_guests(&head, &found, origin) {
                    return Ok(None);
                }
                let admitting = self.admit_found(&head, found, origin, attempt);
                admitting.await?.into_parts()
            }
        };
        if looks_up {
            let looked_up = guard.look_up(request, &grant, &mut values).await;
            let head = head(request);
            let again = match looked_up {
                Err(reason) => Err(self.reject_request(&head, reason, Some(&grant))),
                Ok(()) => {
                    let attempt = guard.last_attempt(&values);
                    // The key may have ended during the look-up.
                    self.reverify(&head, &grant, attempt).await
                }
            };
            grant = again.map_err(|rejection| {
                if !is_too_large && outer.is_none() {
                    self.verifier.record_use(&grant, rejection.reason.key_use());
                }
                self.with_limits(rejection, &permit)
            })?;
        }
        // Counted last: a request that was refused by now has used nothing.
        if !is_too_large && (looks_up || outer.is_some()) {
            let attempt = guard.last_attempt(&values);
            let counting = self.count(&grant, &attempt, &mut permit, outer.is_some());
            if let Err(denial) = counting.await {
                let reason = RejectionReason::Denied(denial);
                return Err(self.reject_request(&head(request), reason, Some(&grant)));
            }
        }
        Ok(Some((grant, permit)))
    }

    /// Completes a decision: refuses a request that would pass, but announces a body beyond the bound.
    #[inline]
    pub(in crate::http) fn settle<'h, R, H: HeaderSource + ?Sized + 'h>(
        &self,
        guard: &Guard<R>,
        granted: Granted,
        outer: Option<&Grant>,
        head: impl FnOnce() -> Head<'h, H>,
    ) -> Decided {
        let is_inner = outer.is_some();
        // `None` if the rejection is only reported.
        let granted = match granted {
            Ok(granted) => Some(granted),
            Err(rejection) if rejection.is_report_only => {
                // This guard has decided, even if only to report.
                outer.into_iter().for_each(Grant::inner_guard_decided);
                None
            }
            Err(rejection) => return Err(Box::new(Refused::new(*rejection, is_inner))),
        };
        #[cfg(any(feature = "actix", feature = "http"))]
        if self.adapters.max_request_bytes < u64::MAX {
            let checked = self.check_length(&head(), granted.as_ref().and_then(Option::as_ref));
            checked.map_err(|rejection| Box::new(Refused::new(*rejection, is_inner)))?;
        }
        #[cfg(not(any(feature = "actix", feature = "http")))]
        drop(head);
        Ok(match granted {
            Some(Some((grant, permit))) => Passage::Granted {
                grant,
                permit,
                is_inner,
            },
            Some(None) => Passage::Guest {
                awaits_inner_guard: guard.is_checked_inside(),
            },
            None => Passage::Reported,
        })
    }

    /// Checks that a request that passes announces a body within the bound.
    #[cfg(any(feature = "actix", feature = "http"))]
    fn check_length<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        granted: Option<&(Grant, Permit)>,
    ) -> Result<(), Box<Rejection>> {
        if !announces_more(head, self.adapters.max_request_bytes) {
            return Ok(());
        }
        let grant = granted.map(|(grant, _)| grant);
        let rejection = self.reject_request(head, RejectionReason::RequestTooLarge, grant);
        match granted {
            _ if rejection.is_report_only => Ok(()),
            Some((_, permit)) => Err(self.with_limits(rejection, permit)),
            None => Err(rejection),
        }
    }

    /// Returns whether the request will be refused for the length of its body, so that it is not counted.
    #[cfg(any(feature = "actix", feature = "http"))]
    #[inline]
    pub(in crate::http) fn is_too_large<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
    ) -> bool {
        let bound = self.request_bound();
        bound.is_some_and(|most| announces_more(head, most))
    }
}

/// Without these features there is no bound.
#[cfg(not(any(feature = "actix", feature = "http")))]
impl Edge {
    fn is_too_large<T>(&self, _: &T) -> bool {
        false
    }
}

/// Returns whether a request announces a body of more bytes than these.
#[cfg(any(feature = "actix", feature = "http"))]
fn announces_more<H: HeaderSource + ?Sized>(head: &Head<'_, H>, most: u64) -> bool {
    let length = head.headers.values("content-length").next();
    let length = length.and_then(|length| std::str::from_utf8(length).ok());
    let announced: Option<u64> = length.and_then(|length| length.parse().ok());
    announced.is_some_and(|announced| announced > most)
}

/// Sets whether the attempt counts when it is admitted, later, or not at all.
fn counted(attempt: Attempt<'_>, is_too_large: bool, looks_up: bool) -> Attempt<'_> {
    if is_too_large {
        attempt.count_nothing()
    } else if looks_up {
        attempt.count_later()
    } else {
        attempt
    }
}
