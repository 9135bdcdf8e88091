//! The WebSocket forms: channels in one connection, or a tunnel for SPDY.

use bytes::{Buf, Bytes};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// A message to or from a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Data of a channel.
    Data(u8, Bytes),
    /// A channel ends (v5 only).
    Close(u8),
}

/// The channel on which the other ones are closed (v5).
const CLOSE_CHANNEL: u8 = 255;
/// How many pieces wait in either direction.
const PIECES_MAX: usize = 64;

/// Speaks channels on a connection. What the client sends comes out of the receiver, until it goes; what is put into the
/// sender the client gets. The connection ends with the sender.
pub(crate) fn channels<I>(io: I, closes: bool) -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (to_client, mut outgoing) = mpsc::channel::<Piece>(PIECES_MAX);
    let (incoming, from_client) = mpsc::channel(PIECES_MAX);
    tokio::spawn(async move {
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let (mut sink, mut stream) = socket.split();
        let (pong, mut pongs) = mpsc::channel::<Message>(4);
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let mut data = match message {
                    Message::Binary(data) => data,
                    Message::Text(text) => Bytes::from(text.as_str().to_owned()),
                    Message::Ping(data) => {
                        drop(pong.try_send(Message::Pong(data)));
                        continue;
                    }
                    Message::Close(_) => break,
                    _ => continue,
                };
                if data.is_empty() {
                    continue;
                }
                let channel = data.get_u8();
                let piece = match channel {
                    CLOSE_CHANNEL if closes => match data.first() {
                        Some(closed) => Piece::Close(*closed),
                        None => continue,
                    },
                    channel => Piece::Data(channel, data),
                };
                if incoming.send(piece).await.is_err() {
                    break;
                }
            }
        });
        loop {
            let message = tokio::select! {
                piece = outgoing.recv() => match piece {
                    Some(Piece::Data(channel, data)) => {
                        let mut bytes = Vec::with_capacity(1 + data.len());
                        bytes.push(channel);
                        bytes.extend_from_slice(&data);
                        Message::Binary(bytes.into())
                    }
                    // Only clients close single channels.
                    Some(Piece::Close(_)) => continue,
                    None => break,
                },
                Some(message) = pongs.recv() => message,
            };
            if sink.send(message).await.is_err() {
                break;
            }
        }
        drop(sink.send(goodbye()).await);
        drop(sink.close().await);
        reader.abort();
    });
    (to_client, from_client)
}

/// The end in good order; without a code clients take it for an accident.
fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// A stream of bytes in binary messages: the tunnel of `SPDY/3.1+portforward.k8s.io`.
pub(crate) fn tunnel<I>(io: I) -> DuplexStream
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const BYTES_MAX: usize = 64 * 1024;
    let (ours, theirs) = tokio::io::duplex(BYTES_MAX);
    tokio::spawn(async move {
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        let (mut sink, mut stream) = socket.split();
        let (mut read, mut write) = tokio::io::split(theirs);
        let (pong, mut pongs) = mpsc::channel::<Message>(4);
        let reader = tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(data) if write.write_all(&data).await.is_err() => break,
                    Message::Ping(data) => drop(pong.try_send(Message::Pong(data))),
                    Message::Close(_) => break,
                    _ => {}
                }
            }
            drop(write.shutdown().await);
        });
        let mut buffer = vec![0; BYTES_MAX];
        loop {
            let message = tokio::select! {
                read = read.read(&mut buffer) => match read {
                    Ok(count) if count > 0 => Message::Binary(Bytes::copy_from_slice(&buffer[..count])),
                    _ => break,
                },
                Some(message) = pongs.recv() => message,
            };
            if sink.send(message).await.is_err() {
                break;
            }
        }
        drop(sink.send(goodbye()).await);
        reader.abort();
    });
    ours
}
