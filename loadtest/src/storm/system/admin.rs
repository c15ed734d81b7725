//! The operator's side of a server under test: its admin address and the token that its folder holds.
//!
//! Plain HTTP/1.1 with one request for each connection, to loopback. An answer is read up to a bound.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than a server under storm needs to answer; beyond it the operator would have given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Far more than any answer has.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where a server is operated.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The address.
    pub address: SocketAddr,
    /// The file with the token.
    pub token: PathBuf,
}

impl Admin {
    /// Asks how something is.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, "").await
    }

    /// Asks for something to be done.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask("POST", path, &body.to_string()).await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let token = std::fs::read_to_string(&self.token);
        let token = token.with_context(|| format!("cannot read {}", self.token.display()))?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            token.trim(),
            body.len(),
        );
        let answered = timeout(ANSWER_WITHIN, exchange(self.address, &request)).await;
        let answer = answered.context("no answer in time").flatten();
        let answer = answer.with_context(|| format!("the admin address {} does not answer", self.address))?;
        result(&answer).with_context(|| format!("{method} {path}"))
    }
}

async fn exchange(address: SocketAddr, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The result in an answer: a line of JSON with `result`, whatever lies around it.
fn result(answer: &str) -> anyhow::Result<Value> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let values = body.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    for value in values {
        if let Some(result) = value.get("result") {
            return Ok(result.clone());
        }
        if let Some(error) = value.get("error") {
            anyhow::bail!("the server refused: {error}");
        }
    }
    anyhow::bail!("the server answered: {}", head.lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_result_or_says_why_not() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 19\r\n\r\n{\"result\":{\"a\":1}}\n";
        assert_eq!(result(ok).unwrap()["a"], 1);
        let refused = "HTTP/1.1 409 Conflict\r\n\r\n{\"error\":{\"code\":\"order_past\"}}";
        assert!(result(refused).unwrap_err().to_string().contains("order_past"));
        assert!(result("HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err().to_string().contains("404"));
        assert!(result("nonsense").is_err());
    }
}
