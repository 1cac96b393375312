//! The migration of a slot, as `redis-cli --cluster reshard` does it, in steps.

use super::super::PATIENCE;
use super::super::acl::{KEEPER, User};
use super::{Cluster, NODES};

/// A slot on its way to another node.
pub struct SlotMove<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) slot: String,
    pub from: usize,
    pub to: usize,
}

impl SlotMove<'_> {
    /// Moves up to so many keys, and tells how many.
    pub async fn move_keys(&self, most: usize) -> usize {
        let (from, to) = (&self.cluster.nodes[self.from], self.cluster.nodes[self.to].port().to_string());
        let mut moved = 0;
        while moved < most {
            let batch = (most - moved).min(100).to_string();
            let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &self.slot, &batch]).await;
            if keys.is_empty() {
                break;
            }
            let patience = PATIENCE.as_millis().to_string();
            let User { name, password } = KEEPER;
            let mut command = vec!["MIGRATE", "127.0.0.1", &to, "", "0", &patience, "AUTH2", name, password, "KEYS"];
            command.extend(keys.iter().map(String::as_str));
            from.command(&command).await;
            moved += keys.len();
        }
        moved
    }

    /// Makes the other node the owner, once everything is there.
    pub async fn finish(self) {
        let Self { cluster, slot, from, to } = self;
        // The new owner first: whoever is sent there finds it knowing.
        let mut told: Vec<usize> = vec![to, from];
        told.extend((0..NODES).filter(|&i| i != to && i != from));
        for i in told {
            if cluster.nodes[i].is_up() && cluster.nodes[i].info("replication").await["role"] == "master" {
                cluster.nodes[i].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &cluster.ids[to]]).await;
            }
        }
    }
}
