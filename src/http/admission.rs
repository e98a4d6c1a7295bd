//! The outcome of an admitted request: its grant and its permit.

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
    /// The name, in lower case.
    pub name: &'static str,
    /// The value.
    pub value: Cow<'a, str>,
    /// Whether it replaces all existing lines of this name. Otherwise it is added as another line.
    pub replaces: bool,
}

impl Admission {
    pub(super) fn new(admitted: Admitted) -> Self {
        Self { admitted }
    }

    /// Returns the grant.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        self.admitted.grant()
    }

    /// Splits the admission into the grant, for the handler, and the permit. Keep the permit until the response has
    /// been sent or abandoned.
    pub fn into_parts(self) -> (Grant, Permit) {
        self.admitted.into_parts()
    }
}
