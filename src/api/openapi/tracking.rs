//! The addresses in tracked mail.

use super::{Back, Operation, of_anybody};

/// Every operation, in the order of docs/api.md.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        status: "302",
        ..of_anybody(
            "get",
            "/c/{token}",
            "click",
            "A link of a tracked mail: leads where it was made to lead",
            Back::Redirect,
        )
    },
    of_anybody("get", "/o/{token}", "open", "The picture in a tracked mail", Back::Picture),
];
