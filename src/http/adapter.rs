//! The core that all adapters share, for any framework: the decision on a request and the handling of its response.

mod body;
mod body_monitor;
#[cfg(any(feature = "actix", feature = "axum"))]
mod caller;
mod gate;
mod guard;
mod place;

pub use self::body::ResponseBody;
pub use self::body_monitor::BodyCut;
pub(crate) use self::body_monitor::BodyMonitor;
#[cfg(any(feature = "actix", feature = "axum"))]
pub(crate) use self::caller::at_once;
#[cfg(any(feature = "actix", feature = "axum"))]
pub use self::caller::{Belongs, Caller, Permitted, Unguarded};
pub(crate) use self::gate::{
    Completion, FinishedResponse, Gate, GateAdmission, GateConfig, Incoming, Values,
};
pub use self::guard::{BoxError, Guard, Source, lookup, lookup_for};
