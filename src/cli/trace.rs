//! The trace of a message, beside what a command says of it, where this installation tells
//! traces: from a delivery to what Tempo or another store shows of it.

use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;

use super::context::Context;
use super::error::CliError;
use super::print::Answer;
use crate::domain::ids::MessageId;
use crate::domain::trace::Context as Traced;
use crate::queue::lookup::Lookup;
use crate::tenant::isolation::TenantScope;

/// Words and facts of a message or of one of its deliveries, with the trace in both.
pub(super) async fn beside(
    context: &Context,
    pool: &PgPool,
    scope: TenantScope,
    message: MessageId,
    words: String,
    facts: &impl Serialize,
) -> Result<Answer, CliError> {
    if context.settings()?.traces.endpoint.is_none() {
        return Answer::new(words, facts);
    }
    let caller = Lookup::new(pool.clone()).traceparent(&scope, message).await?;
    let caller = caller.and_then(|text| text.parse().ok());
    let trace = Traced::of(message, caller.as_ref()).trace.to_string();
    let mut facts = serde_json::to_value(facts)
        .map_err(|error| CliError::failed(format!("cannot write the answer: {error}")))?;
    if let Value::Object(fields) = &mut facts {
        fields.insert("trace_id".into(), trace.clone().into());
    }
    Answer::new(format!("{words}\ntrace     {trace}"), &facts)
}
