//! Hosts and paths, compared as the specifications say.

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// Byte for byte.
    Exact,
    /// Element by element, split by `/`.
    Prefix,
    /// As the class of the Ingress does it.
    ImplementationSpecific,
    /// A regular expression, in the implementation's dialect.
    Regex,
    /// A kind the specifications do not know.
    Other,
}

/// Whether a path fits; `None`: the specification does not say.
#[must_use]
pub fn fits(kind: PathKind, rule: &str, path: &str) -> Option<bool> {
    match kind {
        PathKind::Exact => Some(rule == path),
        PathKind::Prefix => Some(prefix(rule, path)),
        PathKind::ImplementationSpecific => {
            let special = rule.contains(['*', '(', '[', '\\', '^', '$', '|', '+', '?']);
            if rule.is_empty() || (rule == "/" && !special) || rule == path {
                Some(true)
            } else if special || path.starts_with(rule.trim_end_matches('/')) {
                None
            } else {
                Some(false)
            }
        }
        PathKind::Regex | PathKind::Other => None,
    }
}

/// Every element of the rule is the element of the path at its place. A slash at the end changes nothing.
fn prefix(rule: &str, path: &str) -> bool {
    let rule = rule.strip_suffix('/').unwrap_or(rule);
    path.strip_prefix(rule)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// An Ingress' host: `*.` stands for exactly one label.
#[must_use]
pub fn ingress_host(rule: &str, host: &str) -> bool {
    let rule = rule.to_ascii_lowercase();
    match rule.strip_prefix("*.") {
        Some(suffix) => host
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest == suffix),
        None => rule == host,
    }
}

/// A hostname of the Gateway API: `*.` stands for one label or more.
#[must_use]
pub fn gateway_host(rule: &str, host: &str) -> bool {
    let rule = rule.to_ascii_lowercase();
    match rule.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => rule == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the Ingress documentation ("Path types", "Examples").
    #[test]
    fn paths_are_compared_as_the_ingress_specification_shows() {
        let prefix = |rule, path| fits(PathKind::Prefix, rule, path);
        let exact = |rule, path| fits(PathKind::Exact, rule, path);
        assert_eq!(prefix("/", "/any/thing"), Some(true));
        assert_eq!(exact("/foo", "/foo"), Some(true));
        assert_eq!(exact("/foo", "/bar"), Some(false));
        assert_eq!(exact("/foo", "/foo/"), Some(false));
        assert_eq!(exact("/foo/", "/foo"), Some(false));
        assert_eq!(prefix("/foo", "/foo"), Some(true));
        assert_eq!(prefix("/foo", "/foo/"), Some(true));
        assert_eq!(prefix("/foo/", "/foo"), Some(true));
        assert_eq!(prefix("/foo/", "/foo/"), Some(true));
        assert_eq!(prefix("/aaa/bb", "/aaa/bbb"), Some(false));
        assert_eq!(prefix("/aaa/bbb", "/aaa/bbb"), Some(true));
        assert_eq!(prefix("/aaa/bbb/", "/aaa/bbb"), Some(true));
        assert_eq!(prefix("/aaa/bbb", "/aaa/bbb/"), Some(true));
        assert_eq!(prefix("/aaa/bbb", "/aaa/bbb/ccc"), Some(true));
        assert_eq!(prefix("/aaa/bbb", "/aaa/bbbxyz"), Some(false));
    }

    #[test]
    fn what_an_implementation_decides_stays_open() {
        let specific = |rule, path| fits(PathKind::ImplementationSpecific, rule, path);
        assert_eq!(specific("", "/x"), Some(true));
        assert_eq!(specific("/", "/x"), Some(true));
        assert_eq!(specific("/x", "/x"), Some(true));
        assert_eq!(specific("/x", "/y"), Some(false));
        // nginx takes it, GCE does not.
        assert_eq!(specific("/x", "/x/y"), None);
        assert_eq!(specific("/x", "/xy"), None);
        assert_eq!(specific("/x/*", "/y"), None);
        assert_eq!(fits(PathKind::Regex, "/x.*", "/y"), None);
    }

    #[test]
    fn a_wildcard_is_one_label_for_an_ingress_and_any_for_a_route() {
        assert!(ingress_host("*.foo.com", "bar.foo.com"));
        assert!(!ingress_host("*.foo.com", "baz.bar.foo.com"));
        assert!(!ingress_host("*.foo.com", "foo.com"));
        assert!(ingress_host("Foo.com", "foo.com"));
        assert!(gateway_host("*.foo.com", "baz.bar.foo.com"));
        assert!(!gateway_host("*.foo.com", "foo.com"));
        assert!(!gateway_host("*.foo.com", "xfoo.com"));
    }
}
