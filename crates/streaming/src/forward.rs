//! Connections to a pod's ports: pairs of SPDY streams (`portforward.k8s.io`), or pairs of WebSocket channels
//! (`v4.channel.k8s.io`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::Runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::spdy::{Session, Stream};
use crate::websocket::Piece;

/// How much is sent at once, in bytes.
const BYTES: usize = 32 * 1024;
/// How long the second stream of a pair may take.
const PAIR_TIME_MAX: Duration = Duration::from_secs(30);

/// Serves a SPDY client until it goes.
pub(crate) async fn spdy(runtime: Arc<Runtime>, sandbox: String, mut session: Session) {
    // Half pairs by request: the data stream, or the error stream.
    let mut halves: HashMap<String, (Stream, tokio::time::Instant)> = HashMap::new();
    while let Some(stream) = session.accept().await {
        halves.retain(|_, (_, since)| since.elapsed() < PAIR_TIME_MAX);
        let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
        let (id, kind, port) = (header("requestid"), header("streamtype"), header("port"));
        let is_data = kind == "data";
        let Some((other, _)) = halves.remove(&id) else {
            halves.insert(id, (stream, tokio::time::Instant::now()));
            continue;
        };
        let (data, error) = if is_data { (stream, other) } else { (other, stream) };
        let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
        tokio::spawn(async move {
            let connection = connect(&runtime, &sandbox, &port).await;
            match connection {
                Ok(connection) => join(connection, data).await,
                Err(why) => {
                    let message = format!("error forwarding port {port} to pod {sandbox}, uid : {why}");
                    error.output.send(Bytes::from(message)).await;
                    data.output.close().await;
                }
            }
            error.output.close().await;
        });
    }
}

async fn connect(runtime: &Runtime, sandbox: &str, port: &str) -> Result<TcpStream, String> {
    let port = port.parse().map_err(|_| format!("unable to parse {port:?} as a port"))?;
    runtime.connect_port(sandbox, port).await.map_err(|error| error.message)
}

/// Copies both ways until both have ended.
async fn join(connection: TcpStream, mut stream: Stream) {
    let (mut read, mut write) = connection.into_split();
    let output = stream.output.clone();
    let to_client = async {
        let mut buffer = vec![0; BYTES];
        while let Ok(count) = read.read(&mut buffer).await {
            if count == 0 || !output.send(Bytes::copy_from_slice(&buffer[..count])).await {
                break;
            }
        }
        output.close().await;
    };
    let to_pod = async {
        while let Some(data) = stream.input.recv().await {
            if write.write_all(&data).await.is_err() {
                break;
            }
        }
        drop(write.shutdown().await);
    };
    tokio::join!(to_client, to_pod);
}

/// Serves a WebSocket client: for each port a channel of data and one of errors, each of which begins with the port.
pub(crate) async fn websocket(
    runtime: Arc<Runtime>,
    sandbox: String,
    ports: Vec<u16>,
    to_client: mpsc::Sender<Piece>,
    mut from_client: mpsc::Receiver<Piece>,
) {
    let mut inputs = Vec::new();
    for (place, port) in ports.iter().enumerate() {
        let Ok(channel) = u8::try_from(place * 2) else { return };
        for channel in [channel, channel + 1] {
            let head = Bytes::copy_from_slice(&port.to_le_bytes());
            if to_client.send(Piece::Data(channel, head)).await.is_err() {
                return;
            }
        }
        let connection = match runtime.connect_port(&sandbox, *port).await {
            Ok(connection) => connection,
            Err(error) => {
                let message = format!("error forwarding port {port} to pod {sandbox}, uid : {}", error.message);
                drop(to_client.send(Piece::Data(channel + 1, Bytes::from(message))).await);
                inputs.push(None);
                continue;
            }
        };
        let (mut read, write) = connection.into_split();
        inputs.push(Some(write));
        let to_client = to_client.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; BYTES];
            while let Ok(count) = read.read(&mut buffer).await {
                let data = Bytes::copy_from_slice(&buffer[..count]);
                if count == 0 || to_client.send(Piece::Data(channel, data)).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(to_client);
    while let Some(piece) = from_client.recv().await {
        let Piece::Data(channel, data) = piece else { continue };
        let input = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0);
        if let Some(Some(write)) = input
            && write.write_all(&data).await.is_err()
        {
            return;
        }
    }
}
