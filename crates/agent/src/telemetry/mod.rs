//! TCS: telling how the containers are.
