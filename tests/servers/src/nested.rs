//! Guards inside of guards, without a socket: as tower layers, on axum and actix, and by the steps that middleware of
//! other frameworks takes.

use std::convert::Infallible;
use std::future::pending;
use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body as AxumBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Bytes};
use hyper::{HeaderMap, Request, Response, StatusCode};
use keyward::actix::KeyMiddleware;
use keyward::http::{Connection, Edge, Guard, Head, KeyIn, ResponseBody};
use keyward::key::{Quota, TenantId};
use keyward::manager::NewKey;
use keyward::testkit::{TestKey, assert_requests_guarded, keyward_with_key};
use keyward::tower::KeyLayer;
use keyward::verifier::{Grant, Requirement};
use keyward::{Keyward, key::Scope, scope};
use tokio::sync::Notify;
use tower::ServiceExt as _;
use tower_layer::Layer as _;

use crate::READ;

/// No key of these tests has it.
const ADMIN: Scope = scope!("admin");

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone, Copy)]
enum By {
    Tower,
    Axum,
    Actix,
    /// `Edge::admit_guarded` and the steps after it.
    Steps,
}

const EVERY: [By; 4] = [By::Tower, By::Axum, By::Actix, By::Steps];

/// A guard, whatever its framework.
#[derive(Debug, Clone, Copy)]
enum Rule {
    Read,
    Admin,
    /// With a quota of its own.
    Quota(&'static str, u32),
    OrGuest,
    /// Leaves the decision to an inner guard.
    Within,
    WithinOrGuest,
    /// The handler promised a check.
    Promising,
}

impl Rule {
    fn guard<R>(self) -> Guard<R> {
        let read = || Requirement::scope(READ);
        let within = || Requirement::any_key().checked_by_inner_guard();
        match self {
            Self::Read => read().into(),
            Self::Admin => Requirement::scope(ADMIN).into(),
            Self::Quota(name, limit) => {
                let limit = NonZeroU32::new(limit).unwrap();
                read().quota(Quota::new(name, limit, HOUR).unwrap()).into()
            }
            Self::OrGuest => read().or_guest(),
            Self::Within => within().into(),
            Self::WithinOrGuest => within().or_guest(),
            Self::Promising => read().checked_by_handler("project").into(),
        }
    }
}

/// An outer guard, an inner guard if there is one, and a handler.
struct Site {
    by: By,
    outer: (Edge, Rule),
    inner: Option<(Edge, Rule)>,
    handler: Handler,
    keyward: Keyward,
    key: TestKey,
}

#[derive(Debug, Clone, Copy)]
enum Handler {
    /// Names the grant that it finds.
    Ok,
    /// Answers 401 by itself.
    Unauthorized,
    /// Never answers.
    Waits,
}

/// A handler waits.
static BEGUN: Notify = Notify::const_new();

impl Handler {
    async fn handle(self, grant: Option<&Grant>) -> (u16, String) {
        let caller = grant.map_or_else(|| "guest".to_owned(), |grant| grant.title().to_string());
        match self {
            Self::Ok => (200, caller),
            Self::Unauthorized => (401, String::new()),
            Self::Waits => {
                BEGUN.notify_one();
                pending().await
            }
        }
    }

    async fn respond<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, body) = self.handle(request.extensions().get()).await;
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(response)
    }
}

/// A response, with a body that may not have been read.
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(other, _)| other == name);
        lines.map(|(_, value)| &**value).collect()
    }

    /// The rest of each limit, as in `hour 4`.
    fn left(&self) -> Vec<String> {
        let items = self.values("ratelimit").into_iter();
        let items = items.flat_map(|line| line.split(", "));
        let left = items.map(|item| {
            let (name, rest) = item.split_once(";r=").unwrap();
            let left = rest.split(';').next().unwrap();
            format!("{} {left}", name.trim_matches('"'))
        });
        left.collect()
    }
}

/// One guard, as middleware of a framework has it that Keyward does not know.
async fn guarded<B: Body>(
    (edge, rule): &(Edge, Rule),
    mut request: Request<()>,
    inner: impl AsyncFnOnce(Request<()>) -> Response<B>,
) -> Response<ResponseBody<B>> {
    fn head(request: &Request<()>) -> Head<'_, HeaderMap> {
        Head {
            headers: request.headers(),
            connection: Connection::default(),
            query: request.uri().query(),
        }
    }
    let outer = request.extensions().get::<Grant>().cloned();
    let guard = rule.guard();
    match edge
        .admit_guarded(&guard, &mut request, outer.as_ref(), head)
        .await
    {
        Ok(admission) => {
            let serving = admission.enter(
                &mut request,
                Request::headers_mut,
                Request::uri_mut,
                Request::extensions_mut,
            );
            serving.finish(inner(request).await)
        }
        Err(refused) => Response::from(*refused),
    }
}

/// Boxes a body.
fn boxed<B>(response: Response<B>) -> Response<AxumBody>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    response.map(AxumBody::new)
}

impl Site {
    async fn new(by: By, outer: Rule, inner: impl Into<Option<Rule>>, handler: Handler) -> Self {
        let scopes = [READ.described("Read"), ADMIN.described("Everything")];
        let (keyward, _) = keyward_with_key(scopes, READ).await;
        let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "limited", READ);
        let hour = Quota::new("hour", NonZeroU32::new(9).unwrap(), HOUR).unwrap();
        let new = new.quota(hour).expires_in(2 * HOUR);
        let key = TestKey::issue_as(&keyward, new).await;
        let edge = Edge::new(&keyward).accept(KeyIn::bearer());
        Self {
            by,
            outer: (edge.clone(), outer),
            inner: inner.into().map(|rule| (edge, rule)),
            handler,
            keyward,
            key,
        }
    }

    fn outer(mut self, change: impl FnOnce(Edge) -> Edge) -> Self {
        self.outer.0 = change(self.outer.0);
        self
    }

    fn inner(mut self, change: impl FnOnce(Edge) -> Edge) -> Self {
        self.inner = self.inner.map(|(edge, rule)| (change(edge), rule));
        self
    }

    /// Responds, by the framework's own types where it has them.
    async fn respond(&self, request: Request<()>) -> Response<AxumBody> {
        let handler = self.handler;
        match self.by {
            By::Tower => {
                let request = request.map(|()| Full::<Bytes>::default());
                let layer =
                    |(edge, rule): &(Edge, Rule)| KeyLayer::new(edge.clone()).require(rule.guard());
                let outer = layer(&self.outer);
                match &self.inner {
                    Some(inner) => {
                        let service = tower::service_fn(move |request| handler.respond(request));
                        let service = outer.layer(layer(inner).layer(service));
                        boxed(service.oneshot(request).await.unwrap())
                    }
                    None => {
                        let service = tower::service_fn(move |request| handler.respond(request));
                        boxed(outer.layer(service).oneshot(request).await.unwrap())
                    }
                }
            }
            By::Axum => {
                let plain =
                    async move |request| handler.respond(request).await.unwrap().map(AxumBody::new);
                let methods = match &self.inner {
                    Some((edge, rule)) => KeyLayer::new(edge.clone()).get(rule.guard(), plain),
                    None => axum::routing::get(plain),
                };
                let outer = KeyLayer::new(self.outer.0.clone()).require(self.outer.1.guard());
                let app = axum::Router::new().route("/", methods.layer(outer));
                app.oneshot(request.map(|()| AxumBody::empty()))
                    .await
                    .unwrap()
            }
            By::Actix => boxed(self.respond_by_actix(request).await),
            By::Steps => {
                let plain = async |request| handler.respond(request).await.unwrap();
                match &self.inner {
                    Some(inner) => {
                        let nested = async |request| guarded(inner, request, plain).await;
                        boxed(guarded(&self.outer, request, nested).await)
                    }
                    None => boxed(guarded(&self.outer, request, plain).await),
                }
            }
        }
    }

    async fn respond_by_actix(&self, request: Request<()>) -> Response<Full<Bytes>> {
        use actix_web::{App, HttpMessage as _, HttpRequest, HttpResponse, test, web};

        let handler = self.handler;
        let plain = move |request: HttpRequest| async move {
            let grant = request.extensions().get::<Grant>().cloned();
            let (status, body) = handler.handle(grant.as_ref()).await;
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            HttpResponse::build(status).body(body)
        };
        let outer = KeyMiddleware::new(self.outer.0.clone()).require(self.outer.1.guard());
        let scope = web::scope("").wrap(outer);
        let scope = match &self.inner {
            Some((edge, rule)) => {
                let keys = KeyMiddleware::new(edge.clone());
                scope.service(keys.resource("/").get(rule.guard(), plain))
            }
            None => scope.service(web::resource("/").get(plain)),
        };
        let app = test::init_service(App::new().service(scope)).await;
        let mut asked = test::TestRequest::get().uri("/");
        for (name, value) in request.headers() {
            asked = asked.insert_header((name.as_str(), value.to_str().unwrap()));
        }
        let response = test::call_service(&app, asked.to_request()).await;
        let mut copy = Response::builder().status(response.status().as_u16());
        for (name, value) in response.headers() {
            copy = copy.header(name.as_str(), value.as_bytes());
        }
        copy.body(Full::from(test::read_body(response).await))
            .unwrap()
    }

    fn request(&self, with_key: bool) -> Request<()> {
        let request = Request::builder().uri("/");
        let request = match with_key {
            true => request.header("authorization", self.key.bearer()),
            false => request,
        };
        request.body(()).unwrap()
    }

    async fn ask(&self, with_key: bool) -> Reply {
        let (head, body) = self.respond(self.request(with_key)).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let headers = head.headers.iter().map(|(name, value)| {
            let value = value.to_str().unwrap();
            (name.as_str().to_owned(), value.to_owned())
        });
        Reply {
            status: head.status.as_u16(),
            headers: headers.collect(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }
}

#[actix_web::test]
async fn an_inner_refusal_uses_nothing() {
    for by in EVERY {
        let site = Site::new(by, Rule::Quota("outer", 5), Rule::Admin, Handler::Ok).await;
        for _ in 0..2 {
            let refused = site.ask(true).await;
            assert_eq!(refused.status, 403, "{by:?}");
            assert_eq!(refused.left(), ["hour 9", "outer 5"], "{by:?}");
            assert_eq!(refused.values("vary"), ["authorization"], "{by:?}");
            assert_eq!(refused.values("cache-control"), ["no-store"], "{by:?}");
        }
    }
}

#[actix_web::test]
async fn both_guards_limits_are_shown_once() {
    for by in EVERY {
        let inner = Rule::Quota("inner", 1);
        let site = Site::new(by, Rule::Quota("outer", 5), inner, Handler::Ok).await;
        let served = site.ask(true).await;
        assert_eq!((served.status, &*served.body), (200, "limited"), "{by:?}");
        // The inner guard refuses the second, which uses nothing of the outer's.
        let refused = site.ask(true).await;
        assert_eq!(refused.status, 429, "{by:?}");
        for reply in [served, refused] {
            let mut left = reply.left();
            left.sort();
            assert_eq!(left, ["hour 8", "inner 0", "outer 4"], "{by:?}");
            assert_eq!(reply.values("x-ratelimit-limit"), ["1"], "{by:?}");
            assert_eq!(reply.values("vary"), ["authorization"], "{by:?}");
            assert_eq!(reply.values("cache-control").len(), 1, "{by:?}");
        }
    }
}

#[actix_web::test]
async fn a_guest_passes_both_guards() {
    for by in EVERY {
        for outer in [Rule::OrGuest, Rule::WithinOrGuest] {
            let site = Site::new(by, outer, Rule::OrGuest, Handler::Ok).await;
            let guest = site.ask(false).await;
            assert_eq!((guest.status, &*guest.body), (200, "guest"), "{by:?}");
            assert_eq!(guest.values("vary"), ["authorization"], "{by:?}");
            assert_eq!(guest.values("cache-control"), [""; 0], "{by:?}");
            let holder = site.ask(true).await;
            assert_eq!((holder.status, &*holder.body), (200, "limited"), "{by:?}");
            assert_eq!(holder.values("vary"), ["authorization"], "{by:?}");
            assert_eq!(holder.values("cache-control"), ["private"], "{by:?}");
        }
        let closed = Site::new(by, Rule::WithinOrGuest, Rule::Read, Handler::Ok).await;
        assert_eq!(closed.ask(false).await.status, 401, "{by:?}");
        assert_eq!(closed.ask(true).await.status, 200, "{by:?}");
    }
}

#[actix_web::test]
async fn a_missing_inner_guard_serves_no_one() {
    for by in EVERY {
        for (rule, for_guest) in [(Rule::WithinOrGuest, 500), (Rule::Within, 401)] {
            let site = Site::new(by, rule, None, Handler::Ok).await;
            assert_eq!(site.ask(false).await.status, for_guest, "{by:?}");
            let holder = site.ask(true).await;
            assert_eq!(holder.status, 500, "{by:?}");
            assert!(!holder.body.contains("limited"), "{by:?}");
        }
    }
}

#[actix_web::test]
async fn another_keywards_guard_is_no_inner_guard() {
    let (other, _) = keyward_with_key([READ.described("Read")], READ).await;
    let other = Edge::new(&other).accept(KeyIn::bearer());
    for by in EVERY {
        for other in [other.clone(), other.clone().report_only()] {
            let site = Site::new(by, Rule::WithinOrGuest, Rule::OrGuest, Handler::Ok).await;
            let guest = site.inner(|_| other).ask(false).await;
            assert_eq!(guest.status, 500, "{by:?}");
            assert!(!guest.body.contains("guest"), "{by:?}");
        }
    }
}

#[actix_web::test]
async fn an_inner_guard_that_reports_has_decided() {
    for by in EVERY {
        let site = Site::new(by, Rule::Within, Rule::Admin, Handler::Ok).await;
        let site = site.inner(Edge::report_only);
        let reported = site.ask(true).await;
        assert_eq!(
            (reported.status, &*reported.body),
            (200, "limited"),
            "{by:?}"
        );
        assert_eq!(reported.left(), ["hour 8"], "{by:?}");
        let site = Site::new(by, Rule::Admin, None, Handler::Ok).await;
        let site = site.outer(Edge::report_only);
        for with_key in [true, false] {
            let reported = site.ask(with_key).await;
            assert_eq!((reported.status, &*reported.body), (200, "guest"), "{by:?}");
            assert_eq!(reported.values("vary"), [""; 0], "{by:?}");
        }
    }
}

#[actix_web::test]
async fn a_handlers_own_401_shows_nothing() {
    const SHOWN: [&str; 3] = ["api-key-expires", "ratelimit", "x-ratelimit-limit"];
    for by in EVERY {
        for inner in [None, Some(Rule::Quota("inner", 5))] {
            for (handler, status, count) in [(Handler::Ok, 200, 1), (Handler::Unauthorized, 401, 0)]
            {
                let site = Site::new(by, Rule::Read, inner, handler).await;
                let site = site.outer(Edge::expiry_headers).inner(Edge::expiry_headers);
                let reply = site.ask(true).await;
                assert_eq!(reply.status, status, "{by:?}");
                for name in SHOWN {
                    assert_eq!(reply.values(name).len(), count, "{by:?} {inner:?} {name}");
                }
                assert_eq!(reply.values("cache-control"), ["private"], "{by:?}");
            }
        }
    }
}

#[actix_web::test]
async fn a_mistake_of_the_handler_is_a_500() {
    for by in EVERY {
        let short = |edge: Edge| edge.max_response_bytes(6); // "limited" is longer, "guest" is not
        let promising = Site::new(by, Rule::Read, Rule::Promising, Handler::Ok).await;
        let inside = Site::new(by, Rule::Read, Rule::Read, Handler::Ok).await;
        let outside = Site::new(by, Rule::Read, Rule::Read, Handler::Ok).await;
        for site in [promising, inside.inner(short), outside.outer(short)] {
            let reply = site.ask(true).await;
            assert_eq!(reply.status, 500, "{by:?}");
            assert!(!reply.body.contains("limited"), "{by:?}");
            assert_eq!(reply.left(), ["hour 8"], "{by:?}");
            assert_eq!(reply.values("cache-control"), ["no-store"], "{by:?}");
        }
        let guests = Site::new(by, Rule::OrGuest, None, Handler::Ok).await;
        assert_eq!(guests.outer(short).ask(false).await.status, 200, "{by:?}");
    }
}

#[actix_web::test]
async fn a_long_request_uses_nothing() {
    let short = |edge: Edge| edge.max_request_bytes(10);
    for by in EVERY {
        let outer = || Rule::Quota("outer", 5);
        let inside = Site::new(by, outer(), Rule::Read, Handler::Ok).await;
        let outside = Site::new(by, outer(), Rule::Read, Handler::Ok).await;
        for site in [inside.inner(short), outside.outer(short)] {
            for (length, status, left) in [(11, 413, 9), (10, 200, 8), (11, 413, 8)] {
                let mut request = site.request(true);
                request
                    .headers_mut()
                    .insert("content-length", length.into());
                let response = site.respond(request).await;
                assert_eq!(response.status(), status, "{by:?}");
                let shown = response.headers()["ratelimit"].to_str().unwrap();
                assert!(shown.contains(&format!("\"hour\";r={left};")), "{shown}");
            }
        }
    }
}

async fn with_one_place(by: By, handler: Handler) -> Site {
    let mut site = Site::new(by, Rule::Read, Rule::Read, handler).await;
    let new = NewKey::new(TenantId::new("acme-inc").unwrap(), "limited", READ);
    site.key = TestKey::issue_as(&site.keyward, new.concurrency(NonZeroU32::MIN)).await;
    site
}

#[actix_web::test]
async fn a_dropped_request_gives_its_place_back() {
    for by in EVERY {
        let mut site = with_one_place(by, Handler::Ok).await;
        assert_eq!(site.ask(true).await.status, 200, "{by:?}");
        site.handler = Handler::Waits;
        {
            let mut waiting = pin!(site.respond(site.request(true)));
            tokio::select! {
                biased;
                _ = &mut waiting => panic!("{by:?}: it never answers"),
                () = BEGUN.notified() => {}
            }
            let second = site.respond(site.request(true));
            assert_eq!(second.await.status(), 429, "{by:?}");
        }
        site.handler = Handler::Ok;
        assert_eq!(site.ask(true).await.status, 200, "{by:?}");
    }
}

#[actix_web::test]
async fn a_body_holds_its_place() {
    for by in [By::Tower, By::Axum, By::Steps] {
        let site = with_one_place(by, Handler::Ok).await;
        let unread = site.respond(site.request(true)).await;
        assert_eq!(unread.status(), 200, "{by:?}");
        assert_eq!(site.ask(true).await.status, 429, "{by:?}");
        drop(unread);
        assert_eq!(site.ask(true).await.status, 200, "{by:?}");
    }
}

#[actix_web::test]
async fn an_outsiders_routes_are_tried() {
    let site = Site::new(By::Steps, Rule::WithinOrGuest, Rule::OrGuest, Handler::Ok).await;
    let send = |request: Request<()>| site.respond(request);
    assert_requests_guarded(send, [], EVERY_METHOD).await;
    let site = Site::new(By::Steps, Rule::Read, None, Handler::Ok).await;
    assert_requests_guarded(|request| site.respond(request), ["/"], []).await;
    // A route that lacks methods.
    let lacking = async |request: Request<()>| match *request.method() {
        hyper::Method::GET => site.respond(request).await,
        _ => Response::builder()
            .status(405)
            .body(AxumBody::empty())
            .unwrap(),
    };
    assert_requests_guarded(lacking, ["/"], []).await;
}

const EVERY_METHOD: [&str; 10] = [
    "GET /",
    "HEAD /",
    "POST /",
    "PUT /",
    "PATCH /",
    "DELETE /",
    "OPTIONS /",
    "TRACE /",
    "CONNECT /",
    "KEYWARD /",
];

#[actix_web::test]
#[should_panic(expected = "GET /: 200, not let through by a guard")]
async fn a_route_that_lost_its_guard_is_found() {
    let open = async |_: Request<()>| Response::new(AxumBody::empty());
    assert_requests_guarded(open, [], ["GET /"]).await;
}

#[actix_web::test]
#[should_panic(expected = "POST /: 200, not 401")]
async fn an_open_method_is_found() {
    let site = Site::new(By::Steps, Rule::Read, None, Handler::Ok).await;
    let open = async |request: Request<()>| match *request.method() {
        hyper::Method::POST => Response::new(AxumBody::empty()),
        _ => site.respond(request).await,
    };
    assert_requests_guarded(open, ["/"], []).await;
}
