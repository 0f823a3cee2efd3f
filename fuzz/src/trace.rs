//! The reader of Jaeger's answers: whatever the bytes are and however they arrive, every trace that is there is read or
//! lost by name, and the same ones are.

use std::io::Cursor;

use maestro::app::APPS;
use maestro::trace::file::read as read_saved;
use maestro::trace::{Shape, Tally, Trace, read_here};

use super::{file, line, one_line};

/// Reads `data` in one piece and in pieces whose size its first byte tells.
pub fn check(data: &[u8]) {
    let Some((&size, data)) = data.split_first() else { return };
    let whole = read(data, 1 << 20);
    assert_eq!(read(data, 1 + 7 * usize::from(size)), whole);
}

/// The first app has windows.
fn shape() -> &'static Shape {
    match &APPS[0].replication {
        Some(replication) => &replication.shape,
        None => unreachable!("the first app replicates"),
    }
}

/// The traces, the tally, and why reading ended.
fn read(data: &[u8], size: usize) -> (Vec<Trace>, Tally, Option<String>) {
    let (mut traces, mut tally) = (Vec::new(), Tally::default());
    let body = Cursor::new(data.to_vec());
    let done = read_here(body, size, shape(), &mut tally, &mut |trace| traces.push(trace));
    assert_eq!(tally.parsed, traces.len() as u64);
    assert_eq!(tally.parsed + tally.lost.values().sum::<u64>(), tally.present);
    (traces, tally, done.err().map(|error| error.to_string()))
}

/// One whole trace as the application leaves it, and answers of other kinds.
pub fn examples() -> Vec<Vec<u8>> {
    let mut single = b"\x40".to_vec();
    single.extend_from_slice(include_bytes!("../../tests/fixtures/gather/single/input.json"));
    let short = [
        "\0{\"data\":[],\"total\":0,\"limit\":0,\"offset\":0,\"errors\":null}",
        "\x01{\"data\":null,\"errors\":[{\"code\":400,\"msg\":\"parameter 'service' is required\"}]}",
        "\x02{\"data\":[{\"traceID\":\"a1\",\"spans\":[{\"operationName\":\"StorePost\",\"startTime\":1,\"tags\":\
         [{\"key\":\"poststorage_post_written_ts\",\"value\":\"17\"}]}]},{\"traceID\":\"b2\",\"spans\":[]}]}",
        "\x03{\"data\":[{\"traceID\":\"a1\",\"spans\":[{\"operationName\":\"FanoutHomeTimelines\",\"tags\":\
         [{\"key\":\"consistency_bool\",\"value\":false},{\"key\":\"wht_antipode_duration\",\"value\":1.5e-1}]}]}]}",
    ];
    short.iter().map(|text| text.as_bytes().to_vec()).chain([single]).collect()
}

/// Reads `data` as a saved answer: plain, gzip or zstd.
pub fn saved(data: &[u8]) {
    let path = file("saved", data);
    let (mut traces, mut tally) = (0, Tally::default());
    let done = read_saved(&path, shape(), &mut tally, &mut |_| traces += 1);
    assert_eq!(tally.parsed, traces);
    assert_eq!(tally.parsed + tally.lost.values().sum::<u64>(), tally.present);
    match done {
        Ok(()) => tally.damage.iter().for_each(|damage| line(damage)),
        Err(error) => one_line(error),
    }
}

/// A trace in every packing.
pub fn saved_examples() -> Vec<Vec<u8>> {
    vec![
        examples()[2][1..].to_vec(),
        include_bytes!("../examples/saved.json.gz").to_vec(),
        include_bytes!("../examples/saved.json.zst").to_vec(),
    ]
}
