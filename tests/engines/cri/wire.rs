//! Remote calls as CRI has them: gRPC over a unix socket, by curl, with messages of protobuf.
//!
//! A call that has one request and one answer is an HTTP/2 POST. Either message follows five bytes, which say that it
//! is not compressed and how long it is; how the call went is in the trailers (grpc.io, "gRPC over HTTP2").

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Number and name of a field, as `api.proto` has them. Only the number is sent.
pub(crate) type Field = (u32, &'static str);

/// The kinds of field that are used here (protobuf.dev, "Encoding").
const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

/// A message to be sent. As protobuf wants it, a field that has the value it would have anyway is left out.
#[derive(Clone, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub(crate) fn number(mut self, (number, _): Field, value: i64) -> Self {
        if value != 0 {
            self.put_varint(u64::from(number) << 3 | VARINT);
            // A negative one is ten bytes, in two's complement.
            self.put_varint(value.cast_unsigned());
        }
        self
    }

    #[must_use]
    pub(crate) fn flag(self, field: Field, value: bool) -> Self {
        self.number(field, value.into())
    }

    #[must_use]
    pub(crate) fn text(self, field: Field, value: &str) -> Self {
        if value.is_empty() { self } else { self.bytes(field, value.as_bytes()) }
    }

    /// A repeated field.
    #[must_use]
    pub(crate) fn texts(self, field: Field, values: &[&str]) -> Self {
        values.iter().fold(self, |message, value| message.bytes(field, value.as_bytes()))
    }

    /// Also if it is empty: that it is there may say something.
    #[must_use]
    pub(crate) fn message(self, field: Field, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// An entry of a map.
    #[must_use]
    pub(crate) fn entry(self, field: Field, key: &str, value: &str) -> Self {
        let entry = Self::new().text((1, "key"), key).text((2, "value"), value);
        self.message(field, &entry)
    }

    fn bytes(mut self, (number, _): Field, value: &[u8]) -> Self {
        self.put_varint(u64::from(number) << 3 | LENGTH_DELIMITED);
        self.put_varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}

/// A message that was received.
#[derive(Debug, Default)]
pub(crate) struct Reply(Vec<(u32, Value)>);

#[derive(Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Reply {
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes)?;
            let value = match key & 7 {
                VARINT => Value::Number(take_varint(&mut bytes)?),
                LENGTH_DELIMITED => {
                    let length = take_varint(&mut bytes)?.try_into().ok()?;
                    Value::Bytes(bytes.split_off(..length)?.to_vec())
                }
                _ => return None,
            };
            fields.push(((key >> 3).try_into().ok()?, value));
        }
        Some(Self(fields))
    }

    /// 0 if it is not there.
    pub(crate) fn number(&self, (number, name): Field) -> i64 {
        match self.0.iter().find(|(found, _)| *found == number) {
            Some((_, Value::Number(value))) => value.cast_signed(),
            Some(_) => panic!("{name} is no number: {self:?}"),
            None => 0,
        }
    }

    /// Empty if it is not there.
    pub(crate) fn text(&self, field: Field) -> String {
        String::from_utf8_lossy(self.all(field).next().unwrap_or_default()).into_owned()
    }

    /// Empty if it is not there.
    pub(crate) fn message(&self, field: Field) -> Self {
        self.messages(field).into_iter().next().unwrap_or_default()
    }

    /// A repeated field.
    pub(crate) fn messages(&self, field: Field) -> Vec<Self> {
        let parse =
            |bytes| Self::parse(bytes).unwrap_or_else(|| panic!("{} is no message: {self:?}", field.1));
        self.all(field).map(parse).collect()
    }

    fn all(&self, (number, name): Field) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(move |(found, _)| *found == number).map(move |(_, value)| match value {
            Value::Bytes(bytes) => &bytes[..],
            Value::Number(_) => panic!("{name} is a number: {self:?}"),
        })
    }
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The `grpc-status`.
    pub(crate) code: u32,
    pub(crate) message: String,
}

/// The `grpc-status` of a call that got no answer.
const UNAVAILABLE: u32 = 14;

/// A server at a socket.
pub(crate) struct Server(PathBuf);

impl Server {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self(socket)
    }

    /// One call of `method`, which is `SERVICE/METHOD`.
    pub(crate) fn call(&self, method: &str, request: &Message) -> Result<Reply, Refusal> {
        let mut curl = curl(&self.0, method).spawn().expect("curl");
        let mut stdin = curl.stdin.take().expect("a pipe");
        stdin.write_all(&framed(&request.0)).expect("curl reads the request");
        drop(stdin);
        let output = curl.wait_with_output().expect("curl ends");
        let headers = String::from_utf8_lossy(&output.stderr);
        // In a trailer after the answer, or in a header where there is none.
        let header =
            |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        match header("grpc-status").and_then(|code| code.trim().parse().ok()) {
            Some(0) => {
                Ok(reply(&output.stdout).unwrap_or_else(|| panic!("{method}: no message: {output:?}")))
            }
            Some(code) => {
                Err(Refusal { code, message: header("grpc-message").unwrap_or_default().to_owned() })
            }
            None => Err(Refusal { code: UNAVAILABLE, message: headers.into_owned() }),
        }
    }
}

/// It writes what it receives to standard output, and headers, trailers and complaints to standard error.
fn curl(socket: &Path, method: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "60", "--http2-prior-knowledge", "--unix-socket"])
        .arg(socket)
        .args(["--header", "content-type: application/grpc", "--header", "te: trailers"])
        .args(["--data-binary", "@-", "--dump-header", "/dev/stderr"])
        .arg(format!("http://localhost/{method}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    curl
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a small message");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

fn reply(frame: &[u8]) -> Option<Reply> {
    let (head, message) = frame.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let whole = head[0] == 0 && usize::try_from(length) == Ok(message.len());
    whole.then(|| Reply::parse(message))?
}
