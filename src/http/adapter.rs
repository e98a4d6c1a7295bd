//! What all adapters have in common, whatever framework they are for: the decision on a request, and what its response
//! holds.

mod body;
#[cfg(any(feature = "actix", feature = "axum"))]
mod caller;
mod gate;
mod guard;
mod held;
mod place;

pub use self::body::ResponseBody;
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) use self::caller::at_once;
#[cfg(any(feature = "actix", feature = "axum"))]
pub use self::caller::{Belongs, Caller, Permitted, Unguarded};
pub(crate) use self::gate::{Begun, Fate, Gate, Incoming, Rest, Terms, Values, Way};
pub use self::guard::{BoxError, Guard, Source, lookup, lookup_for};
pub use self::held::BodyCut;
pub(crate) use self::held::Held;
