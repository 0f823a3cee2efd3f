//! The reader of HTTP responses: however the bytes are cut into pieces, the same responses come out, at the same places.

use maestro::wkld::response::{Capture, Fed, Malformed, Response};

/// A response that was read.
#[derive(Debug, PartialEq)]
struct Read {
    /// Offset of the byte after it.
    end: usize,
    status: u16,
    keep_alive: bool,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What all the bytes of a connection were read as.
#[derive(Debug, PartialEq)]
struct Reading {
    responses: Vec<Read>,
    end: Result<(), Malformed>,
}

/// Reads `data` in one piece, in two pieces cut at every place, and byte by byte. Its first byte tells whether the
/// answers are those to HEAD requests.
pub fn check(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let no_body = flags & 1 == 1;
    // A head that is cut in two is only looked at again when a line ends, so the last piece must end one.
    let mut data = data.to_vec();
    data.push(b'\n');
    for capture in [true, false] {
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| read(no_body, capture, pieces);
        let whole = read(&mut [&data[..]].into_iter());
        for at in 1..data.len() {
            assert_eq!(read(&mut [&data[..at], &data[at..]].into_iter()), whole, "cut at {at}");
        }
        assert_eq!(read(&mut data.chunks(1)), whole, "byte by byte");
    }
}

fn read(no_body: bool, capture: bool, pieces: &mut dyn Iterator<Item = &[u8]>) -> Reading {
    let (mut response, mut captured) = (Response::default(), Capture::default());
    let mut responses = Vec::new();
    let mut at = 0;
    response.reset(no_body);
    for mut piece in pieces {
        while !piece.is_empty() {
            match response.feed(piece, capture.then_some(&mut captured)) {
                Ok(Fed::More) => {
                    at += piece.len();
                    break;
                }
                Ok(Fed::Done(used)) => {
                    assert!((1..=piece.len()).contains(&used), "{used} of {} bytes", piece.len());
                    at += used;
                    piece = &piece[used..];
                    responses.push(taken(at, &response, &mut captured));
                    response.reset(no_body);
                }
                Err(why) => return Reading { responses, end: Err(why) },
            }
        }
    }
    let end = match response.end() {
        _ if !response.begun() => Ok(()),
        Ok(()) => {
            responses.push(taken(at, &response, &mut captured));
            Ok(())
        }
        cut => cut,
    };
    Reading { responses, end }
}

fn taken(end: usize, response: &Response, capture: &mut Capture) -> Read {
    let Capture { fields, body } = std::mem::take(capture);
    Read { end, status: response.status(), keep_alive: response.keep_alive(), fields, body }
}

/// Responses of every framing.
pub fn examples() -> Vec<Vec<u8>> {
    [
        "\0HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!",
        "\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
        "\0HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "\0HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nabcde\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: v\r\n\r\n",
        "\0HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\nContent-Length: 7\r\n\r\n0\r\n\r\n",
        "\0HTTP/1.0 200 OK\r\n\r\nuntil the connection ends",
        "\0HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        "\0HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        "\0HTTP/1.0 503 Busy\r\nConnection: Keep-Alive\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbusy",
        "\x01HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n",
        "\0HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
