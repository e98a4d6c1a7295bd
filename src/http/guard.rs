//! A route's requirement, and where its requests name the resources.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::reason::RejectionReason;
use crate::verifier::{Attempt, Grant, Requirement};

/// The error of a look-up or a body.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A requirement, and where requests of this type name the resources that it needs. A [`Requirement`] alone is one.
///
/// ```
/// use keyward::http::Guard;
/// use keyward::verifier::Requirement;
///
/// struct Request { tenant: Option<String> } // whatever your framework calls one
///
/// let need = Requirement::any_key();
/// let guard: Guard<Request> = need.bind("tenant", |request: &Request| request.tenant.clone());
/// # let _ = guard;
/// ```
pub struct Guard<R> {
    /// The requirement before any look-up.
    first: Requirement,
    /// The requirement after the look-ups. The same as `first` if nothing is looked up.
    then: Requirement,
    sources: Vec<(Arc<str>, Source<R>)>,
    admits_guests: bool,
}

/// The source of a resource's value.
pub struct Source<R>(SourceKind<R>);

enum SourceKind<R> {
    /// From the request.
    Request(Read<R>),
    /// From the application's look-up of an object that the request names.
    Lookup(Read<R>, LookUp),
}

/// Takes `&mut`, since a framework's extractor may need exclusive access to the request.
type Read<R> = Arc<dyn Fn(&mut R) -> Option<String> + Send + Sync>;

type LookUp = Arc<dyn Fn(&Grant, String) -> Looking + Send + Sync>;

type Looking = Pin<Box<dyn Future<Output = Result<Option<String>, BoxError>> + Send>>;

impl Requirement {
    /// Requires the resource of this kind that the request names at this source, as [`Requirement::resource`] does.
    ///
    /// The source must return the value that the handler will use, decoded in the same way. A request without a value
    /// is refused.
    pub fn bind<R>(self, kind: &str, source: impl IntoSource<R>) -> Guard<R> {
        Guard::from(self).bind(kind, source)
    }

    /// Lets guests in as well: requests without any credential. A request with a key has to meet the requirement.
    ///
    /// The handler gets the [`Grant`] of a key's holder, and nothing of a guest: with axum and actix it takes a
    /// `Visitor`. The requirement, its resources and its quotas apply to holders only. Limit guests by their address,
    /// in front of the application.
    ///
    /// A credential that is refused, or cannot be read, is never taken for a guest's request: a wrong, revoked or
    /// malformed key, half of a pair, two credentials, and a [near miss](super::NearMiss), such as a key in a header
    /// with a misspelt name, after a scheme that is not accepted, or in the query. The answer is 400 or 401. A token of
    /// another kind is no credential where no key is accepted: with keys in `X-API-Key` alone, a session's `Bearer`
    /// token leaves the request a guest's.
    ///
    /// A key that is restricted to some resources is refused (403) as on any route that settles no kind of these,
    /// although a guest would be served. If the route serves nothing that belongs to a resource, add
    /// [`serves_no_resource`](Requirement::serves_no_resource).
    ///
    /// Responses to guests may be cached, unless the handler says otherwise. `Vary` keeps them from holders of keys.
    ///
    /// ```
    /// use keyward::http::Guard;
    /// use keyward::{scope, verifier::Requirement};
    ///
    /// # struct Request;
    /// let catalogue: Guard<Request> = Requirement::scope(scope!("read:catalogue")).or_guest();
    /// # let _ = catalogue;
    /// ```
    pub fn or_guest<R>(self) -> Guard<R> {
        Guard::from(self).or_guest()
    }
}

impl<R> Guard<R> {
    /// Requires one more resource, as [`Requirement::bind`] does.
    #[must_use]
    pub fn bind(mut self, kind: &str, source: impl IntoSource<R>) -> Self {
        let source = source.into_source();
        self.first = match source.0 {
            SourceKind::Request(_) => self.first.resource(kind),
            // A restricted key passes before the look-up, but not after it.
            SourceKind::Lookup(..) => self.first.filters(kind),
        };
        self.then = self.then.resource(kind);
        self.sources.push((kind.into(), source));
        self
    }

    /// Lets guests in as well, as [`Requirement::or_guest`] does.
    #[must_use]
    pub fn or_guest(mut self) -> Self {
        self.admits_guests = true;
        self
    }

    #[inline]
    pub(super) fn admits_guests(&self) -> bool {
        self.admits_guests
    }

    /// Returns the guard for methods that the route lacks. It keeps the requirement before any look-up, and admits no
    /// guests.
    #[cfg(any(feature = "actix", feature = "axum"))]
    pub(crate) fn for_other_methods(mut self) -> Self {
        let is_read = |source: &Source<R>| matches!(source.0, SourceKind::Request(_));
        self.sources.retain(|(_, source)| is_read(source));
        self.then = self.first.clone();
        self.admits_guests = false;
        self
    }

    /// Whether requests have to be read for the resources that they name.
    #[cfg(feature = "tower")]
    pub(super) fn reads_requests(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Whether the route has quotas of its own.
    #[cfg(any(feature = "actix", feature = "tower"))]
    #[inline]
    pub(super) fn has_quotas(&self) -> bool {
        self.then.quotas().is_some()
    }

    pub(super) fn looks_up(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|(_, source)| matches!(source.0, SourceKind::Lookup(..)))
    }

    /// Returns the resources that the request itself names.
    pub(super) fn named(&self, request: &mut R) -> Values {
        let mut values = Values::default();
        for (kind, source) in &self.sources {
            if let SourceKind::Request(read) = &source.0 {
                values.0.push((Arc::clone(kind), read(request)));
            }
        }
        values
    }

    /// Looks up the remaining resources, once the request is admitted so far.
    ///
    /// # Errors
    /// The reason to reject the request for.
    pub(super) async fn look_up(
        &self,
        request: &mut R,
        grant: &Grant,
        values: &mut Values,
    ) -> Result<(), RejectionReason> {
        for (kind, source) in &self.sources {
            let SourceKind::Lookup(read, look) = &source.0 else {
                continue;
            };
            // Without a name there is nothing to look up, and the requirement refuses the request.
            let found = match read(request) {
                None => None,
                Some(name) => match look(grant, name).await {
                    Ok(None) => return Err(RejectionReason::NotFound),
                    Ok(found) => found,
                    Err(error) => return Err(RejectionReason::LookupFailed(error)),
                },
            };
            values.0.push((Arc::clone(kind), found));
        }
        Ok(())
    }

    /// Returns the attempt to meet the requirement before any look-up.
    #[inline]
    pub(super) fn first_attempt<'a>(&'a self, values: &'a Values) -> Attempt<'a> {
        values.attempt(&self.first)
    }

    /// Returns the attempt to meet the requirement after the look-ups.
    pub(super) fn last_attempt<'a>(&'a self, values: &'a Values) -> Attempt<'a> {
        values.attempt(&self.then)
    }

    /// Whether a guard inside of this one has to decide.
    pub(crate) fn is_checked_inside(&self) -> bool {
        self.then.is_checked_inside()
    }

    /// Whether the requirement leaves any check to the handler.
    #[cfg(any(feature = "actix", feature = "axum"))]
    pub(crate) fn leaves_checks(&self) -> bool {
        self.then.handler_checks().next().is_some()
    }
}

/// The resources that a request names, as kinds with a value. `None` if the request names no resource of the kind.
#[derive(Default)]
pub(crate) struct Values(Vec<(Arc<str>, Option<String>)>);

impl Values {
    /// Returns the attempt with these resources.
    ///
    /// If a route names a kind in two places and the request fills only one, the kind counts as not named. Otherwise
    /// the caller could choose which of the two is checked.
    #[inline]
    fn attempt<'a>(&'a self, need: &'a Requirement) -> Attempt<'a> {
        if self.0.is_empty() {
            return Attempt::of(need);
        }
        let named = self.0.iter().filter_map(|(kind, value)| {
            let is_whole =
                |(other, value): &(Arc<str>, Option<String>)| other != kind || value.is_some();
            let value = value.as_deref()?;
            self.0.iter().all(is_whole).then_some((kind, value))
        });
        named.fold(Attempt::of(need), |attempt, (kind, value)| {
            attempt.resource(kind, value)
        })
    }
}

impl<R> From<Requirement> for Guard<R> {
    fn from(need: Requirement) -> Self {
        Self {
            first: need.clone(),
            then: need,
            sources: Vec::new(),
            admits_guests: false,
        }
    }
}

/// A [`Source`], or a function that reads the value from the request.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say where a request names the resource",
    label = "write `path(\"id\")`",
    note = "`keyward::axum::path` and `keyward::actix::path` read a parameter of the route's path",
    note = "other sources are `keyward::http::lookup`, and functions of the request such as `|parts: &Parts| …`"
)]
pub trait IntoSource<R> {
    /// Returns the source.
    fn into_source(self) -> Source<R>;
}

impl<R> IntoSource<R> for Source<R> {
    fn into_source(self) -> Self {
        self
    }
}

/// Reads the value from the request.
impl<R, F> IntoSource<R> for F
where
    F: Fn(&R) -> Option<String> + Send + Sync + 'static,
{
    fn into_source(self) -> Source<R> {
        Source::reading(move |request| self(request))
    }
}

impl<R> Source<R> {
    pub(crate) fn reading(read: impl Fn(&mut R) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(SourceKind::Request(Arc::new(read)))
    }
}

/// Looks up the resource that an object named in the request belongs to, such as an edition's project.
///
/// It is for routes that act: the resource must be known before the handler is called.
///
/// The adapter calls `look` once the key meets the rest of the route's requirement, and before the request is
/// processed further. `None` means that the object does not exist: the answer is 404, for any key. If the look-up
/// fails, the answer is 503. If the key has ended when the look-up returns, the request is refused.
///
/// `look` also gets the grant. If several tenants have objects of one kind, return `None` for another tenant's
/// objects: otherwise a restricted key could find out from 403 and 404 which objects exist.
///
/// ```
/// use keyward::http::{Guard, lookup};
/// use keyward::verifier::Requirement;
///
/// async fn project_of(tenant: String, edition: String) -> Result<Option<String>, std::io::Error> {
///     Ok((tenant == "acme-inc" && edition == "e-1").then(|| "p-17".to_owned())) // from the database
/// }
///
/// struct Request { path: String }
///
/// let edition = |request: &Request| request.path.strip_prefix("/editions/").map(str::to_owned);
/// let project = lookup(edition, |grant, edition| project_of(grant.tenant().to_string(), edition));
/// let guard: Guard<Request> = Requirement::any_key().bind("project", project);
/// # let _ = guard;
/// ```
pub fn lookup<R, F, Looking, E>(named: impl IntoSource<R>, look: F) -> Source<R>
where
    F: Fn(&Grant, String) -> Looking + Send + Sync + 'static,
    Looking: Future<Output = Result<Option<String>, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let look: LookUp = Arc::new(move |grant, name| {
        let looking = look(grant, name);
        Box::pin(async move { looking.await.map_err(Into::into) })
    });
    let look = match named.into_source().0 {
        SourceKind::Request(read) => SourceKind::Lookup(read, look),
        // The second look-up uses the result of the first.
        SourceKind::Lookup(read, first) => {
            let both: LookUp = Arc::new(move |grant, name| {
                let (first, look, grant) = (first(grant, name), Arc::clone(&look), grant.clone());
                Box::pin(async move {
                    match first.await? {
                        Some(found) => look(&grant, found).await,
                        None => Ok(None),
                    }
                })
            });
            SourceKind::Lookup(read, both)
        }
    };
    Source(look)
}

impl<R> Clone for Guard<R> {
    fn clone(&self) -> Self {
        Self {
            first: self.first.clone(),
            then: self.then.clone(),
            sources: self.sources.clone(),
            admits_guests: self.admits_guests,
        }
    }
}

impl<R> Clone for Source<R> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            SourceKind::Request(read) => SourceKind::Request(Arc::clone(read)),
            SourceKind::Lookup(read, look) => {
                SourceKind::Lookup(Arc::clone(read), Arc::clone(look))
            }
        })
    }
}

impl<R> fmt::Debug for Guard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("need", &self.then)
            .field("admits_guests", &self.admits_guests)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for Source<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            SourceKind::Request(_) => "Source(request)",
            SourceKind::Lookup(..) => "Source(lookup)",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::key::Access;
    use crate::testkit::keyward_with_key;
    use crate::verifier::Attempt;

    #[tokio::test]
    async fn a_missing_resource_ends_the_chain() {
        let (keyward, key) = keyward_with_key([], Access::Full).await;
        let any = Requirement::any_key();
        let attempt = Attempt::new(key.presented(), &any);
        let admitted = keyward.verifier().verify(&attempt).await.unwrap();
        let (grant, _permit) = admitted.into_parts();
        let named = |name: &String| Some(name.clone());
        let first = lookup(named, |_, name: String| async {
            Ok::<_, io::Error>((name == "known").then_some(name))
        });
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let both: Source<String> = lookup(first, move |_, found: String| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Ok::<_, io::Error>(Some(format!("of {found}"))) }
        });
        let SourceKind::Lookup(_, look) = both.0 else {
            panic!("it is looked up");
        };
        let found = look(&grant, "known".to_owned()).await.unwrap();
        assert_eq!(found.as_deref(), Some("of known"));
        assert_eq!(look(&grant, "other".to_owned()).await.unwrap(), None);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}
