//! Endpoints with which a signed-in user manages keys.
//!
//! `request.rs` decides whether a request may be made and reads it, `failure.rs` says why not, and `answers.rs` writes
//! the answers. An application may use the endpoints as they are, or write its own with the forms and answers.

mod answers;
mod browsers;
mod failure;
mod request;

use serde::Serialize;

use self::answers::json_answer;
use self::browsers::TrustedOrigins;
pub use self::failure::ManagementFailure;
use self::failure::Reason;
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) use self::failure::Refusal;
use self::request::Call;
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) use self::request::read_on;
use super::{Answer, HeaderSource};
use crate::Keyward;
use crate::audit::SealedEvent;
use crate::key::{KeyId, TenantId, ValueError};
use crate::manager::{Actor, KeyManager, KeyQueryForm, ManageError};

/// Endpoints with which a signed-in user manages keys, for any web framework. Cheap to clone.
///
/// In axum and actix applications, `keyward::axum::management_routes` and `keyward::actix::management_scope` mount
/// them. For another framework, build a [`ManagementRequest`] and send the [`Answer`]:
///
/// ```
/// use keyward::http::{Answer, ManagementApi, ManagementRequest, ManagementSession};
/// # use keyward::{Keyward, key::{KeyFormat, TenantId}, manager::{Actor, AllowAll, Ceiling}, store::MemoryStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let keyward = Keyward::builder(MemoryStore::new())
/// #     .format(KeyFormat::new("acme")?.environment("live")?).policy(AllowAll).open().await?;
/// let api = ManagementApi::new(&keyward); // once
///
/// // The user of the host's session, which your login checked.
/// let tenant = TenantId::new("acme-inc")?;
/// let actor = Actor::user("alice", tenant.clone(), Ceiling::Unlimited)?;
/// let session = ManagementSession::new(actor, tenant);
///
/// let headers = [("host", "app.example.com"), ("content-type", "application/json")];
/// let request = ManagementRequest {
///     method: "POST",
///     path: "/", // below the mount point
///     query: None,
///     authority: None,
///     headers: headers.as_slice(),
///     body: br#"{"title": "Power BI", "access": {"type": "full"}}"#,
/// };
/// let answer = api.answer(session, request).await.unwrap_or_else(|failure| {
///     println!("{}: {failure}", failure.code()); // for the operator
///     Answer::from(&failure)
/// });
/// assert_eq!(answer.status, 201);
/// # Ok(())
/// # }
/// ```
///
/// # Endpoints
/// Paths are relative to the mount point. Bodies and answers are JSON, as in the package's `docs/json-schema.json`.
///
/// | method and path | body or query | answer |
/// |---|---|---|
/// | `GET /` | [`KeyQueryForm`] | 200 with a [`KeyListView`](crate::manager::KeyListView) |
/// | `POST /` | [`NewKeyForm`](crate::manager::NewKeyForm) | 201 with the key, the only time: [`Revealed`][r] |
/// | `GET /scopes` | | 200 with `{"scopes": [{"scope", "description"}]}`, the declared scopes |
/// | `GET /events` | `after`, `limit` | 200 with `{"events": […], "next"}`: the tenant's events, oldest first |
/// | `GET /{id}` | | 200 with the key, as the list has it |
/// | `GET /{id}/events` | `after`, `limit` | 200 with [`KeyEvents`](crate::manager::KeyEvents) |
/// | `PATCH /{id}` | [`KeyUpdate`](crate::manager::KeyUpdate) | 200 with the key |
/// | `POST /{id}/rotate` | [`Rotation`](crate::manager::Rotation) | 201 with the successor, as from `POST /` |
/// | `POST /{id}/suspend` | | 200 with the key |
/// | `POST /{id}/resume` | | 200 with the key |
/// | `POST /{id}/revoke` | [`RevokeForm`](crate::manager::RevokeForm), or none: `requested` | 200 with [`Revoked`][e] |
///
/// HEAD is answered as GET; the server leaves out the body. No answer is cached (`Cache-Control: no-store`). A header
/// `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) of the two requests that make a key is their
/// [request id](crate::manager::NewKey::request_id), with or without the quotes of RFC 9651.
///
/// Imports, purges, cutoffs, revocations of many keys, and lists of tenants are the work of operators, and have no
/// endpoint. Neither has an issue for another owner: the owner is the session's principal.
///
/// [r]: crate::manager::Revealed
/// [e]: crate::manager::Revoked
///
/// # Errors
/// Each is a problem document (RFC 9457) with a `code`: those of a [`ManageError`], and these.
///
/// | status | code | when |
/// |---|---|---|
/// | 400 | `malformed_json`, `unreadable_body` | the body is not JSON, or ended early |
/// | 400 | `invalid_query`, `invalid_idempotency_key` | `detail` names the parameter, or the rule |
/// | 403 | `cross_origin` | a web page of another origin made the request |
/// | 404 | `unknown_endpoint` | no endpoint has this path |
/// | 405 | `method_not_allowed` | the endpoint has other methods: `Allow` names them |
/// | 413 | `request_too_large` | the body is longer than [`MAX_BODY_BYTES`](Self::MAX_BODY_BYTES) |
/// | 415 | `unsupported_media_type` | the body is not declared as `application/json` or `application/…+json` |
/// | 422 | `invalid_body` | a member is unknown, given twice, missing or invalid: `detail` names it and its rule |
///
/// A key of another tenant and an unknown id give the same answer: 404 `not_found`, or 403 `refused` if the policy does
/// not allow the operation on keys of any owner. A text that is no id is always 404.
///
/// # Security
/// - The session is the host's: it decides who is signed in, and the [`Policy`](crate::manager::Policy) decides
///   which operations the user may do. Signed-in users may see the declared scopes without the policy being asked.
/// - **Requests across sites (CSRF).** Browsers add a session's cookie to requests that pages of other sites make. A
///   request that may change something is therefore refused if `Sec-Fetch-Site` (Fetch Metadata Request Headers) is
///   neither `same-origin` nor `none`; without that header, if `Origin` (RFC 6454) names another host than the request.
///   Requests with neither header do not come from a browser of the last years. The rule is that of Go's
///   [`net/http.CrossOriginProtection`](https://pkg.go.dev/net/http#CrossOriginProtection) and of Filippo Valsorda's
///   [article](https://words.filippo.io/csrf/). Pages of other origins, if you have any, are listed by
///   [`allow_origin`](Self::allow_origin), and need a CORS layer as well.
/// - Only the answers of the two requests that make a key contain a secret. Answers and errors quote no text of a body
///   but names of scopes and quotas.
/// - The endpoints ask for neither TLS nor a limit of requests: put them behind what your login has. A page of a key's
///   events may take ten reads of the store.
/// - Events name their actors, administrators among them, and the addresses that these came from. A policy that allows
///   users all operations on their own keys also allows them
///   [`ReadEventsOf`](crate::manager::Operation::ReadEventsOf).
#[derive(Debug, Clone)]
pub struct ManagementApi {
    manager: KeyManager,
    trusted: TrustedOrigins,
}

/// The user who is signed in with the host application, and the tenant that the requests are about.
///
/// The host makes it from its own session. In axum and actix applications, make it from your extractor, by
/// `impl From<SignedIn> for ManagementSession`.
#[derive(Debug, Clone)]
pub struct ManagementSession {
    actor: Actor,
    tenant: TenantId,
    is_own_only: bool,
}

/// A request to the endpoints, as a framework has it.
///
/// `Debug` shows the method alone: all else may contain a key.
pub struct ManagementRequest<'a, H: ?Sized> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The path below the mount point, as sent: empty or `/` for the list.
    pub path: &'a str,
    /// The query as sent, without the question mark. `None` if the target has no query.
    pub query: Option<&'a str>,
    /// The host that the target names: `:authority` of HTTP/2. `None`: the header `Host` has it.
    pub authority: Option<&'a str>,
    /// The headers.
    pub headers: &'a H,
    /// The body. Stop reading after one byte more than [`ManagementApi::MAX_BODY_BYTES`], and pass the bytes so far.
    pub body: &'a [u8],
}

impl ManagementApi {
    /// Longest body in bytes.
    pub const MAX_BODY_BYTES: usize = 64 * 1024;

    /// Creates the endpoints of this Keyward's keys.
    #[must_use]
    pub fn new(keyward: &Keyward) -> Self {
        Self {
            manager: keyward.manager().clone(),
            trusted: TrustedOrigins::default(),
        }
    }

    /// Lets web pages of another origin make requests, such as `https://app.example.com`.
    ///
    /// # Errors
    /// [`ValueError::Malformed`] unless it is an origin as browsers send it: scheme, host, and the port if it is not
    /// the scheme's own, in lower case and without a path.
    pub fn allow_origin(mut self, origin: &str) -> Result<Self, ValueError> {
        self.trusted.add(origin)?;
        Ok(self)
    }

    /// Answers a request of this user.
    ///
    /// # Errors
    /// [`ManagementFailure`], which the host may log, and which is the [`Answer`] to send.
    pub async fn answer<H: HeaderSource + ?Sized>(
        &self,
        session: ManagementSession,
        request: ManagementRequest<'_, H>,
    ) -> Result<Answer, ManagementFailure> {
        let key = request.key();
        let answer = match self.read(&request) {
            Ok(call) => self.call(&session, call).await.map_err(Reason::from),
            Err(refusal) => Err(refusal.into()),
        };
        answer.map_err(|reason| session.failure(reason, key))
    }

    async fn call(&self, session: &ManagementSession, call: Call) -> Result<Answer, ManageError> {
        let (manager, actor, tenant) = (&self.manager, &session.actor, &session.tenant);
        match call {
            Call::Scopes => Ok(json_answer(200, &self.scopes())),
            Call::Events { after, limit } => {
                let events = manager.events(actor, tenant, after, limit.into()).await?;
                let is_full = events.len() >= usize::from(limit);
                let last = events.last().map(|event| event.number);
                let next = last.filter(|_| is_full);
                Ok(json_answer(200, &EventPage { events, next }))
            }
            Call::EventsOf(id, after, limit) => {
                let limit = limit.into();
                let events = manager.events_of(actor, tenant, id, after, limit).await?;
                Ok(json_answer(200, &events))
            }
            Call::List(form) => {
                let query = session.query(form).for_tenant(tenant)?;
                let page = manager.list(actor, &query).await?;
                Ok(json_answer(200, &page.view(manager.now()?)))
            }
            Call::Issue(form, request_id) => {
                let mut new = form.for_tenant(tenant.clone());
                if let Some(request_id) = request_id {
                    new = new.request_id(request_id);
                }
                let issued = manager.issue(actor, new).await?;
                Ok(Answer::from(&issued))
            }
            Call::Get(id) => {
                let key = manager.view(actor, tenant, id).await?;
                Ok(json_answer(200, &key))
            }
            Call::Update(id, update) => {
                let record = manager.update(actor, tenant, id, update).await?;
                Ok(json_answer(200, &record.view(manager.now()?)))
            }
            Call::Rotate(id, mut rotation, request_id) => {
                if let Some(request_id) = request_id {
                    rotation = rotation.request_id(request_id);
                }
                let issued = manager.rotate(actor, tenant, id, rotation).await?;
                Ok(Answer::from(&issued))
            }
            Call::Suspend(id) => {
                let record = manager.suspend(actor, tenant, id).await?;
                Ok(json_answer(200, &record.view(manager.now()?)))
            }
            Call::Resume(id) => {
                let record = manager.resume(actor, tenant, id).await?;
                Ok(json_answer(200, &record.view(manager.now()?)))
            }
            Call::Revoke(id, reason) => {
                let revoked = manager.revoke(actor, tenant, id, reason).await?;
                Ok(json_answer(200, &revoked))
            }
            Call::NoSuchKey => Err(ManageError::NotFound),
        }
    }

    fn scopes(&self) -> ScopeList<'_> {
        let scopes = self.manager.scopes().map(|declared| DeclaredScope {
            scope: declared.scope().as_str(),
            description: declared.description(),
        });
        ScopeList {
            scopes: scopes.collect(),
        }
    }
}

impl From<&Keyward> for ManagementApi {
    fn from(keyward: &Keyward) -> Self {
        Self::new(keyward)
    }
}

impl ManagementSession {
    /// Creates the session of an actor that manages keys of this tenant.
    ///
    /// Give the actor the client's [address](Actor::from_address) and the [name of the request](Actor::in_request) for
    /// the event log, if you know them.
    #[must_use]
    pub fn new(actor: Actor, tenant: TenantId) -> Self {
        Self {
            actor,
            tenant,
            is_own_only: false,
        }
    }

    /// Lists the actor's own keys, unless the request names another owner.
    ///
    /// This sets the owner of the query, for a policy that allows each user their own keys only. It is no check: the
    /// policy decides.
    #[must_use]
    pub fn own_keys(mut self) -> Self {
        self.is_own_only = true;
        self
    }

    fn query(&self, mut form: KeyQueryForm) -> KeyQueryForm {
        if self.is_own_only {
            let own = || self.actor.principal().clone();
            form.owner.get_or_insert_with(own);
        }
        form
    }

    /// Creates the failure of a request about this key.
    pub(crate) fn failure(
        self,
        reason: impl Into<Reason>,
        key: Option<KeyId>,
    ) -> ManagementFailure {
        ManagementFailure::new(
            reason.into(),
            self.actor.principal().clone(),
            self.tenant,
            key,
        )
    }
}

/// The events of a page, and where the next page begins.
#[derive(Serialize)]
struct EventPage {
    events: Vec<SealedEvent>,
    next: Option<u64>,
}

#[derive(Serialize)]
struct ScopeList<'a> {
    scopes: Vec<DeclaredScope<'a>>,
}

#[derive(Serialize)]
struct DeclaredScope<'a> {
    scope: &'a str,
    description: &'a str,
}

impl<H: ?Sized> std::fmt::Debug for ManagementRequest<'_, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagementRequest")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
