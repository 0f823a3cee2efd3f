//! Answers of a front end: the application's texts and nginx's own pages.

use std::fmt::Display;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

const PLAIN: &str = "application/octet-stream";
const JSON: &str = "application/json; charset=utf-8";

/// An answer before it is a response: status, content type, body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(StatusCode, &'static str, String);

impl Answer {
    /// The application's `say`: a line of text.
    pub fn say(status: StatusCode, text: impl Display) -> Self {
        Answer(status, PLAIN, format!("{text}\n"))
    }

    /// An argument is missing.
    pub fn incomplete() -> Self {
        Answer::say(StatusCode::BAD_REQUEST, "Incomplete arguments")
    }

    /// Done, and nothing to say.
    pub fn empty() -> Self {
        Answer(StatusCode::OK, PLAIN, String::new())
    }

    /// A line of JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        Answer(StatusCode::OK, JSON, format!("{value}\n"))
    }

    /// nginx's own page for `status`.
    pub fn stock(status: StatusCode) -> Self {
        let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let body = format!(
            "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n\
             <hr><center>openresty/1.15.8.1rc1</center>\r\n</body>\r\n</html>\r\n"
        );
        Answer(status, "text/html", body)
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0
    }

    /// The response.
    pub fn into_response(self) -> Response {
        let Answer(status, content_type, body) = self;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }
}
