//! Rows of the simple query protocol: every value is text or NULL.

use std::sync::Arc;

/// One row of a result.
#[derive(Clone, Debug)]
pub struct Row {
    columns: Arc<[String]>,
    values: Vec<Option<String>>,
}

impl Row {
    /// The number of columns and of values must be equal.
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Option<String>>) -> Self {
        assert_eq!(columns.len(), values.len(), "the caller has compared them");
        Self { columns, values }
    }

    /// The value of a column, by its index from 0 or its name. `None` when it is NULL, and when
    /// there is no such column; of several columns with one name the first counts.
    pub fn get(&self, column: impl ColumnIndex) -> Option<&str> {
        self.values.get(column.index(self)?)?.as_deref()
    }

    /// Names of the columns, in order.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }
}

/// What names a column of a [`Row`]: `usize` or `&str`.
pub trait ColumnIndex: sealed::Sealed {
    /// The column's index from 0, if it is found by its name.
    fn index(self, row: &Row) -> Option<usize>;
}

impl ColumnIndex for usize {
    fn index(self, _row: &Row) -> Option<usize> {
        Some(self)
    }
}

impl ColumnIndex for &str {
    fn index(self, row: &Row) -> Option<usize> {
        row.columns.iter().position(|name| name == self)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for usize {}
    impl Sealed for &str {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_index_and_by_name() {
        let columns = ["a", "b"].map(str::to_owned).to_vec();
        let row = Row::new(columns.into(), vec![Some("1".to_owned()), None]);
        assert_eq!((row.get(0), row.get("a")), (Some("1"), Some("1")));
        assert_eq!((row.get(1), row.get("b")), (None, None));
        assert_eq!((row.get(2), row.get("c")), (None, None));
    }
}
