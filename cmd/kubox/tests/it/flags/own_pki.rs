//! Keys and certificates as an operator brings them, and requests with them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use pki::{Authority, PrivateKey, Subject, SubjectAltNames, Template};

use crate::harness::run;

/// The lifetime of what is made here.
const DAY: i64 = 24 * 3600;

/// Now, in unix seconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_secs()).expect("a clock of our time")
}

/// A folder with an operator's files.
pub(crate) struct OwnPki {
    dir: tempfile::TempDir,
}

impl OwnPki {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    /// A file's path.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file's path as part of a flag.
    pub(crate) fn flag(&self, flag: &str, name: &str) -> String {
        format!("--{flag}={}", self.path(name).display())
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the folder can be written");
    }

    /// An authority that begins at `from` and lasts a day: `NAME.crt`.
    pub(crate) fn authority(&self, name: &str, from: i64) -> Authority {
        let key = PrivateKey::generate().expect("a key");
        let authority = Authority::self_signed(name, key, from, DAY).expect("an authority");
        self.write(&format!("{name}.crt"), &authority.certificate().to_pem());
        authority
    }

    /// A user's certificate and key: `NAME.crt` and `NAME.key`.
    pub(crate) fn client(&self, by: &Authority, name: &str, groups: &[&str]) {
        self.issue(by, name, &Template::client(Subject::new(name, groups), now(), DAY));
    }

    /// A server's certificate for one DNS name and 127.0.0.1, and its key: `NAME.crt` and `NAME.key`.
    pub(crate) fn server(&self, by: &Authority, name: &str) {
        let names = SubjectAltNames {
            dns: vec![name.to_owned()],
            ips: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            ..SubjectAltNames::default()
        };
        self.issue(by, name, &Template::server(Subject::new(name, &[]), names, now(), DAY));
    }

    fn issue(&self, by: &Authority, name: &str, template: &Template) {
        let key = self.key(name);
        let certificate = by.issue(template, key.public_key()).expect("a certificate");
        self.write(&format!("{name}.crt"), &certificate.to_pem());
    }

    /// A private key: `NAME.key`, and its public half: `NAME.pub`.
    pub(crate) fn key(&self, name: &str) -> PrivateKey {
        let key = PrivateKey::generate().expect("a key");
        self.write(&format!("{name}.key"), &key.to_pem());
        self.write(&format!("{name}.pub"), &key.public_key().to_pem());
        key
    }
}

/// A client that knows one server.
#[derive(Clone)]
pub(crate) struct Curl {
    base: String,
    args: Vec<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status; 0 if there was no answer at all.
    pub(crate) code: u16,
    /// Headers, names in small letters.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A field of the JSON body, as text; texts without quotes.
    pub(crate) fn at(&self, pointer: &str) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        match body.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

impl Curl {
    /// Reaches `ip:port` and trusts an authority.
    pub(crate) fn new(address: &str, authority: &Path) -> Self {
        let args = ["--silent", "--include", "--max-time", "60", "--cacert"].map(str::to_owned).into_iter();
        let authority = authority.display().to_string();
        Self { base: format!("https://{address}"), args: args.chain([authority]).collect() }
    }

    /// With further arguments.
    pub(crate) fn with(&self, more: &[&str]) -> Self {
        let mut other = self.clone();
        other.args.extend(more.iter().map(|arg| (*arg).to_owned()));
        other
    }

    /// With a certificate and its key.
    pub(crate) fn certificate(&self, pki: &OwnPki, name: &str) -> Self {
        let file = |extension: &str| pki.path(&format!("{name}.{extension}")).display().to_string();
        self.with(&["--cert", &file("crt"), "--key", &file("key")])
    }

    /// With a bearer token.
    pub(crate) fn token(&self, token: &str) -> Self {
        self.with(&["--header", &format!("Authorization: Bearer {token}")])
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask(path, &[])
    }

    pub(crate) fn post(&self, path: &str, json: &str) -> Reply {
        self.ask(path, &["--header", "Content-Type: application/json", "--data", json])
    }

    fn ask(&self, path: &str, more: &[&str]) -> Reply {
        let mut command = Command::new("curl");
        let (_, out, _) = run(command.args(&self.args).args(more).arg(format!("{}{path}", self.base)));
        let (head, body) = out.split_once("\r\n\r\n").unwrap_or((&out, ""));
        let mut lines = head.lines();
        let code = lines.next().and_then(|line| line.split_whitespace().nth(1)).and_then(|code| code.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        Reply {
            code: code.unwrap_or_default(),
            headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
            body: body.to_owned(),
        }
    }

    /// The user that the server takes us for.
    pub(crate) fn user(&self) -> String {
        self.whoami().at("/status/userInfo/username")
    }

    /// What the server knows of us.
    pub(crate) fn whoami(&self) -> Reply {
        let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
        self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)
    }
}
