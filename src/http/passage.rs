//! What lets a request through.

use std::sync::Arc;

use super::{HeaderSource, caching};
use crate::verifier::{Admitted, Grant, Permit};

/// A request is let through, and its response needs a word more.
#[derive(Debug)]
pub struct Passage {
    admitted: Admitted,
    response: ResponseRules,
}

/// What a granted response needs, so that no cache hands it to somebody else.
#[derive(Debug, Clone)]
pub struct ResponseRules {
    /// None where the application sees to its caches itself.
    vary: Option<Arc<str>>,
}

/// A header to add to a response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseHeader {
    /// In lower case.
    pub name: &'static str,
    /// The value.
    pub value: String,
    /// Whether it takes the place of all lines of this name; else it is one more.
    pub replaces: bool,
}

impl Passage {
    pub(super) fn new(admitted: Admitted, vary: Option<Arc<str>>) -> Self {
        let response = ResponseRules { vary };
        Self { admitted, response }
    }

    /// What was granted.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.admitted.grant()
    }

    /// What was granted, for the handler; the permit, to be kept until the response has been sent or given up; and what
    /// the response needs.
    pub fn into_parts(self) -> (Grant, Permit, ResponseRules) {
        let (grant, permit) = self.admitted.into_parts();
        (grant, permit, self.response)
    }
}

impl ResponseRules {
    /// The headers to add to a response that has these.
    #[must_use]
    pub fn headers<H: HeaderSource + ?Sized>(&self, response: &H) -> Vec<ResponseHeader> {
        let vary = self.vary.as_ref();
        vary.map_or_else(Vec::new, |vary| caching::headers(response, vary))
    }
}
