//! HTTP/2 frames, written out (RFC 9113 §3.4, §4, §6; RFC 7541 §6.2), for what no client library would send.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The id of a caller's n-th stream.
pub fn nth(n: u32) -> u32 {
    2 * n + 1
}

/// A literal field without indexing, with a new name.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127);
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
    block
}

/// The head of a call; the first two are in the static table.
pub fn head(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x87];
    for (name, value) in [
        (":path", path),
        (":authority", "lethed"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.extend(field(name, value));
    }
    block
}

/// A whole call; `message` with its five bytes of gRPC's before it, or nothing for an empty one.
pub fn whole(n: u32, path: &str, message: &[u8]) -> Vec<u8> {
    let message = if message.is_empty() { &[0; 5] } else { message };
    let mut call = frame(HEADERS, END_HEADERS, nth(n), &head(path));
    call.extend(frame(DATA, END_STREAM, nth(n), message));
    call
}
