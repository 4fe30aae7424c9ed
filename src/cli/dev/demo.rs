//! The demonstration tenant: its API key and its signed domain.
