//! One message from claim to settlement. Start with [`pipeline`].

pub mod admit;
pub mod ahead;
pub mod aside;
mod blame;
pub mod choose;
mod crowd;
pub mod daemon;
pub mod deliver;
pub mod hearing;
#[cfg(test)]
mod hearing_tests;
pub mod held;
pub mod intend;
pub mod intents;
pub mod lane_state;
pub mod lane_way;
pub mod lanes;
#[cfg(test)]
mod lanes_tests;
pub mod member;
pub mod metrics;
mod order;
pub mod pace;
pub mod pick;
mod picking;
pub mod pipeline;
pub mod plan;
pub mod policy;
pub mod pump;
pub mod quiet;
pub mod render;
pub mod report;
pub mod runner;
pub mod screen;
pub mod settle;
pub mod shared;
pub mod shutdown;
pub mod signals;
pub mod slots;
pub mod telling;
pub mod trace;
mod view;
pub mod waits;
pub mod writing;
