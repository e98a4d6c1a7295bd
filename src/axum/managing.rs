//! Answers of endpoints that manage keys, as axum responses.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};

use crate::http::Answer;
use crate::manager::{ManageError, Revealed};
use crate::tower::answer;

/// Responds with the error's [`Answer`]. The response's extensions contain the error itself as an `Arc<ManageError>`,
/// for the host's log.
impl IntoResponse for ManageError {
    fn into_response(self) -> Response {
        let mut response = answer(Answer::from(&self), Body::from);
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// 201 with the key, which no cache keeps.
impl IntoResponse for Revealed<'_> {
    fn into_response(self) -> Response {
        answer(Answer::from(&self), Body::from)
    }
}
