//! Tests of `admin`.
