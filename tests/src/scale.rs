//! Sizes of tests.

/// One of two sizes: what `make test` has time for, and the full one (`WALPOST_TEST_SCALE=full`).
pub fn scaled<T>(small: T, full: T) -> T {
    if std::env::var_os("WALPOST_TEST_SCALE").is_some_and(|scale| scale == "full") {
        full
    } else {
        small
    }
}
