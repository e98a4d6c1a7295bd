//! What endpoints that manage keys answer, as axum has it.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};

use crate::http::Answer;
use crate::manager::{ManageError, Revealed};
use crate::tower::answer;

/// As [`Answer`] has it. The error itself stands in the response's extensions, as an `Arc<ManageError>`: for the host's
/// log.
impl IntoResponse for ManageError {
    fn into_response(self) -> Response {
        let mut response = answer(Answer::from(&self), Body::from);
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// 201 with the key, kept by no cache.
impl IntoResponse for Revealed<'_> {
    fn into_response(self) -> Response {
        answer(Answer::from(&self), Body::from)
    }
}
