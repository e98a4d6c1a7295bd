//! What a route needs, and where its requests name the resources that it is about.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;

use super::BoxError;
use crate::verifier::Requirement;

/// A requirement, and where requests name the resources that it asks for. A [`Requirement`] alone is one.
///
/// ```
/// use keyward::tower::{Bind, Guard};
/// use keyward::verifier::Requirement;
///
/// let guard: Guard = Requirement::any_key().bind("tenant", |request: &http::request::Parts| {
///     request.headers.get("x-tenant")?.to_str().ok().map(str::to_owned)
/// });
/// # let _ = guard;
/// ```
#[derive(Clone)]
pub struct Guard {
    /// What is asked of a key before anything is looked up.
    pub(super) first: Requirement,
    /// What is asked once that was done; the same if nothing is looked up.
    pub(super) then: Requirement,
    pub(super) sources: Vec<(Arc<str>, Source)>,
}

/// Where the value of a resource comes from.
#[derive(Clone)]
pub struct Source(pub(super) From);

#[derive(Clone)]
pub(super) enum From {
    /// From the request.
    Request(Read),
    /// From what the application knows of something that the request names.
    Lookup(Read, LookUp),
}

pub(super) type Read = Arc<dyn Fn(&mut Parts) -> Option<String> + Send + Sync>;

pub(super) type LookUp = Arc<dyn Fn(String) -> Looking + Send + Sync>;

type Looking = Pin<Box<dyn Future<Output = Result<Option<String>, BoxError>> + Send>>;

/// Says where requests name a resource.
pub trait Bind {
    /// Requires the resource of this kind that the request names there, as
    /// [`Requirement::resource`] does. It is to be the value that the handler will use, decoded as it will be; a
    /// request in which there is none is refused.
    fn bind(self, kind: &str, source: impl Into<Source>) -> Guard;
}

impl Bind for Requirement {
    fn bind(self, kind: &str, source: impl Into<Source>) -> Guard {
        Guard::from(self).bind(kind, source)
    }
}

impl Bind for Guard {
    fn bind(mut self, kind: &str, source: impl Into<Source>) -> Guard {
        let source = source.into();
        self.first = match source.0 {
            From::Request(_) => self.first.resource(kind),
            // A restricted key passes so far, and no further.
            From::Lookup(..) => self.first.filters(kind),
        };
        self.then = self.then.resource(kind);
        self.sources.push((kind.into(), source));
        self
    }
}

impl std::convert::From<Requirement> for Guard {
    fn from(need: Requirement) -> Self {
        Self {
            first: need.clone(),
            then: need,
            sources: Vec::new(),
        }
    }
}

impl Guard {
    /// Whether it leaves any check to the handler.
    #[cfg(feature = "axum")]
    pub(crate) fn leaves_checks(&self) -> bool {
        self.then.handler_checks().next().is_some()
    }

    pub(super) fn looks_up(&self) -> bool {
        let mut sources = self.sources.iter();
        sources.any(|(_, source)| matches!(source.0, From::Lookup(..)))
    }
}

/// Reads the value off the request.
impl<F> std::convert::From<F> for Source
where
    F: Fn(&Parts) -> Option<String> + Send + Sync + 'static,
{
    fn from(read: F) -> Self {
        Self(From::Request(Arc::new(move |parts| read(parts))))
    }
}

impl Source {
    #[cfg(feature = "axum")]
    pub(crate) fn reading(
        read: impl Fn(&mut Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(From::Request(Arc::new(read)))
    }
}

/// The resource that something which the request names belongs to, such as an edition's project, as the application
/// knows it: for routes that act, where the resource must be known before the handler is called.
///
/// It is looked up once the key is known to be good for the route, and before anything else of the request happens. `None`
/// means that there is no such thing: the answer is 404, for whatever key. If looking fails, the answer is 503.
///
/// ```
/// use keyward::tower::{Bind, lookup};
/// use keyward::verifier::Requirement;
///
/// async fn project_of(edition: String) -> Result<Option<String>, std::io::Error> {
///     Ok((edition == "e-1").then(|| "p-17".to_owned())) // from the database
/// }
///
/// let edition = |request: &http::request::Parts| {
///     request.uri.path().strip_prefix("/editions/").map(str::to_owned)
/// };
/// let guard = Requirement::any_key().bind("project", lookup(edition, project_of));
/// # let _ = guard;
/// ```
pub fn lookup<F, Looking, E>(named: impl Into<Source>, look: F) -> Source
where
    F: Fn(String) -> Looking + Send + Sync + 'static,
    Looking: Future<Output = Result<Option<String>, E>> + Send + 'static,
    E: Into<BoxError>,
{
    let look: LookUp = Arc::new(move |name| {
        let looking = look(name);
        Box::pin(async move { looking.await.map_err(Into::into) })
    });
    let look = match named.into().0 {
        From::Request(read) => From::Lookup(read, look),
        // What is looked up by what is looked up.
        From::Lookup(read, first) => {
            let both: LookUp = Arc::new(move |name| {
                let (first, look) = (first(name), Arc::clone(&look));
                Box::pin(async move {
                    match first.await? {
                        Some(found) => look(found).await,
                        None => Ok(None),
                    }
                })
            });
            From::Lookup(read, both)
        }
    };
    Source(look)
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("need", &self.then)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            From::Request(_) => "Source(request)",
            From::Lookup(..) => "Source(lookup)",
        })
    }
}
