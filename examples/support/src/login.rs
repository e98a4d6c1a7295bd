//! Logins with one-time codes, and sessions.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::Person;

/// Lifetime of a session.
const SESSION: Duration = Duration::from_hours(12);

/// One-time codes that each log one person in, and the resulting sessions.
///
/// Both are stored and looked up as SHA-256, so the duration of a look-up reveals nothing about the text.
#[derive(Default)]
pub(crate) struct Logins {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    codes: HashMap<[u8; 32], Person>,
    sessions: HashMap<[u8; 32], (Person, Instant)>,
}

impl Logins {
    /// Creates a code with which this person can log in once.
    pub(crate) fn invite(&self, person: Person) -> Result<String, getrandom::Error> {
        let code = random_text()?;
        self.open().codes.insert(digest(&code), person);
        Ok(code)
    }

    /// Opens a session with this code, which is then used up. `None` if the code is unknown or already used.
    ///
    /// If this fails, the code can be tried again.
    pub(crate) fn log_in(&self, code: &str) -> Result<Option<String>, getrandom::Error> {
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

    /// Returns the person of this session. `None` if the session does not exist or has ended.
    pub(crate) fn person(&self, session: &str) -> Option<Person> {
        let open = self.open();
        let (person, begun) = open.sessions.get(&digest(session))?;
        is_open(*begun, Instant::now()).then(|| person.clone())
    }

    fn open(&self) -> MutexGuard<'_, Open> {
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
