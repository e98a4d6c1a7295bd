//! What the three products share that has nothing to do with keys: a small [login](Logins), [pages](Paging) of made-up
//! data, the [lines](Line) that are printed at start, and a clean [stop](stopped).
//!
//! [`Office`] is what stands between a product's management endpoints and the
//! [`KeyManager`](keyward::manager::KeyManager): it finds out who asks.

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum;
mod lines;
mod login;
mod office;
mod paging;

#[cfg(feature = "axum")]
pub use self::axum::kept_by_no_cache;
pub use lines::{Line, print};
pub use login::Logins;
pub use office::{
    CodeForm, EventQuery, ListQuery, LoggedIn, NotDone, Office, Person, RotateForm, Session,
};
pub use paging::{Paged, Paging};

use std::io;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;

use keyward::http::RejectionEvent;

/// Where to listen: what follows `--listen` on the command line, or this address.
///
/// # Errors
/// If that is no address.
pub fn listen_address(default: &str) -> Result<SocketAddr, AddrParseError> {
    argument("--listen").as_deref().unwrap_or(default).parse()
}

/// The file that a product keeps its keys in: what follows `--keys` on the command line, or this one, in the folder in
/// which it was started.
#[must_use]
pub fn keys_file(default: &str) -> PathBuf {
    argument("--keys")
        .unwrap_or_else(|| default.to_owned())
        .into()
}

/// What follows this name on the command line; none if it is not there.
#[must_use]
pub fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// Tells the operator why a request was refused, on standard error.
#[expect(clippy::print_stderr, reason = "the log of an example")]
pub fn tell_operator(event: &RejectionEvent<'_>) {
    let client = event
        .client
        .map_or_else(String::new, |client| format!(", from {client}"));
    // What people call it is known of keys that were good.
    let key = match (event.grant, event.key_id()) {
        (Some(grant), _) => format!(", of key {} ({})", grant.key_id(), grant.title()),
        (None, Some(id)) => format!(", of key {id}"),
        (None, None) => String::new(),
    };
    eprintln!("refused{client}{key}: {}", event.reason);
    for near_miss in event.near_misses {
        eprintln!("  perhaps: {near_miss}");
    }
}

/// Waits until the program is asked to stop: by Ctrl-C, or by SIGTERM as a service manager does it. Whoever asks once
/// this has returned is heard, though nobody waits yet: call it before saying how the program is stopped.
///
/// # Errors
/// If the system does not let it listen.
pub fn stopped() -> io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let (mut interrupted, mut terminated) = {
        use tokio::signal::unix::{SignalKind, signal};
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    #[cfg(not(unix))]
    let mut interrupted = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        #[cfg(unix)]
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = interrupted.recv().await;
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::Command;

    #[tokio::test]
    async fn whoever_asks_it_to_stop_before_anybody_waits_is_heard() {
        for signal in ["-INT", "-TERM"] {
            let stopped = super::stopped().unwrap();
            let own = std::process::id().to_string();
            // Without a handler it ends this program.
            let kill = format!("kill {signal} {own}");
            let sent = Command::new("sh").args(["-c", &kill]).status();
            assert!(sent.unwrap().success());
            stopped.await;
        }
    }
}
