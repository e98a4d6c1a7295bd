//! Deciding on a request by a guard: before, during and after its look-ups.

use super::Edge;
use crate::http::guard::{Guard, Values};
use crate::http::head::{Head, HeaderSource};
use crate::http::reason::RejectionReason;
use crate::http::rejection::Rejection;
use crate::verifier::{Admitted, Attempt, Grant, Permit};

/// The grant and the permit. With an outer guard, the permit is of the quotas of this guard's route alone.
pub(in crate::http) type Granted = Result<(Grant, Permit), Box<Rejection>>;

impl Edge {
    /// Decides on a request by a guard: what a middleware does in front of a handler, with the resources that the
    /// request names and the application's look-ups. `None`: a guest may pass.
    ///
    /// `head` describes the request. It is called again after a look-up, which may have changed the request. `outer` is
    /// the grant that an outer guard has put into the request, if there is one: the request then needs no credential.
    ///
    /// ```
    /// use keyward::http::{Connection, Edge, Guard, Head, Rejection, lookup};
    /// use keyward::verifier::{Admitted, Requirement};
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
    /// async fn admit(edge: &Edge, request: &mut Request) -> Result<Option<Admitted>, Box<Rejection>> {
    ///     edge.admit_guarded(&guard(), request, None, head).await
    /// }
    /// ```
    ///
    /// # Errors
    /// As for [`admit`](Self::admit), and if a look-up finds nothing or fails. Also (500) for a guest if the guard
    /// [leaves the decision to an inner one](crate::verifier::Requirement::checked_by_inner_guard), which is for
    /// holders of keys only here: the layers of the features `tower` and `actix` do that for guests too.
    pub async fn admit_guarded<R, H: HeaderSource + ?Sized>(
        &self,
        guard: &Guard<R>,
        request: &mut R,
        outer: Option<&Grant>,
        head: impl for<'r> Fn(&'r R) -> Head<'r, H>,
    ) -> Result<Option<Admitted>, Box<Rejection>> {
        let outer = outer.filter(|outer| self.verifier.has_admitted(outer));
        if guard.admits_guests() && outer.is_none() && self.is_guest(&head(request)) {
            return self.pass_guest(&head(request), guard.is_checked_inside());
        }
        let values = guard.named(request);
        let granted = self.decide(guard, request, values, outer, false, head);
        let (grant, permit) = granted.await.inspect_err(|rejection| {
            if rejection.is_report_only {
                // This guard has decided, even if only to report.
                outer.into_iter().for_each(Grant::inner_guard_decided);
            }
        })?;
        Ok(Some(Admitted::from_parts(grant, permit)))
    }

    /// Lets a guest's request through, unless the decision is left to an inner guard: a guest has no grant, by which
    /// [`review`](Self::review) could find that none has decided.
    pub(super) fn pass_guest<H: HeaderSource + ?Sized>(
        &self,
        head: &Head<'_, H>,
        is_checked_inside: bool,
    ) -> Result<Option<Admitted>, Box<Rejection>> {
        if is_checked_inside {
            return Err(self.reject_request(head, RejectionReason::NoInnerGuard, None));
        }
        Ok(None)
    }

    /// Decides by a guard, with the resources that the request itself names. A request that will be refused for the
    /// length of its body is not counted.
    pub(in crate::http) async fn decide<R, H: HeaderSource + ?Sized>(
        &self,
        guard: &Guard<R>,
        request: &mut R,
        mut values: Values,
        outer: Option<&Grant>,
        is_too_large: bool,
        head: impl for<'r> Fn(&'r R) -> Head<'r, H>,
    ) -> Granted {
        let looks_up = guard.looks_up();
        let attempt = counted(guard.first_attempt(&values), is_too_large, looks_up);
        let (mut grant, mut permit) = match outer {
            Some(outer) => {
                let grant = self.check_requirement(&head(request), outer, attempt)?;
                (grant, Permit::empty())
            }
            None => self.admit(&head(request), attempt).await?.into_parts(),
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
        Ok((grant, permit))
    }
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
