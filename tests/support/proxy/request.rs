//! Requests as clients send them, and answers as the proxy writes them.

/// A request, complete.
pub struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The client wants the connection closed after the answer.
    pub is_last: bool,
}

impl Request {
    /// Takes the first request off `buffer`; none if it is not complete yet.
    pub fn take(buffer: &mut Vec<u8>) -> Option<Self> {
        let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
        let is_old = first.next() == Some("HTTP/1.0");
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        assert!(!headers.iter().any(|(name, _)| name == "transfer-encoding"), "the proxy takes no chunked requests");
        let is_last = is_old || headers.iter().any(|(name, value)| name == "connection" && value == "close");
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a length"));
        if buffer.len() < end + length {
            return None;
        }
        let rest = buffer.split_off(end + length);
        let body = std::mem::replace(buffer, rest).split_off(end);
        Some(Self { method, target, headers, body, is_last })
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// As it goes to Consul: HTTP/1.0, so that the answer ends with the connection and is never in chunks.
    ///
    /// None if the target is not below `prefix`.
    pub fn to_upstream(&self, prefix: &str) -> Option<Vec<u8>> {
        let target = self.target.strip_prefix(prefix).filter(|target| target.starts_with('/'))?;
        let mut text = format!("{} {target} HTTP/1.0\r\n", self.method);
        for (name, value) in &self.headers {
            if name != "connection" {
                text += &format!("{name}: {value}\r\n");
            }
        }
        text += "\r\n";
        Some([text.as_bytes(), &self.body].concat())
    }
}

/// An answer with a head of its own.
pub fn answer(status: u16, headers: &[(String, String)], body: &[u8], announced: usize) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} {}\r\n", if status < 400 { "OK" } else { "Fault" });
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        if !matches!(lower.as_str(), "connection" | "transfer-encoding" | "content-length") {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += &format!("Content-Length: {announced}\r\n\r\n");
    [text.as_bytes(), body].concat()
}
