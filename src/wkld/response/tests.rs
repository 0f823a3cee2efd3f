//! Generated responses are read as they were made, however they are cut.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A response with what is known about it.
#[derive(Clone, Debug)]
struct Made {
    bytes: Vec<u8>,
    status: u16,
    keep_alive: bool,
    body: Vec<u8>,
}

/// A head field name in one of three writings.
fn written(name: &str, how: u8) -> String {
    match how % 3 {
        0 => name.to_owned(),
        1 => name.to_ascii_uppercase(),
        _ => name.to_ascii_lowercase(),
    }
}

prop_compose! {
    fn response()(
        status in prop::sample::select(vec![200_u16, 201, 204, 301, 304, 404, 500, 599]),
        body in vec(any::<u8>(), 0..60),
        chunks in vec(1_usize..20, 0..6),
        (chunked, close, continues, extension, trailer) in any::<(bool, bool, bool, bool, bool)>(),
        (how, more) in (any::<u8>(), 0..5),
    ) -> Made {
        let mut bytes = Vec::new();
        if continues {
            bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n");
        }
        bytes.extend_from_slice(format!("HTTP/1.1 {status} Why\r\n").as_bytes());
        for n in 0..more {
            bytes.extend_from_slice(format!("X-Field-{n}: value {n}\r\n").as_bytes());
        }
        if close {
            bytes.extend_from_slice(format!("{}: close\r\n", written("Connection", how)).as_bytes());
        }
        let none = matches!(status, 204 | 304);
        if none {
            bytes.extend_from_slice(b"\r\n");
        } else if chunked {
            bytes.extend_from_slice(format!("{}: chunked\r\n\r\n", written("Transfer-Encoding", how)).as_bytes());
            let mut rest = &body[..];
            for size in chunks {
                let (chunk, after) = rest.split_at(size.min(rest.len()));
                if chunk.is_empty() {
                    break;
                }
                bytes.extend_from_slice(format!("{:x}", chunk.len()).as_bytes());
                bytes.extend_from_slice(if extension { b";a=b\r\n" } else { b"\r\n" });
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
                rest = after;
            }
            if !rest.is_empty() {
                bytes.extend_from_slice(format!("{:X}\r\n", rest.len()).as_bytes());
                bytes.extend_from_slice(rest);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(if trailer { b"0\r\nT: v\r\n\r\n" } else { b"0\r\n\r\n" });
        } else {
            bytes.extend_from_slice(format!("{}: {}\r\n\r\n", written("Content-Length", how), body.len()).as_bytes());
            bytes.extend_from_slice(&body);
        }
        Made { bytes, status, keep_alive: !close, body: if none { Vec::new() } else { body } }
    }
}

proptest! {
    #[test]
    fn responses_are_read_as_they_were_made(made in vec(response(), 1..4), pieces in vec(1_usize..50, 1..20)) {
        let bytes: Vec<u8> = made.iter().flat_map(|one| one.bytes.iter().copied()).collect();
        let (mut reader, mut capture) = (Response::default(), Capture::default());
        let mut next = made.iter();
        let mut rest = &bytes[..];
        for size in pieces.iter().copied().cycle() {
            let (mut piece, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            while !piece.is_empty() {
                let Fed::Done(used) = reader.feed(piece, Some(&mut capture)).unwrap() else { break };
                let expected = next.next().unwrap();
                prop_assert_eq!(reader.status(), expected.status);
                prop_assert_eq!(reader.keep_alive(), expected.keep_alive);
                prop_assert_eq!(&capture.body, &expected.body);
                reader.reset(false);
                piece = &piece[used..];
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(next.next().is_none() && !reader.begun());
    }
}

#[test]
fn heads_have_a_limit() {
    let endless = b"X: y\r\n".repeat(20_000);
    let mut reader = Response::default();
    reader.feed(b"HTTP/1.1 200 OK\r\n", None).unwrap();
    assert_eq!(reader.feed(&endless, None), Err(Malformed::HeadTooLong));
    let mut reader = Response::default();
    let long = [b"HTTP/1.1 200 OK\r\nX: ", &b"y".repeat(2 * HEAD_LIMIT)[..]].concat();
    assert_eq!(reader.feed(&long, None), Err(Malformed::HeadTooLong));
}
