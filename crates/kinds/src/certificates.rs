//! The group certificates.k8s.io.

use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

pub(crate) mod certificatesigningrequest;

const DOMAIN_LEN_MAX: usize = 253;
const SIGNER_NAME_LEN_MAX: usize = DOMAIN_LEN_MAX + 1 + 253 + 63 + 1;

/// The name of a signer: a domain and a path, such as `example.com/name`.
pub(crate) fn check_signer_name(errors: &mut ErrorList, path: &Path<'_>, signer: &str) {
    if signer.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, signer, why));
        return;
    };
    if domain.len() > DOMAIN_LEN_MAX {
        errors.push(Error::too_long(path, DOMAIN_LEN_MAX));
    }
    check_parts(errors, path, domain, |part| names::dns1123_label(part, false));
    if !domain.contains('.') {
        errors.push(Error::invalid(path, domain, "should be a domain with at least two segments separated by dots"));
    }
    check_parts(errors, path, name, |part| names::dns1123_subdomain(part, false));
    if signer.len() > SIGNER_NAME_LEN_MAX {
        errors.push(Error::too_long(path, SIGNER_NAME_LEN_MAX));
    }
}

/// Checks what stands between the dots, up to the first that is wrong.
fn check_parts(errors: &mut ErrorList, path: &Path<'_>, text: &str, check: impl Fn(&str) -> Vec<String>) {
    for part in text.split('.') {
        let wrong = check(part);
        if !wrong.is_empty() {
            errors.extend(
                wrong.into_iter().map(|why| Error::invalid(path, text, format!("validating label \"{part}\": {why}"))),
            );
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::lines;

    #[test]
    fn signer_names_are_a_domain_and_a_path() {
        let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        for (signer, expect) in [
            ("example.com/a", String::new()),
            ("example.com/a.b-c.1", String::new()),
            ("", "s: Required value".into()),
            ("a", format!("s: Invalid value: \"a\": {form}")),
            ("a.b/c/d", format!("s: Invalid value: \"a.b/c/d\": {form}")),
            ("A.b/c", format!("s: Invalid value: \"A.b\": validating label \"A\": {label}")),
            ("b/c", "s: Invalid value: \"b\": should be a domain with at least two segments separated by dots".into()),
        ] {
            let mut errors = ErrorList::new();
            check_signer_name(&mut errors, &Path::new("s"), signer);
            assert_eq!(lines(&errors), expect, "{signer}");
        }
    }
}
