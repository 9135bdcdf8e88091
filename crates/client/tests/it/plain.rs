//! HTTP/1.1 in the clear, as `kubectl proxy` speaks it, under a path, in another's name.

use client::{ActAs, Client, Config, Credentials, Options, Source};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::soon;

/// Answers every request of a connection with what was asked, and how many connections there were.
async fn serve(stream: TcpStream, connections: usize) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut heads, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_owned();
            if line.is_empty() {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
            heads.push(line);
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        heads.retain(|line| !line.to_ascii_lowercase().starts_with("accept"));
        let heads: Vec<String> = heads.iter().map(|line| line.replace('"', "'")).collect();
        let answer = format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"data\":{{\"asked\":\"{}\",\"connections\":\"{connections}\"}}}}",
            heads.join("|")
        );
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all(format!("{head}{answer}").as_bytes()).await?;
    }
}

#[tokio::test]
async fn plain_http_works_and_keeps_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        for connections in 1.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            tokio::spawn(serve(stream, connections));
        }
    });
    let act_as = ActAs { user: "alice".into(), uid: String::new(), groups: vec!["a".into(), "b".into()] };
    let token = Some(Source::Inline(b"secret\n".to_vec()));
    let config = Config {
        server: format!("http://{address}/clusters/one/"),
        credentials: Credentials { token, act_as: Some(act_as), ..Credentials::default() },
        ..Config::default()
    };
    let client = Client::http(&config, Options { user_agent: "it".into(), ..Options::new("it") }).expect("a client");
    let maps = client.resource("", "v1", "configmaps").namespace("default");
    for _ in 0..3 {
        let map = soon(maps.get("a")).await.expect("an answer");
        assert_eq!(
            map.str_at(&["data", "asked"]),
            format!(
                "GET /clusters/one/api/v1/namespaces/default/configmaps/a HTTP/1.1|user-agent: it|host: {address}|\
                 impersonate-user: alice|impersonate-group: a|impersonate-group: b|authorization: Bearer secret"
            )
        );
        assert_eq!(map.str_at(&["data", "connections"]), "1", "the connection is kept");
    }
    assert!(!format!("{client:?} {config:?}").contains("secret"), "secrets are not shown");
    server.abort();
}
