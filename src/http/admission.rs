//! What an admitted request was granted.

use std::borrow::Cow;

use crate::verifier::{Admitted, Grant, Permit};

/// An admitted request: its grant and its permit.
#[derive(Debug)]
pub struct Admission {
    admitted: Admitted,
}

/// A header to add to a granted response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponseHeader<'a> {
    /// In lower case.
    pub name: &'static str,
    /// The value.
    pub value: Cow<'a, str>,
    /// Whether it takes the place of all lines of this name; else it is one more.
    pub replaces: bool,
}

impl Admission {
    pub(super) fn new(admitted: Admitted) -> Self {
        Self { admitted }
    }

    /// What was granted.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.admitted.grant()
    }

    /// What was granted, for the handler; and the permit, to be kept until the response has been sent or given up.
    pub fn into_parts(self) -> (Grant, Permit) {
        self.admitted.into_parts()
    }
}
