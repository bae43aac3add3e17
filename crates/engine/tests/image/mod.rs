//! Images from files and registries, through the public interface.

mod load;
mod support;
