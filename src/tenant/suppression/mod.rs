//! Whom not to write to: the list of a tenant, and the one for all tenants.
//!
//! Recipients are checked against both at submission and again when a delivery is claimed, by
//! address and by domain. An entry has a reason, a source, a scope (all streams or one), and it
//! may run out; who takes one off leaves a line in the past. Statements about one tenant run in
//! its scope, so row-level security holds as for the API (docs/suppression.md, docs/adr/0031).

mod decoder;
mod export;
mod import;
mod keeper;
mod list;
mod probes;
mod rehash;
mod subject;
mod unsubscribe;

pub use decoder::{Decoder, Format, HeaderFault, Line, LineFault};
pub use export::{Exported, Exporter};
pub use import::{Importer, Mode, Refusal, Summary, is_stream, plain};
pub use keeper::{Keeper, KeyError};
pub use list::{Entry, List, Listed, Past, Removal, Shown, Whose};
pub use probes::Probes;
pub use rehash::{Rehashed, rehash};
pub use subject::{Subject, domain_form, normal_form};
pub use unsubscribe::{Change, unsubscribe};
