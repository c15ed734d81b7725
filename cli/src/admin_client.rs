//! The operator's side of the admin surface: HTTP/1.1 to a process's admin address, with a token or a certificate.
//!
//! It exists for `ctl`, `top`, `keys` and `backup`, which ask a running process instead of touching its files. It never prints
//! the token, and an answer is read up to a bound.

mod address;
mod lines;
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_util::either::Either;

use crate::failure::{Exit, Failure};
use crate::folder;
use crate::home;
use crate::run_file::RunFile;

pub use address::Address;
pub use lines::Lines;

/// How long a connection may take: the admin address is on this machine or in this network.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a question may take. What takes longer (a backup, new keys) answers in lines as it goes.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Which running process is meant.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Data folder of the `up` that is meant [default: the local one]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Admin address, where it is not in the data folder: HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<Address>,
    /// File with the token [default: `admin.token` in the data folder]
    #[arg(long, value_name = "FILE", env = "BUSLANE_ADMIN_TOKEN_FILE")]
    pub token: Option<PathBuf>,
    /// The authority of the admin certificate; with it TLS is spoken [default under TLS: that of the data folder]
    #[arg(long = "admin-ca", visible_alias = "ca", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate to show instead of a token
    #[arg(long = "admin-cert", visible_alias = "cert", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long = "admin-key", visible_alias = "key", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

impl AdminArgs {
    /// The data folder that is meant.
    pub fn data(&self) -> Result<PathBuf, Failure> {
        self.data.clone().map_or_else(home::up_data, Ok)
    }

    /// The process that is meant, if there is a sign that one runs.
    fn running(&self) -> Result<Option<AdminClient>, Failure> {
        let data = self.data()?;
        let run = RunFile::read(&data);
        let known = run.as_ref().map(|run| Address { secure: run.admin_tls, ..run.admin.into() });
        let Some(address) = self.admin.clone().or(known) else { return Ok(None) };
        let own =
            self.cert.clone().zip(self.key.clone()).map(|(certificate, key)| tls::Own { certificate, key });
        let secure = address.secure || self.ca.is_some() || own.is_some();
        let ca = self.ca.clone().or_else(|| run.map(|run| run.ca));
        if secure && ca.is_none() {
            return Err(no_authority());
        }
        let token_file = match (&self.token, &own) {
            (Some(file), _) => Some(file.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(data.join(folder::ADMIN_TOKEN)),
        };
        Ok(Some(AdminClient { address, token_file, ca: ca.filter(|_| secure), own }))
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

/// One admin address, and how one shows there who one is.
#[derive(Debug, Clone)]
pub struct AdminClient {
    address: Address,
    token_file: Option<PathBuf>,
    /// TLS is spoken, and whoever this authority vouches for is believed.
    ca: Option<PathBuf>,
    own: Option<tls::Own>,
}

impl AdminClient {
    /// An operator with a token. With an authority TLS is spoken.
    pub fn of(address: Address, token_file: PathBuf, ca: Option<PathBuf>) -> Result<Self, Failure> {
        if address.secure && ca.is_none() {
            return Err(no_authority());
        }
        Ok(Self { address, token_file: Some(token_file), ca, own: None })
    }

    /// The same operator at the admin address of another process.
    pub fn at(&self, address: &str) -> Result<Self, Failure> {
        let address = address.parse().map_err(Failure::usage)?;
        Ok(Self { address, ..self.clone() })
    }

    /// Whether somebody listens there.
    async fn answers(&self) -> bool {
        self.connect().await.is_ok()
    }

    /// A page that needs no token: its status and its text.
    pub async fn page(&self, path: &str) -> Result<(StatusCode, String), Failure> {
        let (response, _connection) = self.ask(Method::GET, path, None, Bytes::new()).await?;
        let status = response.status();
        Ok((status, self.in_time(Lines::new(response.into_body()).text()).await?))
    }

    /// A text that is no JSON.
    pub async fn text(&self, path: &str) -> Result<String, Failure> {
        let (response, _connection) =
            self.ask(Method::GET, path, self.token()?.as_deref(), Bytes::new()).await?;
        let status = response.status();
        let text = self.in_time(Lines::new(response.into_body()).text()).await?;
        if status.is_success() {
            return Ok(text);
        }
        let said: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        Err(refused(status, said.get("error").unwrap_or(&said)))
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

    /// Asks for something that is done at once.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.in_time(self.run(path, body, |_| ())).await
    }

    /// Asks how something is.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.in_time(self.result(Method::GET, path, Bytes::new(), |_| ())).await
    }

    /// Asks for something to be gone.
    pub async fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.in_time(self.result(Method::DELETE, path, Bytes::new(), |_| ())).await
    }

    /// Opens a stream of events.
    pub async fn stream(&self, path: &str) -> Result<Stream, Failure> {
        let token = self.token()?;
        let (response, connection) = self.ask(Method::GET, path, token.as_deref(), Bytes::new()).await?;
        let status = response.status();
        let lines = Lines::new(response.into_body());
        if status.is_success() {
            return Ok(Stream { lines, _connection: connection });
        }
        let said: Value = serde_json::from_str(&self.in_time(lines.text()).await?).unwrap_or(Value::Null);
        Err(refused(status, said.get("error").unwrap_or(&said)))
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::time::timeout(ANSWER_LIMIT, answer).await.unwrap_or_else(|_| {
            let (address, limit_s) = (&self.address, ANSWER_LIMIT.as_secs());
            Err(unreachable(format!("{address} takes longer than {limit_s} s to answer: see its log")))
        })
    }

    async fn result(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        mut on_progress: impl FnMut(&Value),
    ) -> Result<Value, Failure> {
        let (response, _connection) = self.ask(method, path, self.token()?.as_deref(), body).await?;
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
        if status.is_success() {
            // Done, and nothing to say about it.
            return Ok(Value::Null);
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
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(|_| self.gone())?;
        let connection = Connection(tokio::spawn(connection).abort_handle());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| Failure::new(Exit::Keys, "bad_token_file", "the admin token file holds no token"))?;
        let response =
            self.in_time(async { sender.send_request(request).await.map_err(|_| self.gone()) }).await?;
        Ok((response, connection))
    }

    async fn connect(
        &self,
    ) -> Result<Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>, Failure> {
        let connecting = async {
            let tcp = TcpStream::connect((self.address.host.as_str(), self.address.port));
            let tcp = tcp.await.map_err(|_| self.gone())?;
            match &self.ca {
                None => Ok(Either::Left(tcp)),
                Some(ca) => Ok(Either::Right(tls::wrap(tcp, &self.address, ca, self.own.as_ref()).await?)),
            }
        };
        tokio::time::timeout(CONNECT_LIMIT, connecting).await.unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> Failure {
        unreachable(format!("nothing answers at the admin address {}: is the server running?", self.address))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        self.token_file.as_deref().map(read_token).transpose()
    }
}

/// Events that come until the connection ends.
pub struct Stream {
    lines: Lines,
    _connection: Connection,
}

impl Stream {
    /// The next event: its name and its data. `None`: the server has ended it.
    pub async fn next(&mut self) -> Result<Option<(String, Value)>, Failure> {
        let (mut name, mut data) = (String::new(), String::new());
        while let Some(line) = self.lines.next().await? {
            if let Some(rest) = line.strip_prefix("event:") {
                name = rest.trim().to_owned();
            } else if let Some(rest) = line.strip_prefix("data:") {
                data.push_str(rest.trim_start());
            } else if line.is_empty() && !data.is_empty() {
                let value = serde_json::from_str(&data).unwrap_or(Value::Null);
                return Ok(Some((name, value)));
            }
        }
        Ok(None)
    }
}

/// The task that drives a connection; it ends with whoever holds this.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn no_authority() -> Failure {
    Failure::usage("TLS needs the authority of the admin certificate: name its file with --admin-ca")
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
