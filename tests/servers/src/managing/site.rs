//! The endpoints that manage keys, mounted three times: without a framework, in axum, and in actix.

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::{Payload, Service as _};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, FromRequest, HttpRequest, HttpResponse, ResponseError};
use axum::Router;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use keyward::actix::management_scope;
use keyward::axum::management_routes;
use keyward::http::{
    Answer, ManagementApi, ManagementFailure, ManagementRequest, ManagementSession,
};
use keyward::key::{KeyId, TenantId};
use keyward::manager::{Actor, Ceiling, Limits, NewKey, Operation, Policy, PolicyError, Ruling};
use keyward::store::MemoryStore;
use keyward::testkit::builder;
use keyward::{Keyward, async_trait};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::READ;

/// The ways to mount the endpoints, each below `/keys`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mount {
    Alone,
    Axum,
    Actix,
}

pub(super) const MOUNTS: [Mount; 3] = [Mount::Alone, Mount::Axum, Mount::Actix];

/// A request: the user who is signed in, if one is, then what is sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Sent {
    user: Option<&'static str>,
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// A response, and what the host can log of it.
#[derive(Debug)]
pub(super) struct Got {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) text: String,
    pub(super) failure: Option<Failure>,
}

/// A failure, as the host finds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: &'static str,
    pub(super) is_managers: bool,
    pub(super) of: String,
    pub(super) shown: String,
}

pub(super) struct Site {
    pub(super) keyward: Keyward,
    pub(super) api: ManagementApi,
    pub(super) mount: Mount,
}

/// Under which `admin` may do everything, and the others everything with their own keys.
#[derive(Debug)]
struct Own;

#[async_trait]
impl Policy for Own {
    async fn rule(&self, actor: &Actor, operation: &Operation<'_>) -> Result<Ruling, PolicyError> {
        let who = actor.principal();
        let is_allowed = who.name() == "admin" || operation.owner() == Some(who);
        Ok(if is_allowed {
            Ruling::Allow
        } else {
            Ruling::Refuse
        })
    }
}

/// The user that the header `x-user` names, such as `alice@acme-inc`.
struct SignedIn(ManagementSession);

impl SignedIn {
    fn read(user: Option<&str>) -> Option<Self> {
        let (name, tenant) = user?.split_once('@')?;
        let tenant = TenantId::new(tenant).unwrap();
        let most = match name {
            "admin" => Ceiling::Unlimited,
            _ => Ceiling::Limited(Limits::new(READ)),
        };
        let actor = Actor::user(name, tenant.clone(), most).unwrap();
        let session = ManagementSession::new(actor, tenant);
        Some(Self(match name {
            "admin" => session,
            _ => session.own_keys(),
        }))
    }
}

impl From<SignedIn> for ManagementSession {
    fn from(user: SignedIn) -> Self {
        user.0
    }
}

impl<S: Sync> FromRequestParts<S> for SignedIn {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let user = parts.headers.get("x-user");
        let user = user.and_then(|user| user.to_str().ok());
        Self::read(user).ok_or((StatusCode::UNAUTHORIZED, LOG_IN))
    }
}

#[derive(Debug, Clone, Copy)]
struct NotSignedIn;

impl std::fmt::Display for NotSignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(LOG_IN)
    }
}

impl ResponseError for NotSignedIn {
    fn error_response(&self) -> HttpResponse {
        HttpResponse::Unauthorized().body(LOG_IN)
    }
}

impl FromRequest for SignedIn {
    type Error = NotSignedIn;
    type Future = Ready<Result<Self, NotSignedIn>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let user = request.headers().get("x-user");
        let user = user.and_then(|user| user.to_str().ok());
        ready(Self::read(user).ok_or(NotSignedIn))
    }
}

/// What the host itself answers without a session.
pub(super) const LOG_IN: &str = "log in first";

impl Site {
    pub(super) async fn open(mount: Mount) -> Self {
        let scopes = [READ.described("Read editions")];
        let builder = builder(MemoryStore::new(), []).scopes(scopes);
        let keyward = builder.policy(Own).open().await.unwrap();
        let api = ManagementApi::new(&keyward);
        Self {
            keyward,
            api,
            mount,
        }
    }

    /// Calls the test with each mount.
    pub(super) async fn each(test: impl AsyncFn(Self)) {
        for mount in MOUNTS {
            test(Self::open(mount).await).await;
        }
    }

    pub(super) async fn send(&self, sent: Sent) -> Got {
        match self.mount {
            Mount::Alone => self.alone(sent).await,
            Mount::Axum => self.axum(sent).await,
            Mount::Actix => self.actix(sent).await,
        }
    }

    /// Sends a request as `alice@acme-inc`.
    pub(super) async fn alice(&self, method: &'static str, target: &str, body: &str) -> Got {
        self.send(Sent::new("alice@acme-inc", method, target).json(body))
            .await
    }

    /// Sends a request as `admin@acme-inc`.
    pub(super) async fn admin(&self, method: &'static str, target: &str, body: &str) -> Got {
        self.send(Sent::new("admin@acme-inc", method, target).json(body))
            .await
    }

    /// Issues a key to Alice, and returns the answer.
    pub(super) async fn issue(&self) -> Value {
        let issued = self.alice("POST", "/keys", NEW).await;
        assert_eq!(issued.status, 201, "{issued:?}");
        issued.json()
    }

    /// Issues a key of another tenant.
    pub(super) async fn foreign(&self) -> KeyId {
        let tenant = TenantId::new("globex").unwrap();
        let admin = Actor::user("admin", tenant.clone(), Ceiling::Unlimited).unwrap();
        let new = NewKey::new(tenant, "foreign", READ);
        let issued = self.keyward.manager().issue(&admin, new).await;
        issued.unwrap().record().id()
    }

    async fn alone(&self, sent: Sent) -> Got {
        let Some(user) = SignedIn::read(sent.user) else {
            return Got {
                status: 401,
                headers: Vec::new(),
                text: LOG_IN.to_owned(),
                failure: None,
            };
        };
        let (path, query) = match sent.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*sent.target, None),
        };
        let request = ManagementRequest {
            method: sent.method,
            path: path.strip_prefix("/keys").unwrap(),
            query,
            authority: None,
            headers: sent.headers.as_slice(),
            body: sent.body.as_bytes(),
        };
        let (answer, failure) = match self.api.answer(user.into(), request).await {
            Ok(answer) => (answer, None),
            Err(failure) => (Answer::from(&failure), Some(Failure::of(&failure))),
        };
        let headers = answer.headers.iter();
        Got {
            status: answer.status,
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            text: String::from_utf8(answer.body).unwrap(),
            failure,
        }
    }

    async fn axum(&self, sent: Sent) -> Got {
        let routes = management_routes::<SignedIn, _>(self.api.clone());
        let app: Router = Router::new()
            .nest("/keys", routes)
            .fallback(async || (StatusCode::IM_A_TEAPOT, "the host's"));
        let mut request = Request::builder().method(sent.method).uri(&sent.target);
        for (name, value) in sent.lines() {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(sent.body)).unwrap();
        let response = app.oneshot(request).await.unwrap();
        let failure = response.extensions().get::<Arc<ManagementFailure>>();
        let failure = failure.map(|failure| Failure::of(failure));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        Got::new(status, headers, &body, failure)
    }

    async fn actix(&self, sent: Sent) -> Got {
        let scope = management_scope::<SignedIn>("/keys", self.api.clone());
        let teapot = actix_web::web::to(async || HttpResponse::ImATeapot().body("the host's"));
        let app = App::new().service(scope).default_service(teapot);
        let app = actix_web::test::init_service(app).await;
        let mut request = actix_web::test::TestRequest::default()
            .method(sent.method.parse().unwrap())
            .uri(&sent.target);
        for (name, value) in sent.lines() {
            let name = HeaderName::try_from(name).unwrap();
            request = request.append_header((name, HeaderValue::try_from(value).unwrap()));
        }
        let request = request.set_payload(sent.body).to_request();
        let response = app.call(request).await.unwrap();
        let error = response.response().error();
        let failure = error.and_then(|error| error.as_error::<ManagementFailure>());
        let failure = failure.map(Failure::of);
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = actix_web::test::read_body(response).await;
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        Got::new(status, headers, &body, failure)
    }
}

/// A new key.
pub(super) const NEW: &str =
    r#"{"title": "Power BI", "access": {"type": "scopes", "scopes": ["read:editions"]}}"#;

impl Sent {
    pub(super) fn new(user: &'static str, method: &'static str, target: &str) -> Self {
        Self {
            user: Some(user),
            method,
            target: target.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn by_guest(mut self) -> Self {
        self.user = None;
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Adds a body of JSON, if it is not empty.
    pub(super) fn json(self, body: &str) -> Self {
        if body.is_empty() {
            return self;
        }
        self.with("content-type", "application/json").body(body)
    }

    pub(super) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    /// The same about another key.
    pub(super) fn with_id(mut self, id: &str, other: KeyId) -> Self {
        self.target = self.target.replace(id, &other.to_string());
        self
    }

    fn lines(&self) -> impl Iterator<Item = (&'static str, String)> {
        let user = self.user.map(|user| ("x-user", user.to_owned()));
        user.into_iter().chain(self.headers.clone())
    }
}

impl Got {
    fn new<'h>(
        status: u16,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
        body: &[u8],
        failure: Option<Failure>,
    ) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self {
            status,
            headers: headers
                .map(|(name, value)| (name.to_owned(), text(value)))
                .collect(),
            text: text(body),
            failure,
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(other, _)| other == name)
            .map(|(_, value)| &**value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the status and the code of a problem document.
    #[track_caller]
    pub(super) fn problem(&self) -> (u16, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let body = self.json();
        assert_eq!(body["status"], self.status);
        (self.status, body["code"].as_str().unwrap().to_owned())
    }
}

impl Failure {
    fn of(failure: &ManagementFailure) -> Self {
        let key = failure
            .key()
            .map_or_else(String::new, |key| key.to_string());
        Self {
            code: failure.code(),
            is_managers: failure.error().is_some(),
            of: format!("{} {} {key}", failure.principal(), failure.tenant()),
            shown: format!("{failure} {failure:?}"),
        }
    }
}
