//! Amazon EC2, as far as ECS's clients need it: the default network.

pub(crate) mod defaults;
pub(crate) mod eni;
#[cfg(test)]
mod eni_tests;
pub(crate) mod rows;

use minato_store::Tables;

/// Adds EC2's tables.
pub(crate) fn tables(tables: Tables) -> Tables {
    tables
        .with::<rows::VpcRow>()
        .with::<rows::SubnetRow>()
        .with::<rows::SecurityGroupRow>()
        .with::<rows::EniRow>()
}
