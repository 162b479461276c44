//! The table of what a service serves: for `Allow`, `OPTIONS`, and route names that do not grow with the ids in them.

use std::borrow::Cow;

use warp::http::Method;

/// One path of a service's contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedPath {
    /// As it stands in the documentation, such as `/api/products/{sku}`; a part in braces matches any one segment.
    pub template: &'static str,
    /// The methods it answers, such as `&["GET"]`; with `GET` goes `HEAD`.
    pub methods: &'static [&'static str],
}

/// Every path that a service serves. A path with a trailing slash is the path without it.
pub type Paths = Cow<'static, [ServedPath]>;

impl ServedPath {
    /// Whether the method is answered here.
    pub(super) fn answers(&self, method: &Method) -> bool {
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        self.methods.contains(&method)
    }

    /// The value of the `Allow` header.
    pub(super) fn allow(&self) -> String {
        let head = self.methods.contains(&"GET").then_some("HEAD");
        let methods: Vec<&str> = self.methods.iter().copied().chain(head).chain(["OPTIONS"]).collect();
        methods.join(", ")
    }

    fn matches(&self, path: &str) -> bool {
        let mut wanted = self.template.split('/');
        let mut given = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path).split('/');
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given || (wanted.starts_with('{') && !given.is_empty()) => {}
                _ => return false,
            }
        }
    }
}

/// The row that a path belongs to.
pub(super) fn find<'a>(paths: &'a [ServedPath], path: &str) -> Option<&'a ServedPath> {
    paths.iter().find(|row| row.matches(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: &[ServedPath] = &[
        ServedPath { template: "/", methods: &["GET"] },
        ServedPath { template: "/products", methods: &["GET"] },
        ServedPath { template: "/products/{sku}/restock", methods: &["POST"] },
    ];

    #[test]
    fn a_path_finds_its_row() {
        let template = |path| find(PATHS, path).map(|row| row.template);
        assert_eq!(template("/"), Some("/"));
        assert_eq!(template("/products"), Some("/products"));
        assert_eq!(template("/products/"), Some("/products"));
        assert_eq!(template("/products/MUG/restock"), Some("/products/{sku}/restock"));
        assert_eq!(template("/products//restock"), None);
        assert_eq!(template("/products/MUG"), None);
        assert_eq!(template("/products/MUG/restock/x"), None);
        assert_eq!(template(""), None);
    }

    #[test]
    fn head_goes_with_get() {
        assert!(PATHS[0].answers(&Method::HEAD));
        assert!(!PATHS[2].answers(&Method::HEAD));
        assert_eq!(PATHS[0].allow(), "GET, HEAD, OPTIONS");
        assert_eq!(PATHS[2].allow(), "POST, OPTIONS");
    }
}
