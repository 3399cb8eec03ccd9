//! Pages of lists.

/// Which part of a list a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many to pass over.
    pub skip: u64,
    /// How many to return at most, 1–200.
    pub limit: u64,
}

impl Page {
    /// The page of `items`.
    pub fn of<T>(self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        items.into_iter().skip(size(self.skip)).take(size(self.limit)).collect()
    }
}
