//! One message from claim to settlement. Start with [`pipeline`].

pub mod admit;
pub mod daemon;
pub mod deliver;
pub mod held;
pub mod lanes;
pub mod member;
pub mod metrics;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod pump;
pub mod render;
pub mod report;
pub mod runner;
pub mod screen;
pub mod settle;
pub mod shared;
pub mod shutdown;
pub mod slots;
