//! Messages over unix sockets: a length, JSON, and open files beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The greatest message. A container's description with a megabyte of environment fits.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many open files may go with one message.
pub const FILES_MAX: usize = 8;

/// The bytes of a message on a stream.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut out = vec![0; 4];
    serde_json::to_writer(&mut out, message)?;
    let length = u32::try_from(out.len() - 4).map_err(io::Error::other)?;
    out[..4].copy_from_slice(&length.to_le_bytes());
    Ok(out)
}

/// Takes the first whole message from the bytes that came; `None` if more has to come.
pub fn decode<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes is too long")));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let message = serde_json::from_slice(body);
    bytes.drain(..4 + length);
    // A buffer that held one large message is not kept.
    if bytes.is_empty() {
        *bytes = Vec::new();
    }
    Ok(Some(message?))
}

/// Sends bytes, with open files beside the first of them.
pub fn send(socket: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(rustix::io::Errno::TOOBIG);
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })
}

/// Receives bytes and what open files came with them; 0 bytes mean the end.
pub fn receive(socket: impl AsFd, bytes: &mut [u8], files: &mut Vec<OwnedFd>) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_where_they_end_and_wait_for_their_rest() {
        let mut bytes = encode(&"one").expect("encode");
        bytes.extend(encode(&"two").expect("encode"));
        let last = bytes.pop().expect("bytes");
        assert_eq!(decode::<String>(&mut bytes).expect("decode").as_deref(), Some("one"));
        assert_eq!(decode::<String>(&mut bytes).expect("decode"), None);
        bytes.push(last);
        assert_eq!(decode::<String>(&mut bytes).expect("decode").as_deref(), Some("two"));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused() {
        assert!(decode::<String>(&mut vec![255, 255, 255, 255, 0]).is_err());
    }
}
