//! CloudEvents over HTTP. Input: header lines, an empty line, the body.
#![no_main]

use kwsk_translate::event::{self, CloudEvent, STRUCTURED};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (headers, body) = request(data);
    let pairs = || headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let is_event = event::is_event(pairs());
    let Ok(read) = CloudEvent::from_http(pairs(), body) else { return };
    assert!(is_event, "it was read, but nobody would have tried");
    assert!(read.arguments().is_object());

    let structured = read.to_structured();
    let header = [("content-type", STRUCTURED)];
    let again = CloudEvent::from_http(header.into_iter(), structured.as_bytes());
    assert_eq!(again.as_ref(), Ok(&read), "through {structured}");

    // What only structured mode can say (names that are no header names, data without a media type) stays behind.
    let is_structured = |(name, value): (&str, &str)| {
        name.eq_ignore_ascii_case("content-type")
            && value.trim_start().to_ascii_lowercase().starts_with("application/cloudevents")
    };
    let (binary, body) = read.to_binary();
    if !pairs().any(is_structured) {
        let pairs = binary.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(CloudEvent::from_http(pairs, &body).as_ref(), Ok(&read), "through {binary:?}");
    }
});

/// Headers that an HTTP server lets through: names are tokens, values visible ASCII and blanks.
fn request(data: &[u8]) -> (Vec<(String, String)>, &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
    let headers = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let is_token = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        let is_text = value.bytes().all(|b| (b' '..=b'~').contains(&b) || b == b'\t');
        (is_token && is_text).then(|| (name.to_owned(), value.trim().to_owned()))
    });
    (headers.collect(), body)
}
