//! One application, written for both frameworks and served on a port of its own.

mod on_actix;
mod on_axum;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use hyper::body::Bytes;
use keyward::http::{Belongs, Caller, Edge, KeyIn};
use keyward::key::{KeyId, Quota, Resource, TenantId};
use keyward::manager::NewKey;
use keyward::scope;
use keyward::testkit::{TestKey, keyward_with_key};
use keyward::verifier::{Grant, Requirement};
use keyward::{Keyward, key::Scope};
use tokio::sync::Notify;

use super::Served;
use crate::READ;
use crate::client::{Ask, Streaming};
use crate::wire::Reply;

/// No key of these tests has it.
const ADMIN: Scope = scope!("admin");

/// How long a client may stop reading, where that is bounded.
pub(super) const STALL: Duration = Duration::from_millis(50);

/// The web page that the application is called from, where it is called from one.
pub(super) const PAGE: &str = "https://app.example";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framework {
    Axum,
    Actix,
}

/// Counts of the application's look-ups and actions.
#[derive(Debug, Clone, Default)]
struct Deeds {
    lookups: Arc<AtomicUsize>,
    acts: Arc<AtomicUsize>,
    waits: Arc<Waits>,
}

/// A look-up of `e-waits` has begun, and may go on.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) begun: Notify,
    pub(super) released: Notify,
}

impl Deeds {
    fn act(&self) {
        self.acts.fetch_add(1, Ordering::SeqCst);
    }
}

/// An application that is being served.
pub(super) struct Site {
    pub(super) keyward: Keyward,
    /// A key that may read, of any resource.
    pub(super) key: TestKey,
    served: Served,
    address: String,
    deeds: Deeds,
    told: Arc<Mutex<Vec<Told>>>,
    _server: Server,
}

/// A refusal, as the observer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) reason: String,
    pub(super) client: Option<IpAddr>,
    /// Whose request or response it was, if it had been granted.
    pub(super) holder: Option<KeyId>,
}

/// Stopped when it is dropped.
enum Server {
    Axum(tokio::task::JoinHandle<()>),
    Actix(actix_web::dev::ServerHandle),
}

/// The differences between sites.
pub(super) struct Plan {
    pub(super) edge: fn(Edge) -> Edge,
    /// Where it listens.
    pub(super) listen: &'static str,
    /// Whether pages of [`PAGE`] may call it.
    pub(super) cors: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            edge: |edge| edge,
            listen: "127.0.0.1:0",
            cors: false,
        }
    }
}

impl Site {
    pub(super) async fn open(served: Served) -> Self {
        Self::planned(served, Plan::default()).await
    }

    pub(super) async fn planned(served: Served, plan: Plan) -> Self {
        let (keyward, key) = keyward_with_key([READ.described("For tests")], READ).await;
        Self::over(served, keyward, key, plan).await
    }

    pub(super) async fn over(served: Served, keyward: Keyward, key: TestKey, plan: Plan) -> Self {
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let into = Arc::clone(&told);
        let edge = (plan.edge)(every_form(Edge::new(&keyward))).observe(move |event| {
            into.lock().unwrap().push(Told {
                reason: event.reason.to_string(),
                client: event.client,
                holder: event.grant.map(Grant::key_id),
            });
        });
        let deeds = Deeds::default();
        let (address, server) = match served.framework {
            Framework::Axum => on_axum::serve(edge, &deeds, &plan).await,
            Framework::Actix => on_actix::serve(edge, &deeds, &plan),
        };
        Self {
            keyward,
            key,
            served,
            address: format!("127.0.0.1:{}", address.port()),
            deeds,
            told,
            _server: server,
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Returns the response. `None` if the protocol cannot express the request.
    pub(super) async fn try_ask(&self, ask: &Ask) -> Option<Reply> {
        ask.send(self.served.protocol, &self.address).await
    }

    pub(super) async fn ask(&self, ask: Ask) -> Reply {
        self.try_ask(&ask).await.expect("it cannot be said")
    }

    /// Asks with this key.
    pub(super) async fn get(&self, line: &str, key: &TestKey) -> Reply {
        self.ask(Ask::of(line).with(key)).await
    }

    pub(super) async fn status(&self, line: &str, key: &TestKey) -> u16 {
        self.get(line, key).await.status
    }

    pub(super) async fn stream(&self, line: &str, key: &TestKey) -> Streaming {
        let ask = Ask::of(line).with(key);
        ask.stream(self.served.protocol, &self.address).await
    }

    pub(super) async fn issue(&self, with: impl FnOnce(NewKey) -> NewKey) -> TestKey {
        TestKey::issue_as(&self.keyward, with(new_key())).await
    }

    /// A key for project p-1 alone.
    pub(super) async fn restricted(&self) -> TestKey {
        let project: Resource = "project:p-1".parse().unwrap();
        self.issue(|new| new.resources(project)).await
    }

    /// How often a handler acted so far.
    pub(super) fn acts(&self) -> usize {
        self.deeds.acts.load(Ordering::SeqCst)
    }

    /// How often something was looked up so far.
    pub(super) fn lookups(&self) -> usize {
        self.deeds.lookups.load(Ordering::SeqCst)
    }

    pub(super) fn waits(&self) -> &Waits {
        &self.deeds.waits
    }

    /// Returns the refusals that the observer saw since the last call.
    pub(super) fn told_in_full(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }

    /// Returns the reasons of these refusals.
    pub(super) fn told(&self) -> Vec<String> {
        let told = self.told_in_full().into_iter();
        told.map(|told| told.reason).collect()
    }
}

/// A key that may read.
pub(super) fn new_key() -> NewKey {
    NewKey::new(TenantId::new("acme-inc").unwrap(), "another", READ)
}

pub(super) fn every_form(edge: Edge) -> Edge {
    edge.accept(KeyIn::bearer())
        .accept(KeyIn::basic())
        .accept(KeyIn::header("X-API-Key").unwrap())
        .accept(KeyIn::pair("X-Key-Id", "X-Key-Secret").unwrap())
        .accept(KeyIn::query_parameter("api_key").unwrap())
        .accept(KeyIn::scheme("Token").unwrap())
        .accept(KeyIn::web_socket_protocol("acme.key.").unwrap())
}

/// An edge that also accepts a form that the others do not know.
fn paired(edge: &Edge) -> Edge {
    let pair = KeyIn::pair("X-Inner-Id", "X-Inner-Secret").unwrap();
    edge.clone().accept(pair)
}

impl Drop for Server {
    fn drop(&mut self) {
        match self {
            Self::Axum(task) => task.abort(),
            // This stops it; the future only waits.
            Self::Actix(handle) => drop(handle.stop(false)),
        }
    }
}

fn read() -> Requirement {
    Requirement::scope(READ)
}

/// A quota of an hour, which nothing leaves while a test runs.
pub(super) fn hourly(name: &str, limit: u32) -> Quota {
    let limit = NonZeroU32::new(limit).unwrap();
    Quota::new(name, limit, Duration::from_secs(3_600)).unwrap()
}

/// What a request to `/rows` counts until its handler knows better.
const ESTIMATE: NonZeroU32 = NonZeroU32::new(10).unwrap();

fn rows() -> Requirement {
    read().estimate(ESTIMATE)
}

/// The requirement of the guards inside of those of `/twice`.
fn inner() -> Requirement {
    read().quota(hourly("inner", 20))
}

/// Brings rows, and tells how many they were at the end.
fn counted_rows(
    caller: Caller,
    count: u32,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let end = stream::once(async move {
        caller.settle(count);
        Ok(Bytes::from_static(b"end"))
    });
    stream::repeat_with(|| Ok(Bytes::from_static(b"row")))
        .take(3)
        .chain(end)
}

fn promising() -> Requirement {
    Requirement::any_key().checked_by_handler("project")
}

/// Edition `e-1-7` is of project `p-1`.
/// An edition, as it was loaded: its name and its project.
struct Edition(String, String);

impl Edition {
    fn load(id: &str) -> Option<Self> {
        Some(Self(id.to_owned(), project_of(id)?))
    }
}

impl Belongs for Edition {
    const KIND: &'static str = "project";

    fn resource(&self) -> &str {
        &self.1
    }
}

fn project_of(edition: &str) -> Option<String> {
    let (project, edition) = edition.strip_prefix("e-")?.split_once('-')?;
    edition.parse::<u32>().ok()?;
    Some(format!("p-{project}"))
}

/// Returns the result of a look-up, which may fail.
async fn found(deeds: Deeds, edition: String) -> Result<Option<String>, &'static str> {
    deeds.lookups.fetch_add(1, Ordering::SeqCst);
    if edition == "e-broken" {
        return Err("the database is away");
    }
    if edition == "e-waits" {
        deeds.waits.begun.notify_one();
        deeds.waits.released.notified().await;
        return Ok(Some("p-1".to_owned()));
    }
    Ok(project_of(&edition))
}

fn projects_of(caller: &Caller) -> String {
    let only = caller.only("project");
    let seen = ["p-1", "p-2"]
        .into_iter()
        .filter(|project| only.permits(project));
    seen.collect::<Vec<_>>().join(" ")
}

/// A request, as a handler saw it.
struct Seen<'a> {
    method: &'a str,
    targets: Vec<String>,
    /// Names, as [`shown`], and whether the value is marked as sensitive.
    headers: Vec<(String, bool)>,
    grant: Option<&'a Grant>,
}

impl Seen<'_> {
    /// On four lines, sensitive headers with an asterisk.
    fn lines(self) -> String {
        let mark = |(name, is_sensitive)| format!("{name}{}", if is_sensitive { "*" } else { "" });
        let mut headers: Vec<_> = self.headers.into_iter().map(mark).collect();
        headers.sort_unstable();
        let title = self.grant.map(|grant| grant.title().to_string());
        [
            self.method.to_owned(),
            self.targets.join(" "),
            headers.join(" "),
            title.unwrap_or_else(|| "nobody".to_owned()),
        ]
        .join("\n")
    }
}

/// The name of a header, and the list of sub-protocols.
fn shown(name: &str, value: &[u8]) -> String {
    match name {
        "sec-websocket-protocol" => format!("{name}={}", String::from_utf8_lossy(value)),
        name => name.to_owned(),
    }
}

/// The headers that a query asks for: `cache-control=public&vary=accept`, with `_` for `, `.
fn caching(query: &str) -> impl Iterator<Item = (&str, String)> {
    let lines = query.split('&').filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name, value.replace('_', ", ")))
}

/// Ticks for ever.
fn endless() -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Some((Ok(Bytes::from_static(b"tick\n")), ()))
    })
}

/// Brings bytes as fast as they are taken, for ever.
fn flood() -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    stream::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 16_384])))
}

fn parts(
    parts: &'static [&'static str],
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let parts = parts
        .iter()
        .map(|part| Ok(Bytes::from_static(part.as_bytes())));
    stream::iter(parts)
}

/// The address that a server listens on, and the server.
type Listening = (SocketAddr, Server);
