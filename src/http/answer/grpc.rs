//! Answers of gRPC.

use base64ct::{Base64Unpadded, Encoding as _};

use super::{Answer, Problem, Renderer, joined};

/// Answers for gRPC clients: status 200, with the failure in `grpc-status` and `grpc-message`.
///
/// The gRPC protocol calls this a response of trailers alone. Where a caller may try again later, as over its limits,
/// `grpc-status-details-bin` says when, in a `google.rpc.RetryInfo`. If a key does not permit the request, it says why,
/// in a `google.rpc.ErrorInfo` of the domain `keyward`: the problem's code in upper case, as in `INSUFFICIENT_SCOPE`,
/// and in the metadata `sufficient_scopes`, as in `read:editions read:projects, admin`, or `resource_kind`.
///
/// Over gRPC every response of a handler has status 200, including its errors. A handler that [promised a
/// check](crate::verifier::Requirement::checked_by_handler) therefore has to make the check before it answers with an
/// error. Looking the resource up before the handler is called is the better way.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcStatus;

impl Renderer for GrpcStatus {
    fn render(&self, problem: &Problem, answer: &mut Answer) {
        let code: u8 = match problem.status {
            400 => 3,       // INVALID_ARGUMENT
            401 => 16,      // UNAUTHENTICATED
            403 => 7,       // PERMISSION_DENIED
            404 => 5,       // NOT_FOUND
            413 | 429 => 8, // RESOURCE_EXHAUSTED
            503 => 14,      // UNAVAILABLE
            _ => 13,        // INTERNAL
        };
        answer.status = 200;
        answer
            .headers
            .push(("content-type", "application/grpc".to_owned()));
        answer.headers.push(("grpc-status", code.to_string()));
        answer
            .headers
            .push(("grpc-message", problem.detail.to_owned()));
        let details = match problem {
            Problem {
                retry_after: Some(seconds),
                ..
            } => Some(("RetryInfo", retry_info(*seconds))),
            Problem { status: 403, .. } => Some(("ErrorInfo", error_info(problem))),
            _ => None,
        };
        if let Some((kind, details)) = details {
            let details = grpc_details(code, problem.detail, kind, &details);
            let details = Base64Unpadded::encode_string(&details);
            answer.headers.push(("grpc-status-details-bin", details));
        }
    }
}

/// Encodes a `google.rpc.Status` with details of this type.
fn grpc_details(code: u8, message: &str, kind: &str, details: &[u8]) -> Vec<u8> {
    let mut any = Vec::new();
    let type_url = format!("type.googleapis.com/google.rpc.{kind}");
    field(&mut any, 1, type_url.as_bytes()); // Any.type_url
    field(&mut any, 2, details); // Any.value
    let mut status = vec![0x08]; // Status.code
    varint(&mut status, code.into());
    field(&mut status, 2, message.as_bytes()); // Status.message
    field(&mut status, 3, &any); // Status.details
    status
}

fn retry_info(seconds: u64) -> Vec<u8> {
    let mut duration = vec![0x08]; // Duration.seconds
    varint(&mut duration, seconds);
    let mut retry_info = Vec::new();
    field(&mut retry_info, 1, &duration); // RetryInfo.retry_delay
    retry_info
}

fn error_info(problem: &Problem) -> Vec<u8> {
    let mut error_info = Vec::new();
    let reason = problem.code.to_ascii_uppercase();
    field(&mut error_info, 1, reason.as_bytes()); // ErrorInfo.reason
    field(&mut error_info, 2, b"keyward"); // ErrorInfo.domain
    let scopes = problem.sufficient_scopes.as_ref().map(|alternatives| {
        let alternatives = alternatives.iter().map(|scopes| joined(scopes));
        alternatives.collect::<Vec<_>>().join(", ")
    });
    let kind = problem.resource_kind.as_deref().map(str::to_owned);
    for (key, value) in [("sufficient_scopes", scopes), ("resource_kind", kind)] {
        let Some(value) = value else { continue };
        let mut entry = Vec::new();
        field(&mut entry, 1, key.as_bytes());
        field(&mut entry, 2, value.as_bytes());
        field(&mut error_info, 3, &entry); // ErrorInfo.metadata
    }
    error_info
}

/// Appends a field of bytes, in the encoding of protocol buffers.
fn field(message: &mut Vec<u8>, number: u8, value: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, u64::try_from(value.len()).unwrap_or(u64::MAX));
    message.extend_from_slice(value);
}

/// Appends an integer, in the encoding of protocol buffers.
fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    message.push(value.to_le_bytes()[0]);
}
