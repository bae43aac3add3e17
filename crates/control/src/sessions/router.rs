//! Brings each host's changed tasks to the sessions of its agents.
//!
//! One follower of the store for all sessions: with thousands of agents
//! connected, waking each of them for every commit costs more than all else a
//! control plane does.

use std::collections::HashMap;
use std::sync::Arc;

use minato_store::{Changes, Key, Watch};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::firewall::{Interest, Touched};
use crate::services::sts::rows::TaskRoles;
use crate::tables::{Host, Task};

/// Changes that may wait in a mailbox; a session that has more unread looks at
/// all tasks of its host instead.
const LETTERS_MAX: usize = 1024;

/// What a session finds in its mailbox.
#[derive(Debug)]
pub(super) enum Mail {
    /// Keys of the host's tasks that changed, or whose credentials did, in the
    /// order of the changes.
    Tasks(Vec<Key>),
    /// More than fits: any task of the host may have changed.
    All,
    /// Something that the host's firewall is made from changed.
    Firewall,
}

/// The mailboxes of all sessions.
#[derive(Debug, Default)]
pub(crate) struct Router(Mutex<Boxes>);

#[derive(Debug, Default)]
struct Boxes {
    hosts: HashMap<Key, Vec<Arc<Slot>>>,
    /// Nothing will come any more.
    is_closed: bool,
}

impl Boxes {
    fn put(&self, host: Option<Key>, task: &Key) {
        let slots = host.and_then(|host| self.hosts.get(&host));
        for slot in slots.into_iter().flatten() {
            slot.put(task);
        }
    }
}

/// A session's mailbox. All that is committed after it was opened comes into
/// it, and perhaps some of what was committed shortly before: what the mail
/// names is to be read from the store.
#[derive(Debug)]
pub(super) struct Mailbox {
    router: Arc<Router>,
    host: Key,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot {
    inside: Mutex<Inside>,
    bell: Notify,
}

#[derive(Debug)]
struct Inside {
    mail: Mail,
    /// What the session wants to hear of firewalls, if it does.
    interest: Option<Interest>,
    /// Some of that changed.
    has_firewall: bool,
    is_closed: bool,
}

impl Mailbox {
    /// Waits for mail; `None` when there will be none any more.
    ///
    /// May be dropped at any point (`select!`) without losing any.
    pub(super) async fn receive(&self) -> Option<Mail> {
        loop {
            let (mail, is_closed) = self.slot.take();
            if mail.is_some() || is_closed {
                return mail;
            }
            // A ring since that look is kept for this wait.
            self.slot.bell.notified().await;
        }
    }
}

impl Mailbox {
    /// Says which changes are to bring [`Mail::Firewall`]. Those that were
    /// committed before may have been missed.
    pub(super) fn follow_firewall(&self, interest: Interest) {
        self.slot.inside.lock().interest = Some(interest);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut boxes = self.router.0.lock();
        if let Some(slots) = boxes.hosts.get_mut(&self.host) {
            slots.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
            if slots.is_empty() {
                boxes.hosts.remove(&self.host);
            }
        }
    }
}

impl Slot {
    fn put(&self, task: &Key) {
        let mut inside = self.inside.lock();
        if let Mail::Tasks(tasks) = &mut inside.mail {
            tasks.retain(|known| known != task);
            if tasks.len() < LETTERS_MAX {
                tasks.push(task.clone());
            } else {
                inside.mail = Mail::All;
            }
        }
        self.bell.notify_one();
    }

    fn put_all(&self) {
        let mut inside = self.inside.lock();
        inside.mail = Mail::All;
        inside.has_firewall |= inside.interest.is_some();
        self.bell.notify_one();
    }

    fn put_touched(&self, touched: &Touched) {
        let mut inside = self.inside.lock();
        let interest = inside.interest.as_ref();
        if interest.is_some_and(|interest| touched.matters_to(interest)) {
            inside.has_firewall = true;
            self.bell.notify_one();
        }
    }

    fn close(&self) {
        self.inside.lock().is_closed = true;
        self.bell.notify_one();
    }

    /// What is there, and whether it is the last.
    fn take(&self) -> (Option<Mail>, bool) {
        let mut inside = self.inside.lock();
        if std::mem::take(&mut inside.has_firewall) {
            // What else there is comes with the next look.
            return (Some(Mail::Firewall), false);
        }
        let mail = std::mem::replace(&mut inside.mail, Mail::Tasks(vec![]));
        let is_empty = matches!(&mail, Mail::Tasks(tasks) if tasks.is_empty());
        ((!is_empty).then_some(mail), inside.is_closed)
    }
}

impl Router {
    /// Opens a mailbox for what changes on a host.
    pub(super) fn open(self: &Arc<Router>, host: Key) -> Mailbox {
        let mut boxes = self.0.lock();
        let slot = Arc::new(Slot {
            inside: Mutex::new(Inside {
                mail: Mail::Tasks(vec![]),
                interest: None,
                has_firewall: false,
                is_closed: boxes.is_closed,
            }),
            bell: Notify::new(),
        });
        boxes.hosts.entry(host.clone()).or_default().push(Arc::clone(&slot));
        drop(boxes);
        Mailbox { router: Arc::clone(self), host, slot }
    }

    /// Brings changes to their mailboxes until the store takes no more, or
    /// until it is stopped.
    pub(crate) async fn run(
        self: Arc<Router>,
        mut watch: Watch,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased; // a run from one seed is the same run
                () = stop.cancelled() => break,
                changed = watch.changed() => if changed.is_err() { break },
            }
            self.deliver(watch.changes());
        }
        let mut boxes = self.0.lock();
        boxes.is_closed = true;
        for slot in boxes.hosts.values().flatten() {
            slot.close();
        }
    }

    fn deliver(&self, changes: Changes) {
        let boxes = self.0.lock();
        match changes {
            Changes::Resync(_) => {
                // In the order of the hosts: a run from one seed is the same.
                let mut all: Vec<_> = boxes.hosts.iter().collect();
                all.sort_by_key(|(host, _)| *host);
                for slot in all.into_iter().flat_map(|(_, slots)| slots) {
                    slot.put_all();
                }
            }
            Changes::Rows(commits) => {
                for change in commits.iter().flat_map(|it| it.of::<Task>()) {
                    let row = change.after.as_ref().or(change.before.as_ref());
                    let host = row.map(|task| {
                        Host::key_of(&task.account, &task.region, &task.host)
                    });
                    boxes.put(host, &change.key);
                }
                let changes = commits.iter();
                for change in changes.flat_map(|it| it.of::<TaskRoles>()) {
                    let host = change.after.map(|roles| roles.host_key());
                    boxes.put(host, &change.key);
                }
                let mut touched = Touched::default();
                commits.iter().for_each(|commit| touched.add(commit));
                if !touched.is_empty() {
                    for slot in boxes.hosts.values().flatten() {
                        slot.put_touched(&touched);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use minato_store::Row;

    use super::*;
    use crate::testing::{ACCOUNT, REGION, TestBed, task_on};

    fn host(id: &str) -> Key {
        Host::key_of(ACCOUNT, REGION, id)
    }

    /// Ids of the tasks in the mail that is there now.
    fn ids(mailbox: &Mailbox) -> Option<Vec<String>> {
        match mailbox.slot.take().0? {
            Mail::Tasks(keys) => {
                let id = |key: &Key| {
                    let last = key.parts().last().unwrap();
                    String::from_utf8(last.into_owned()).unwrap()
                };
                Some(keys.iter().map(id).collect())
            }
            Mail::All => Some(vec!["all".to_owned()]),
            Mail::Firewall => Some(vec!["firewall".to_owned()]),
        }
    }

    struct Post {
        bed: TestBed,
        router: Arc<Router>,
        watch: Watch,
    }

    impl Post {
        fn new() -> Post {
            let bed = TestBed::new();
            let watch = bed.cx.store.watch();
            Post { bed, router: Arc::default(), watch }
        }

        async fn put(&mut self, tasks: Vec<Task>) {
            let put = self.bed.cx.transact(move |tx| {
                tasks.into_iter().for_each(|task| drop(tx.put(task)));
                Ok(())
            });
            put.await.unwrap();
            self.router.deliver(self.watch.changes());
        }
    }

    #[tokio::test]
    async fn a_mailbox_has_what_changed_on_its_host() {
        let mut post = Post::new();
        let (one, other) =
            (post.router.open(host("h1")), post.router.open(host("h2")));
        let second = post.router.open(host("h1"));
        post.put(vec![task_on("h1", "a", "PENDING")]).await;
        post.put(vec![task_on("h1", "b", "PENDING")]).await;
        post.put(vec![task_on("h1", "a", "RUNNING")]).await;
        // Each once, by its last change, and for both sessions of the host.
        assert_eq!(ids(&one).unwrap(), ["b", "a"]);
        assert_eq!(ids(&second).unwrap(), ["b", "a"]);
        assert_eq!(ids(&other), None);
        assert_eq!(ids(&one), None, "mail is taken once");
        let key = task_on("h1", "b", "").key();
        let deleted = post.bed.cx.transact(move |tx| {
            tx.delete::<Task>(&key);
            Ok(())
        });
        deleted.await.unwrap();
        post.router.deliver(post.watch.changes());
        assert_eq!(ids(&one).unwrap(), ["b"]);
    }

    #[tokio::test]
    async fn a_full_mailbox_asks_for_a_look_at_all() {
        let mut post = Post::new();
        let mailbox = post.router.open(host("h"));
        let tasks = 0..=LETTERS_MAX;
        let tasks = tasks.map(|it| task_on("h", &it.to_string(), "PENDING"));
        post.put(tasks.collect()).await;
        assert_eq!(ids(&mailbox).unwrap(), ["all"]);
        post.put(vec![task_on("h", "a", "PENDING")]).await;
        assert_eq!(ids(&mailbox).unwrap(), ["a"]);
    }

    #[tokio::test]
    async fn a_router_that_fell_behind_has_all_looked_at() {
        let post = Post::new();
        let mailbox = post.router.open(host("h"));
        post.router.deliver(Changes::Resync(post.bed.cx.snapshot()));
        assert_eq!(ids(&mailbox).unwrap(), ["all"]);
    }

    #[tokio::test]
    async fn a_closed_mailbox_is_forgotten() {
        let post = Post::new();
        let one = post.router.open(host("h"));
        let other = post.router.open(host("h"));
        drop(one);
        assert_eq!(post.router.0.lock().hosts[&host("h")].len(), 1);
        drop(other);
        assert!(post.router.0.lock().hosts.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_mail_and_by_the_end() {
        let Post { bed, router, watch } = Post::new();
        let mailbox = router.open(host("h"));
        let stop = CancellationToken::new();
        let runs = tokio::spawn(router.clone().run(watch, stop.clone()));
        let put = bed.cx.transact(|tx| {
            tx.put(task_on("h", "a", "PENDING"));
            Ok(())
        });
        let (mail, put) = tokio::join!(mailbox.receive(), put);
        put.unwrap();
        assert!(matches!(mail, Some(Mail::Tasks(keys)) if keys.len() == 1));
        stop.cancel();
        assert!(mailbox.receive().await.is_none());
        runs.await.unwrap();
        // One that comes too late does not wait for ever.
        assert!(router.open(host("h")).receive().await.is_none());
    }
}
