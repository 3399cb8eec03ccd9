//! Keys of subjects, as they come and go.

use std::sync::Arc;

use kwsk_knative::auth::Authenticator;
use kwsk_knative::auth::subjects::{SubjectAuthenticator, ensure_subject};
use kwsk_knative::cluster::fake::FakeCluster;
use kwsk_knative::cluster::local::documents::Documents;
use kwsk_knative::cluster::{Apply, Cluster, Precondition};
use kwsk_model::identity::{AuthKey, NamespaceLimits, Subject, SubjectNamespace};
use kwsk_translate::document::Resource;
use kwsk_translate::subject::to_document;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::{Dir, eventually, namespace};

fn key(last: char, secret: char) -> AuthKey {
    format!("23bc46b1-71f6-4ed5-8c54-816aa4f8c50{last}:{}", secret.to_string().repeat(64)).parse().unwrap()
}

fn subject(name: &str, auth: AuthKey) -> Subject {
    let namespaces = vec![SubjectNamespace { name: namespace(name), auth }];
    Subject { subject: name.to_owned(), namespaces, blocked: false, limits: NamespaceLimits::default() }
}

#[tokio::test]
async fn with_the_fake() {
    keys_come_and_go(Arc::new(FakeCluster::default())).await;
}

#[tokio::test]
async fn with_documents() {
    let dir = Dir::new();
    keys_come_and_go(Arc::new(Documents::new(dir.store.clone()))).await;
}

async fn keys_come_and_go(cluster: Arc<dyn Cluster>) {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let guest = subject("guest", key('1', 'a'));
    ensure_subject(&*cluster, &guest).await.unwrap();
    let auth = SubjectAuthenticator::new(Arc::clone(&cluster), tasks.clone(), stop.clone()).await.unwrap();
    let who = async |key: &AuthKey| auth.authenticate(key).await.unwrap().map(|i| i.subject.clone());
    assert_eq!(who(&key('1', 'a')).await.as_deref(), Some("guest"));
    assert_eq!(who(&key('1', 'b')).await, None);
    assert_eq!(who(&key('2', 'a')).await, None);
    let owner = auth.owner_of(&namespace("guest")).await.unwrap().unwrap();
    assert_eq!(owner.key, key('1', 'a'));
    assert!(auth.owner_of(&namespace("other")).await.unwrap().is_none());

    // A subject that is there stays as it is.
    ensure_subject(&*cluster, &subject("guest", key('1', 'c'))).await.unwrap();
    ensure_subject(&*cluster, &subject("other", key('2', 'a'))).await.unwrap();
    eventually("the new key works", async || who(&key('2', 'a')).await).await;
    assert_eq!(who(&key('1', 'a')).await.as_deref(), Some("guest"));

    let blocked = to_document(&Subject { blocked: true, ..guest }).to_document();
    let at = blocked.key();
    let version = cluster.get(&at).await.unwrap().unwrap().resource_version().to_owned();
    cluster.apply(blocked, Apply::Replace(version)).await.unwrap();
    eventually("the blocked key stops working", async || who(&key('1', 'a')).await.is_none().then_some(()))
        .await;

    let other = to_document(&subject("other", key('2', 'a'))).to_document().key();
    cluster.delete(&other, Precondition::None).await.unwrap();
    eventually("the deleted key stops working", async || who(&key('2', 'a')).await.is_none().then_some(()))
        .await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
