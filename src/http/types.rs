//! The types of the crate [`http`](::http), for middleware of any framework that uses them (feature `http`).

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Response, StatusCode, Uri};

use super::{Answer, Edge, HeaderSource, ResponseHeader};

impl HeaderSource for HeaderMap {
    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let headers = self.iter();
        headers.map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    #[inline]
    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        // Uses the map's own look-up: the default would scan all headers for each name.
        let values = match name {
            // A known name need not be parsed.
            "authorization" => self.get_all(header::AUTHORIZATION),
            "cache-control" => self.get_all(header::CACHE_CONTROL),
            other => self.get_all(other),
        };
        values.into_iter().map(HeaderValue::as_bytes)
    }
}

/// The response to send: status, headers and body.
impl<B: From<Vec<u8>>> From<Answer> for Response<B> {
    fn from(answer: Answer) -> Self {
        let mut response = Self::new(answer.body.into());
        *response.status_mut() =
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in answer.headers {
            // A renderer of the host may have added any text.
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

impl ResponseHeader<'_> {
    /// Adds the header to those of a response.
    pub fn add_to(self, headers: &mut HeaderMap) {
        let (Ok(name), Ok(value)) = (
            HeaderName::try_from(self.name),
            HeaderValue::try_from(&*self.value),
        ) else {
            return;
        };
        if self.replaces {
            headers.insert(name, value);
        } else {
            headers.append(name, value);
        }
    }
}

impl Edge {
    /// Removes the credential from a request that is admitted: the handler needs none, and its logs should have none.
    ///
    /// It removes the [headers](Self::credential_headers), the sub-protocols and the parameters of the query that keys
    /// are accepted in. Look also at whatever else your framework keeps of the request, such as the original target.
    pub fn remove_credential(&self, headers: &mut HeaderMap, uri: &mut Uri) {
        for name in self.credential_headers() {
            headers.remove(name);
        }
        self.remove_protocol(headers);
        self.remove_parameter(uri);
    }

    /// Removes the credential from the list of sub-protocols of a WebSocket.
    pub(crate) fn remove_protocol(&self, headers: &mut HeaderMap) {
        let name = header::SEC_WEBSOCKET_PROTOCOL;
        let lines: Vec<_> = headers.get_all(&name).iter().cloned().collect();
        headers.remove(&name);
        for line in lines {
            let line = match self.protocols_without_credential(line.as_bytes()) {
                // A line that cannot be written again is dropped: the credential must not pass.
                Some(rest) => {
                    HeaderValue::from_bytes(&rest).unwrap_or(HeaderValue::from_static(""))
                }
                None => line,
            };
            if !line.is_empty() {
                headers.append(&name, line);
            }
        }
    }

    /// Removes the parameters that keys are accepted in from the target.
    pub(crate) fn remove_parameter(&self, uri: &mut Uri) {
        let query = uri.query();
        let Some(target) =
            query.and_then(|query| self.target_without_credential(uri.path(), query))
        else {
            return;
        };
        let mut parts = uri.clone().into_parts();
        // Removing parameters should leave a valid target. If it does not, drop it: the credential must not pass.
        parts.path_and_query = target.try_into().ok();
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}
