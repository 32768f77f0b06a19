//! Why the path or the query of an address does not parse, in words for the client.

use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};

/// What is wrong with a path, if that is the client's doing.
pub(super) fn path_fault(rejection: &PathRejection) -> Option<String> {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else { return None };
    match failed.kind() {
        ErrorKind::InvalidUtf8InPathParam { .. } => Some(
            "the address is not UTF-8 after its percent signs were decoded; mend its encoding"
                .to_owned(),
        ),
        _ => Some(
            "a part of the address does not parse; docs/protocol.md has the form of each"
                .to_owned(),
        ),
    }
}

/// What is wrong with a query.
pub(super) fn query_fault(rejection: &QueryRejection) -> String {
    // It names the field, and of a value no more than its kind.
    format!(
        "the query of the address does not parse ({}); docs/protocol.md has its fields",
        rejection.body_text()
    )
}
