//! How many files and connections this process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Allow this process as many open files as the system lets it: most systems begin with 1,024, which is fewer than the
/// connections that a service accepts, and a process without a free one can neither accept nor call anybody. `None` is no
/// limit.
///
/// # Errors
/// When the system refuses; the limit is then as it was.
pub fn allow_most() -> std::io::Result<Option<u64>> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    Ok(limit.current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        let before = getrlimit(Resource::Nofile);
        let low = before.current.map_or(512, |current| current / 2);
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(low), ..before }).expect("lower");
        assert_eq!(allow_most().expect("raised"), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
