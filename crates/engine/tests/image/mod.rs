//! Images from files and registries, through the public interface.

mod crash;
mod load;
mod pull;
mod registry;
mod support;
