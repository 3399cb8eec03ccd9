//! What answers a rule's delivery on one machine: the action's service, as the shim in its container would.

use std::sync::Arc;

use async_trait::async_trait;
use kwsk_model::activation::{Activation, ActivationId, ActivationResponse};
use kwsk_model::name::FullyQualifiedEntityName;
use kwsk_model::package::Package;
use kwsk_model::rule::{Rule, RuleStatus};
use kwsk_shim::Run;
use kwsk_translate::document::Document;
use kwsk_translate::event::CloudEvent;
use kwsk_translate::platform::Platform;

use super::blueprint::Blueprints;
use super::channels::{Answer, Reply, Subscriber};
use super::documents::Documents;
use super::services::Services;
use crate::auth::Authenticator;
use crate::error::{Error, Result};
use crate::invoke::Begin;
use crate::ops::record::{self, ACTION_GONE, INTERRUPTED, NOT_PROVISIONED, Origin};
use crate::ops::resolve::{self, Found, Resolved};
use crate::ops::{Caller, invoke, now_ms};

/// Runs the actions of rules.
pub(super) struct RuleRunner {
    documents: Arc<Documents>,
    platform: Arc<Platform>,
    auth: Arc<dyn Authenticator>,
    services: Services,
    blueprints: Arc<Blueprints>,
}

/// A delivery, with everything the run needs.
struct Delivery {
    caller: Caller,
    rule: FullyQualifiedEntityName,
    resolved: Resolved,
    id: ActivationId,
    arrived_ms: u64,
}

impl Delivery {
    fn origin(&self) -> Origin<'_> {
        let identity = &self.caller.identity;
        Origin {
            namespace: &identity.namespace,
            subject: &identity.subject,
            id: &self.id,
            arrived_ms: self.arrived_ms,
            cause: None,
        }
    }
}

impl RuleRunner {
    pub(super) fn new(
        documents: Arc<Documents>,
        platform: Arc<Platform>,
        auth: Arc<dyn Authenticator>,
        services: Services,
        blueprints: Arc<Blueprints>,
    ) -> Self {
        Self { documents, platform, auth, services, blueprints }
    }

    /// The action behind the rule, as the owner of the rule's namespace sees it.
    async fn prepare(&self, subscription: &Arc<Document>, event: &CloudEvent) -> Result<Option<Delivery>> {
        let Found { entity: rule, .. } = resolve::read::<Rule>(&self.platform, Arc::clone(subscription))?;
        if rule.status == RuleStatus::Inactive {
            return Ok(None);
        }
        let identity = self.auth.owner_of(&rule.namespace).await?.ok_or(Error::NotFound)?;
        let transaction = event.extensions.get("owtransid").map_or("", String::as_str);
        Ok(Some(Delivery {
            caller: Caller { identity, transaction: transaction.into() },
            resolved: self.resolve(&rule.action).await?,
            id: ActivationId::of_rule(&event.source, &event.id, &rule.fqn()),
            rule: rule.fqn(),
            arrived_ms: now_ms(),
        }))
    }

    /// Packages and bindings of the rule's action path. Access was checked when the rule was made and when it was fired.
    async fn resolve(&self, name: &FullyQualifiedEntityName) -> Result<Resolved> {
        let (mut package, mut binding) = (None, None);
        let mut real = name.clone();
        if let Some(named) = name.path.package_name() {
            let found = self.package(&named).await?;
            match found.binding.as_ref().map(kwsk_model::package::Binding::fqn) {
                None => package = Some(found),
                Some(provider) => {
                    package = Some(self.package(&provider).await?);
                    real = FullyQualifiedEntityName::packaged(
                        provider.namespace().clone(),
                        provider.name,
                        name.name.clone(),
                    );
                    binding = Some(found);
                }
            }
        }
        let action = resolve::find(&*self.documents, &self.platform, &real).await?.ok_or(Error::NotFound)?;
        Ok(Resolved { action, package, binding })
    }

    async fn package(&self, name: &FullyQualifiedEntityName) -> Result<Arc<Package>> {
        let found = resolve::find::<Package>(&*self.documents, &self.platform, name).await?;
        found.map(|f| f.entity).ok_or(Error::NotFound)
    }

    async fn run(&self, delivery: &Delivery, event: &CloudEvent, begin: Begin) -> Result<Activation> {
        let Delivery { caller, resolved, id, .. } = delivery;
        let arguments = resolved.parameters().arguments(&event.arguments(), false)?;
        let run = Run { context: invoke::context(caller, resolved, id), arguments };
        let service = &resolved.action.document;
        let report = self.services.run(service, || self.blueprints.of(service), run, Some(begin)).await?;
        Ok(record::of_run(&delivery.origin(), resolved, report))
    }
}

impl RuleRunner {
    /// The record of a run that will not be: its action is gone, and perhaps everything else that is known about it.
    async fn closed(
        &self,
        subscription: &Arc<Document>,
        event: &CloudEvent,
        response: ActivationResponse,
    ) -> Option<Activation> {
        let rule = resolve::read::<Rule>(&self.platform, Arc::clone(subscription)).ok()?.entity;
        let identity = self.auth.owner_of(&rule.namespace).await.ok()??;
        let id = ActivationId::of_rule(&event.source, &event.id, &rule.fqn());
        let origin = Origin {
            namespace: &identity.namespace,
            subject: &identity.subject,
            id: &id,
            arrived_ms: now_ms(),
            cause: None,
        };
        Some(record::of_missing(&origin, &rule.action, now_ms(), response))
    }
}

#[async_trait]
impl Subscriber for RuleRunner {
    async fn post(&self, subscription: &Arc<Document>, event: &CloudEvent, begin: Begin) -> Answer {
        let delivery = match self.prepare(subscription, event).await {
            Ok(Some(delivery)) => delivery,
            // A disabled rule takes the event and does nothing with it.
            Ok(None) => return Answer { status: 200, reply: None },
            Err(Error::NotFound) => {
                // Deleted since the event was accepted: upstream says so in a record and never tries again.
                let gone = ActivationResponse::application_error(ACTION_GONE);
                let record = self.closed(subscription, event, gone).await;
                return Answer { status: 200, reply: record.map(Arc::new).map(Reply::Activation) };
            }
            Err(error) => {
                tracing::warn!(object = %subscription.key(), event = event.id, %error, "a rule's action cannot be read");
                return Answer { status: 503, reply: None };
            }
        };
        match self.run(&delivery, event, begin).await {
            // Whatever the action answered, it ran: a failed action is never run again.
            Ok(activation) => Answer { status: 200, reply: Some(Reply::Activation(Arc::new(activation))) },
            Err(error) => {
                tracing::warn!(rule = %delivery.rule, event = event.id, %error, "a rule's action could not be started");
                Answer { status: 503, reply: None }
            }
        }
    }

    async fn interrupted(
        &self,
        subscription: Option<&Arc<Document>>,
        event: &CloudEvent,
    ) -> Option<Activation> {
        let subscription = subscription?;
        let response = ActivationResponse::whisk_error(INTERRUPTED);
        match self.prepare(subscription, event).await {
            Ok(Some(delivery)) => {
                Some(record::of_failure(&delivery.origin(), &delivery.resolved, now_ms(), response))
            }
            Ok(None) | Err(_) => self.closed(subscription, event, response).await,
        }
    }

    async fn undelivered(&self, subscription: &Arc<Document>, event: &CloudEvent) -> Option<Activation> {
        self.closed(subscription, event, ActivationResponse::whisk_error(NOT_PROVISIONED)).await
    }
}
