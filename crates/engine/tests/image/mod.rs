//! Images from files and registries, through the public interface.

mod load;
mod pull;
mod registry;
mod support;
