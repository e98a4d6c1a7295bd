//! Where headers come from.

/// The headers of a request, whatever library keeps them.
///
/// A slice of names and values is one, and so are the maps of headers of the frameworks that have an adapter. For
/// another one, hand its headers on:
///
/// ```
/// use keyward::http::HeaderSource;
///
/// struct Headers(Vec<(String, Vec<u8>)>);
///
/// impl HeaderSource for Headers {
///     fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
///         self.0.iter().map(|(name, value)| (&**name, &**value))
///     }
/// }
/// ```
///
/// # Contract
/// Each line is handed on as it came: lines of one name are not joined (RFC 9110 §5.3 would allow it), or two
/// credentials would look like one.
#[diagnostic::on_unimplemented(
    message = "Keyward cannot read request headers from `{Self}`",
    note = "use `http::HeaderMap` (feature `tower`), a slice of `(&str, &str)`, or implement `HeaderSource`"
)]
pub trait HeaderSource {
    /// All headers: each line's name, in whatever case, and its value without the white space around it.
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])>;

    /// The values of one name, in the order in which they came. The name is in lower case; those of the headers are
    /// compared without regard to case.
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.all()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> HeaderSource for [(N, V)] {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>, const COUNT: usize> HeaderSource for [(N, V); COUNT] {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.as_slice().all()
    }
}

impl<H: HeaderSource + ?Sized> HeaderSource for &H {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        (**self).all()
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        (**self).values(name)
    }
}
