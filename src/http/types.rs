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
            if let Some(line) = self.remaining_protocols(line) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::KeyIn;
    use crate::key::Access;
    use crate::testkit::keyward_with_key;

    #[tokio::test]
    async fn a_credential_is_removed_from_a_request() {
        let (keyward, key) = keyward_with_key([], Access::Full).await;
        let key = key.text();
        let edge = Edge::new(&keyward)
            .accept(KeyIn::bearer())
            .accept(KeyIn::header("X-API-Key").unwrap())
            .accept(KeyIn::query_parameter("api_key").unwrap())
            .accept(KeyIn::web_socket_protocol("acme.key.").unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", format!("Bearer {key}")),
            ("x-api-key", key.to_owned()),
            ("sec-websocket-protocol", format!("acme.v1, acme.key.{key}")),
            ("sec-websocket-protocol", "acme.v2".to_owned()),
            ("accept", "text/html".to_owned()),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let mut uri: Uri = format!("/v1/editions?a=b&api_key={key}&c=d")
            .parse()
            .unwrap();
        edge.remove_credential(&mut headers, &mut uri);
        assert_eq!(uri, "/v1/editions?a=b&c=d");
        let left: Vec<_> = headers.all().collect();
        let expected = [
            ("accept", b"text/html".as_slice()),
            ("sec-websocket-protocol", b"acme.v1"),
            ("sec-websocket-protocol", b"acme.v2"),
        ];
        assert_eq!(left.len(), expected.len(), "{left:?}");
        assert!(expected.iter().all(|line| left.contains(line)), "{left:?}");
    }

    #[test]
    fn an_answer_becomes_a_response() {
        let answer = Answer {
            status: 401,
            headers: vec![
                ("www-authenticate", "Bearer".to_owned()),
                ("www-authenticate", "Basic".to_owned()),
                ("X Not A Name", "dropped".to_owned()),
                ("x-not-a-value", "a\nb".to_owned()),
            ],
            body: b"no".to_vec(),
        };
        let response = Response::<Vec<u8>>::from(answer);
        assert_eq!(response.status(), 401);
        let challenges: Vec<_> = response.headers().all().collect();
        let challenge = "www-authenticate";
        let expected = [(challenge, b"Bearer".as_slice()), (challenge, b"Basic")];
        assert_eq!(challenges, expected);
        assert_eq!(response.body(), b"no");
    }

    #[test]
    fn a_header_replaces_or_is_added() {
        let mut headers = HeaderMap::new();
        headers.insert("vary", HeaderValue::from_static("accept"));
        headers.insert("cache-control", HeaderValue::from_static("public"));
        for (name, value, replaces) in [
            ("vary", "authorization", false),
            ("cache-control", "private", true),
        ] {
            let value = value.into();
            let header = ResponseHeader {
                name,
                value,
                replaces,
            };
            header.add_to(&mut headers);
        }
        let lines = |name| HeaderSource::values(&headers, name).collect::<Vec<_>>();
        assert_eq!(lines("vary"), [b"accept".as_slice(), b"authorization"]);
        assert_eq!(lines("cache-control"), [b"private"]);
    }
}
