//! Identifiers as ECS takes them: names, ids and ARNs.

use minato_store::{Key, Snapshot, Tx};
use minato_wire::ApiError;
use minato_wire::ecs::error;
use std::sync::Arc;

use crate::context::Scope;
use crate::tables::{Cluster, Service};

/// What can be read from: a snapshot, or a transaction under way.
pub(crate) trait Read {
    /// The row at `key`.
    fn row<R: minato_store::Row>(&self, key: &Key) -> Option<Arc<R>>;

    /// The rows whose keys begin with `prefix`.
    fn rows<R: minato_store::Row>(&self, prefix: &Key) -> Vec<Arc<R>>;

    /// The different keys in `index` that begin with `prefix`.
    fn index_keys<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Key>;

    /// The rows whose key in `index` begins with `prefix`, one by one.
    fn each_indexed<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> impl Iterator<Item = Arc<R>>;

    /// The rows whose key in `index` begins with `prefix`.
    fn indexed<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Arc<R>>;
}

impl Read for Snapshot {
    fn index_keys<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Key> {
        self.index_keys::<R>(index, prefix)
    }

    fn each_indexed<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> impl Iterator<Item = Arc<R>> {
        self.by_index(index, prefix)
    }

    fn row<R: minato_store::Row>(&self, key: &Key) -> Option<Arc<R>> {
        self.get(key)
    }

    fn rows<R: minato_store::Row>(&self, prefix: &Key) -> Vec<Arc<R>> {
        self.scan(prefix).collect()
    }

    fn indexed<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Arc<R>> {
        self.by_index(index, prefix).collect()
    }
}

impl Read for Tx {
    fn index_keys<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Key> {
        self.index_keys::<R>(index, prefix)
    }

    fn each_indexed<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> impl Iterator<Item = Arc<R>> {
        self.by_index(index, prefix)
    }

    fn row<R: minato_store::Row>(&self, key: &Key) -> Option<Arc<R>> {
        self.get(key)
    }

    fn rows<R: minato_store::Row>(&self, prefix: &Key) -> Vec<Arc<R>> {
        self.scan(prefix).collect()
    }

    fn indexed<R: minato_store::Row>(
        &self,
        index: &str,
        prefix: &Key,
    ) -> Vec<Arc<R>> {
        self.by_index(index, prefix).collect()
    }
}

/// The name in a cluster name or ARN; absent or empty means `default`.
pub(crate) fn cluster_name(given: Option<&str>) -> &str {
    match given {
        None | Some("") => "default",
        Some(given) => match given.split_once(":cluster/") {
            Some((_, name)) => name,
            None => given,
        },
    }
}

/// The active cluster that a call means.
pub(crate) fn cluster(
    rows: &impl Read,
    scope: &Scope,
    given: Option<&str>,
) -> Result<Arc<Cluster>, ApiError> {
    let name = cluster_name(given);
    let key = Cluster::key_of(&scope.account, &scope.region, name);
    rows.row::<Cluster>(&key)
        .filter(|cluster| cluster.is_active())
        .ok_or_else(|| error::cluster_not_found_exception("Cluster not found."))
}

/// The name in a service's name or ARN, of the long form or the short.
pub(crate) fn service_name(given: &str) -> &str {
    given.rsplit('/').next().unwrap_or(given)
}

/// The service that a call means.
pub(crate) fn service(
    rows: &impl Read,
    cluster: &Cluster,
    given: Option<&str>,
) -> Result<Arc<Service>, ApiError> {
    let name = service_name(given.unwrap_or_default());
    let Cluster { account, region, name: cluster, .. } = cluster;
    rows.row(&Service::key_of(account, region, cluster, name))
        .ok_or_else(|| error::service_not_found_exception("Service not found."))
}

/// The id in a resource id, a dashed UUID or an ARN: 32 hexadecimal digits.
pub(crate) fn resource_id(given: &str) -> Option<String> {
    let last = given.rsplit('/').next().unwrap_or(given);
    let id: String = last.chars().filter(|letter| *letter != '-').collect();
    let is_id = id.len() == 32
        && id.chars().all(|letter| matches!(letter, '0'..='9' | 'a'..='f'));
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_named_or_given_as_arns() {
        assert_eq!(cluster_name(None), "default");
        assert_eq!(cluster_name(Some("")), "default");
        assert_eq!(cluster_name(Some("web")), "web");
        let arn = "arn:aws:ecs:us-east-1:000000000000:cluster/web";
        assert_eq!(cluster_name(Some(arn)), "web");
    }

    #[test]
    fn ids_come_plain_dashed_or_in_an_arn() {
        let id = "0123456789abcdef0123456789abcdef";
        let dashed = "01234567-89ab-cdef-0123-456789abcdef";
        for given in [
            id.to_owned(),
            dashed.to_owned(),
            format!("arn:aws:ecs:r:a:task/default/{id}"),
            format!("arn:aws:ecs:r:a:task/{dashed}"),
        ] {
            assert_eq!(resource_id(&given).as_deref(), Some(id), "{given}");
        }
        for given in ["", "task", "0123", &id.to_uppercase()] {
            assert_eq!(resource_id(given), None, "{given}");
        }
    }
}
