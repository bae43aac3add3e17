//! Control groups of tasks and containers, version 1 (also hybrid) and 2.
