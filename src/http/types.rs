//! The types of the crate [`http`](::http), for middleware of any framework that uses them (feature `http`).

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Response, StatusCode};

use super::{Answer, HeaderSource};

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
