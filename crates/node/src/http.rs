//! A minimal HTTP client for a node's pages.

use anyhow::{Context, bail};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Maximum size of a reply in bytes. Longer ones are truncated, but a node's pages are shorter.
const MAX_PAGE: u64 = 1 << 20;

/// A page and its status code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status code, 200 for success.
    pub code: u16,
    /// The body.
    pub body: String,
}

/// Fetches a page from `address`, a `host:port`.
///
/// # Errors
/// If the server cannot be reached, takes longer than `limit`, or does not reply in HTTP.
pub async fn get(address: &str, path: &str, limit: Duration) -> anyhow::Result<Page> {
    let fetched = timeout(limit, fetch(address, path)).await;
    fetched.with_context(|| format!("{address} did not reply within {limit:?}"))?
}

async fn fetch(address: &str, path: &str) -> anyhow::Result<Page> {
    let stream = TcpStream::connect(address).await;
    let mut stream = stream.with_context(|| format!("cannot reach {address}"))?;
    // HTTP/1.0 has no chunked encoding: the body ends when the server closes the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_PAGE).read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes))
        .with_context(|| format!("the reply of {address} is not HTTP"))
}

fn parse(response: &str) -> anyhow::Result<Page> {
    let Some((head, body)) = response.split_once("\r\n\r\n") else { bail!("it has no header") };
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.context("it has no status code")?;
    Ok(Page { code, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_code_and_body_are_parsed() {
        let page = parse("HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\nno leader\r\n\r\n");
        assert_eq!(page.unwrap(), Page { code: 503, body: "no leader\r\n\r\n".into() });
        for garbage in ["", "\r\n\r\n", "HTTP/1.0 OK\r\n\r\n", "HTTP/1.0 200 OK"] {
            assert!(parse(garbage).is_err(), "{garbage:?}");
        }
    }
}
