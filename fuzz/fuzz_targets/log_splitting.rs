//! An activation's output, in pieces. Input: the limit as two bytes, little end first, then output; a byte 0 ends a piece,
//! a byte 1 ends a piece and changes the stream.
#![no_main]

use kwsk_model::proxy::LOG_SENTINEL;
use kwsk_shim::fuzzing::{Collected, collect};
use libfuzzer_sys::fuzz_target;

/// No limit: it is shared by the streams, so that what it cuts off depends on their order.
const ENOUGH: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((limit, output)) = data.split_first_chunk::<2>() else { return };
    let pieces = pieces(output);
    let limit = u64::from(u16::from_le_bytes(*limit));
    bounded(limit, &collect(limit, &pieces));
    bounded(ENOUGH, &collect(ENOUGH, &pieces));

    for stream in [false, true] {
        let own: Vec<_> = pieces.iter().copied().filter(|(is_stderr, _)| *is_stderr == stream).collect();
        let whole = own.iter().flat_map(|(_, piece)| piece.iter().copied()).collect::<Vec<u8>>();
        for limit in [limit, ENOUGH] {
            let of_pieces = collect(limit, &own);
            assert_eq!(
                of_pieces,
                collect(limit, &[(stream, &whole)]),
                "limit {limit}: pieces differ from the whole"
            );
            let bytes: Vec<_> = whole.chunks(1).map(|byte| (stream, byte)).collect();
            assert_eq!(of_pieces, collect(limit, &bytes), "limit {limit}: pieces differ from single bytes");
        }
        let both = collect(ENOUGH, &pieces).texts;
        assert_eq!(
            both[usize::from(stream)],
            collect(ENOUGH, &own).texts[usize::from(stream)],
            "streams mix"
        );
    }
});

fn pieces(output: &[u8]) -> Vec<(bool, &[u8])> {
    let mut is_stderr = false;
    let mut pieces = Vec::new();
    for piece in output.split_inclusive(|byte| *byte < 2) {
        match piece.split_last() {
            Some((end @ (0 | 1), piece)) => {
                pieces.push((is_stderr, piece));
                is_stderr ^= *end == 1;
            }
            Some(_) | None => pieces.push((is_stderr, piece)),
        }
    }
    pieces
}

fn bounded(limit: u64, collected: &Collected) {
    let lines = || collected.texts.iter().flatten();
    // Bytes that are no UTF-8 become one character each at most, which may have more bytes.
    let least: usize = lines().map(|line| line.chars().count() + 1).sum();
    assert!(least as u64 <= limit || least == 0, "{least} of {limit} bytes");
    for line in lines() {
        assert!(!line.ends_with(LOG_SENTINEL), "the sentinel leaks: {line}");
    }
}
