//! Tests of `rpc`.
