//! A set that cannot be empty, so that an empty list never means "everything".

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::ValueError;

/// A sorted set of at least one element.
///
/// ```
/// use keyward::key::NonEmpty;
///
/// let set = NonEmpty::new(["b", "a", "b"])?;
/// assert_eq!(set.iter().collect::<Vec<_>>(), [&"a", &"b"]);
/// assert!(NonEmpty::<u8>::new([]).is_err());
/// # Ok::<(), keyward::key::ValueError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<T>", bound(deserialize = "T: Ord + Deserialize<'de>"))]
pub struct NonEmpty<T>(Box<[T]>);

impl<T: Ord> NonEmpty<T> {
    /// Creates a set of these elements.
    ///
    /// # Errors
    /// [`ValueError`] if there are no elements.
    pub fn new(elements: impl IntoIterator<Item = T>) -> Result<Self, ValueError> {
        let mut elements: Vec<T> = elements.into_iter().collect();
        elements.sort_unstable();
        elements.dedup();
        if elements.is_empty() {
            return Err(ValueError::Empty { value: "list" });
        }
        Ok(Self(elements.into_boxed_slice()))
    }

    /// Returns whether the set contains the element.
    #[must_use]
    pub fn contains(&self, element: &T) -> bool {
        self.0.binary_search(element).is_ok()
    }
}

/// Derefs to the elements, in ascending order.
impl<T> Deref for NonEmpty<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> From<T> for NonEmpty<T> {
    fn from(element: T) -> Self {
        Self(Box::new([element]))
    }
}

impl<T: Ord> TryFrom<Vec<T>> for NonEmpty<T> {
    type Error = ValueError;

    fn try_from(elements: Vec<T>) -> Result<Self, Self::Error> {
        Self::new(elements)
    }
}

impl<'a, T> IntoIterator for &'a NonEmpty<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for NonEmpty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

/// The elements with one space between each two: for scopes, the form of RFC 6749 §3.3.
impl<T: fmt::Display> fmt::Display for NonEmpty<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, element) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            element.fmt(f)?;
        }
        Ok(())
    }
}
