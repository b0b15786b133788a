//! Just enough of an HTTP client to ask a node for one of its pages.

use anyhow::{Context, bail};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A page longer than this is cut off; no page of a node is.
const MAX_PAGE: u64 = 1 << 20;

/// A page and its status code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The status code, 200 for success.
    pub code: u16,
    /// What the page says.
    pub body: String,
}

/// Fetches a page from `address`, a `host:port`.
///
/// # Errors
/// If the server cannot be reached, takes longer than `patience`, or does not speak HTTP.
pub async fn get(address: &str, path: &str, patience: Duration) -> anyhow::Result<Page> {
    let fetched = timeout(patience, fetch(address, path)).await;
    fetched.with_context(|| format!("{address} did not answer within {patience:?}"))?
}

async fn fetch(address: &str, path: &str) -> anyhow::Result<Page> {
    let stream = TcpStream::connect(address).await;
    let mut stream = stream.with_context(|| format!("cannot reach {address}"))?;
    // HTTP/1.0: the page ends with the connection, so there are no chunks to put together.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_PAGE).read_to_end(&mut bytes).await?;
    parse(&String::from_utf8_lossy(&bytes))
        .with_context(|| format!("{address} does not speak HTTP"))
}

fn parse(response: &str) -> anyhow::Result<Page> {
    let Some((head, body)) = response.split_once("\r\n\r\n") else { bail!("the page has no head") };
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.context("the page has no status code")?;
    Ok(Page { code, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let page = parse("HTTP/1.0 503 Service Unavailable\r\nx: y\r\n\r\nno leader\r\n\r\n");
        assert_eq!(page.unwrap(), Page { code: 503, body: "no leader\r\n\r\n".into() });
        for garbage in ["", "\r\n\r\n", "HTTP/1.0 OK\r\n\r\n", "HTTP/1.0 200 OK"] {
            assert!(parse(garbage).is_err(), "{garbage:?}");
        }
    }
}
