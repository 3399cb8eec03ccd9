//! [`Fault`]: the closed list of error classes every crate maps its errors into.

/// What class of failure an error is. `kwsk-server` holds the only table from a class to an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The request is wrong and stays wrong (400).
    BadRequest,
    /// Credentials are missing or unknown (401).
    Unauthenticated,
    /// The caller may not (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// The thing exists, changed meanwhile, or is of another kind (409).
    Conflict,
    /// A size limit is exceeded (413).
    TooLarge,
    /// The body has a media type nobody reads (415).
    UnsupportedMediaType,
    /// Well-formed but contradictory (422).
    Unprocessable,
    /// A throttle is exceeded (429).
    TooMany,
    /// The deadline passed (504 inside, never shown to API clients).
    Timeout,
    /// Something kwsk needs is down, full or starting (503); the same request may succeed later.
    Unavailable,
    /// A defect or a corrupted record (500).
    Internal,
}
