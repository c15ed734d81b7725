//! The operator's side of the admin surface: plain HTTP/1.1 to a role's admin address, with the token of its folder.
//!
//! It exists for `ctl`, `keys` and `backup`, which ask a running process instead of touching its files. It never prints
//! the token, and an answer is read up to a bound.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::failure::{Exit, Failure};
use crate::folder;
use crate::home;
use crate::run_file::RunFile;

/// Longest line of an answer: far more than any result has.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// How long a connection may take: the admin address is on this machine or in this network.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Which running process is meant.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Data folder of the `up` that is meant [default: the local one]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Admin address, where it is not in the data folder
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// File with the admin token [default: `admin.token` in the data folder]
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
}

impl AdminArgs {
    /// The data folder that is meant.
    pub fn data(&self) -> Result<PathBuf, Failure> {
        self.data.clone().map_or_else(home::up_data, Ok)
    }

    /// The process that is meant, if there is a sign that one runs.
    fn running(&self) -> Result<Option<AdminClient>, Failure> {
        let data = self.data()?;
        let Some(addr) = self.admin.or_else(|| RunFile::read(&data).map(|run| run.admin)) else {
            return Ok(None);
        };
        let token_file = self.token.clone().unwrap_or_else(|| data.join(folder::ADMIN_TOKEN));
        Ok(Some(AdminClient { addr, token_file }))
    }

    /// The process that is meant, if one answers. An address that was named must answer.
    pub async fn answering(&self) -> Result<Option<AdminClient>, Failure> {
        let Some(client) = self.running()? else { return Ok(None) };
        Ok((self.admin.is_some() || client.answers().await).then_some(client))
    }

    /// The process that is meant; a failure if there is no sign of one.
    pub fn client(&self) -> Result<AdminClient, Failure> {
        self.running()?.ok_or_else(|| {
            unreachable("no running server is known here: start `buslane up`, or name its --data folder or --admin address")
        })
    }
}

/// One admin address and its token.
#[derive(Debug)]
pub struct AdminClient {
    addr: SocketAddr,
    token_file: PathBuf,
}

impl AdminClient {
    /// Whether somebody listens there.
    async fn answers(&self) -> bool {
        matches!(tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(self.addr)).await, Ok(Ok(_)))
    }

    /// A page that needs no token: its status and its text.
    pub async fn page(&self, path: &str) -> Result<(StatusCode, String), Failure> {
        let (response, _connection) = self.ask(Method::GET, path, None, Bytes::new()).await?;
        let status = response.status();
        let mut lines = Lines::new(response.into_body());
        let mut text = String::new();
        while let Some(line) = lines.next().await? {
            text.push_str(&line);
            text.push('\n');
            if text.len() > LINE_BYTES_MAX {
                break;
            }
        }
        Ok((status, text))
    }

    /// Asks for something to be done; `on_line` sees each line of progress, the last line's `result` is returned.
    pub async fn run(
        &self,
        path: &str,
        body: &Value,
        on_progress: impl FnMut(&Value),
    ) -> Result<Value, Failure> {
        self.result(Method::POST, path, body.to_string().into(), on_progress).await
    }

    /// Asks how something is.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.result(Method::GET, path, Bytes::new(), |_| ()).await
    }

    async fn result(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        mut on_progress: impl FnMut(&Value),
    ) -> Result<Value, Failure> {
        let token = read_token(&self.token_file)?;
        let (response, _connection) = self.ask(method, path, Some(&token), body).await?;
        let status = response.status();
        let mut lines = Lines::new(response.into_body());
        while let Some(line) = lines.next().await? {
            let value: Value = match serde_json::from_str(&line) {
                Ok(value) => value,
                Err(_) if !status.is_success() => return Err(refused(status, &Value::String(line))),
                Err(_) => {
                    return Err(unreachable(
                        "the server's answer is not what this version expects: use the same version on both sides",
                    ));
                }
            };
            if let Some(progress) = value.get("progress") {
                on_progress(progress);
            } else if let Some(result) = value.get("result") {
                return Ok(result.clone());
            } else {
                return Err(refused(status, value.get("error").unwrap_or(&value)));
            }
        }
        Err(refused(status, &Value::Null))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Bytes,
    ) -> Result<(Response<Incoming>, Connection), Failure> {
        let addr = self.addr;
        let gone =
            || unreachable(format!("nothing answers at the admin address {addr}: is the server running?"));
        let tcp = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(addr)).await;
        let tcp = tcp.map_err(|_| gone())?.map_err(|_| gone())?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(|_| gone())?;
        let connection = Connection(tokio::spawn(connection).abort_handle());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, addr.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| Failure::new(Exit::Keys, "bad_token_file", "the admin token file holds no token"))?;
        let response = sender.send_request(request).await.map_err(|_| gone())?;
        Ok((response, connection))
    }
}

/// The task that drives a connection; it ends with whoever holds this.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The lines of a body, as they come.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

impl Lines {
    fn new(body: Incoming) -> Self {
        Self { body, buffer: BytesMut::new(), ended: false }
    }

    async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            if self.ended || self.buffer.len() > LINE_BYTES_MAX {
                let rest = self.buffer.split();
                return Ok((!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(_)) => {
                    return Err(unreachable("the server went away in the middle of its answer: see its log"));
                }
                None => self.ended = true,
            }
        }
    }
}

fn read_token(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(e) => Err(Failure::new(
            Exit::Keys,
            "no_admin_token",
            format!(
                "cannot read the admin token {}: {e}; run this as the user who runs the server, or name the file with --token",
                path.display()
            ),
        )),
    }
}

fn unreachable(message: impl Into<String>) -> Failure {
    Failure::new(Exit::Unreachable, "unreachable", message).retryable()
}

/// The server's "no" as a failure. Its body is `{"code", "message", "retryable"}` or a plain text.
fn refused(status: StatusCode, error: &Value) -> Failure {
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    let code = text("code").unwrap_or_else(|| format!("http_{}", status.as_u16()));
    let message = text("message").or_else(|| error.as_str().map(str::to_owned));
    let message = message.unwrap_or_else(|| match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "the admin token is not the server's: use the file of its own data folder".to_owned()
        }
        StatusCode::NOT_FOUND => "this role does not do that: ask the backend or the `up` process".to_owned(),
        _ => format!("the server answered {status}: see its log"),
    });
    let retryable = error.get("retryable").and_then(Value::as_bool).unwrap_or(false);
    Failure { retryable, ..Failure::new(Exit::Refused, &code, message) }
}
