//! Code that the three products share and that is not about keys: a small login, [pages](Paging) of made-up
//! data, the [lines](print()) that are printed at start, and a clean [stop](stopped).
//!
//! In the [`Office`] of a product persons log in. The library's endpoints manage the keys of a [`Person`]'s tenant.

#[cfg(feature = "actix")]
mod actix;
#[cfg(feature = "axum")]
mod axum;
mod lines;
mod login;
mod office;
mod paging;

#[cfg(feature = "axum")]
pub use self::axum::office_routes;
pub use lines::print;
pub use office::{CodeForm, LoggedIn, LoginError, Office, Person, has_role};
pub use paging::{Paged, Paging};

use std::io;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;

use keyward::http::RejectionEvent;

/// The options that each product has, with what they set.
pub const OPTIONS: [(&str, &str); 2] = [
    ("--listen", "the address to listen on, such as 127.0.0.1:0"),
    ("--keys", "the file of the keys"),
];

/// The page at `/` of each product.
pub const ROOT: &str =
    "The API is under /v1 and needs a key. The office is under /admin and needs a login.";

/// Prints the help if the command line asks for it, and returns whether it did.
///
/// # Errors
/// If an argument is none of these options, or an option has no value. The help is on standard error then.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is what a person is to see"
)]
pub fn helped(options: &[(&str, &str)]) -> Result<bool, &'static str> {
    let lines = options
        .iter()
        .map(|(name, sets)| format!("  {name} VALUE  {sets}\n"));
    let help = format!("Options:\n{}  --help  this text", lines.collect::<String>());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if matches!(&*argument, "--help" | "-h") {
            println!("{help}");
            return Ok(true);
        }
        let is_known = options.iter().any(|(name, _)| *name == argument);
        if !is_known || arguments.next().is_none() {
            eprintln!("{help}");
            return Err("unknown argument, or an option without a value");
        }
    }
    Ok(false)
}

/// Returns the error of an address that cannot be listened on, with the way to another.
#[must_use]
pub fn occupied(address: SocketAddr, error: &io::Error, option: &str) -> String {
    format!("cannot listen on {address}: {error}; choose another address with {option}")
}

/// Returns the address to listen on: the value of `--listen` on the command line, or this default.
///
/// # Errors
/// If the value is not an address.
pub fn listen_address(default: &str) -> Result<SocketAddr, AddrParseError> {
    argument("--listen").as_deref().unwrap_or(default).parse()
}

/// Returns the file of a product's keys: the value of `--keys` on the command line, or this default in the folder in
/// which the product was started.
#[must_use]
pub fn keys_file(default: &str) -> PathBuf {
    argument("--keys")
        .unwrap_or_else(|| default.to_owned())
        .into()
}

/// Returns the value that follows this name on the command line. `None` if the name is absent.
#[must_use]
pub fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

/// Reports the reason of a refusal to the operator, on standard error.
#[expect(clippy::print_stderr, reason = "the log of an example")]
pub fn tell_operator(event: &RejectionEvent<'_>) {
    let client = event
        .client
        .map_or_else(String::new, |client| format!(", from {client}"));
    // Anyone can present any id: a key without a proven secret is named as a claim.
    let key = match (event.key(), event.claimed_key()) {
        (Some(key), _) => format!(
            ", of key {} ({}, of {})",
            key.id(),
            key.title(),
            key.tenant()
        ),
        (None, Some(claimed)) => format!(", claiming to be of key {}", claimed.id),
        (None, None) => String::new(),
    };
    let (code, reason) = (event.reason.code(), event.reason);
    eprintln!("refused{client}{key}: {code}: {reason}");
    for near_miss in event.near_misses {
        eprintln!("  perhaps: {near_miss}");
    }
}

/// Returns a future that completes when the program is asked to stop, by Ctrl-C or by SIGTERM from a service manager.
///
/// A signal that arrives before the future is polled is not lost: call this before telling people how to stop the
/// program.
///
/// # Errors
/// If the system does not allow it to listen for signals.
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
    async fn an_early_signal_is_not_lost() {
        for signal in ["-INT", "-TERM"] {
            let stopped = super::stopped().unwrap();
            let own = std::process::id().to_string();
            // Without a handler, the signal ends this program.
            let kill = format!("kill {signal} {own}");
            let sent = Command::new("sh").args(["-c", &kill]).status();
            assert!(sent.unwrap().success());
            stopped.await;
        }
    }
}
