//! Who is logged in.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

/// How long a session lasts.
const SESSION: Duration = Duration::from_hours(12);

/// Codes that log one person in, once, and the sessions that came of them. Both are kept as SHA-256, which is also how
/// they are looked up: how long that takes says nothing of the text.
pub struct Logins<P> {
    open: Mutex<Open<P>>,
}

struct Open<P> {
    codes: HashMap<[u8; 32], P>,
    sessions: HashMap<[u8; 32], (P, Instant)>,
}

impl<P: Clone> Logins<P> {
    /// Nobody, yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A code with which this person can log in, once.
    ///
    /// # Errors
    /// If the operating system has no random bytes to give.
    pub fn invite(&self, person: P) -> Result<String, getrandom::Error> {
        let code = random_text()?;
        self.open().codes.insert(digest(&code), person);
        Ok(code)
    }

    /// The session that this code opens, which is then used up; none if nobody was given it, or it is used up already.
    ///
    /// # Errors
    /// As [`invite`](Self::invite); the code is good for another try then.
    pub fn log_in(&self, code: &str) -> Result<Option<String>, getrandom::Error> {
        let session = random_text()?;
        let mut open = self.open();
        let Some(person) = open.codes.remove(&digest(code)) else {
            return Ok(None);
        };
        let now = Instant::now();
        open.sessions.retain(|_, (_, begun)| is_open(*begun, now));
        open.sessions.insert(digest(&session), (person, now));
        Ok(Some(session))
    }

    /// Whose session it is, if it is one.
    #[must_use]
    pub fn person(&self, session: &str) -> Option<P> {
        let open = self.open();
        let (person, begun) = open.sessions.get(&digest(session))?;
        is_open(*begun, Instant::now()).then(|| person.clone())
    }

    fn open(&self) -> MutexGuard<'_, Open<P>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_open(begun: Instant, now: Instant) -> bool {
    now.duration_since(begun) < SESSION
}

fn random_text() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl<P> Default for Logins<P> {
    fn default() -> Self {
        let open = Open {
            codes: HashMap::new(),
            sessions: HashMap::new(),
        };
        Self {
            open: Mutex::new(open),
        }
    }
}

impl<P> fmt::Debug for Logins<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}
